"""The protocol of a platform that runs pipelines, and the records of its runs and schedules."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from pipeline.platforms.findings import Findings
from trainer.errors import InputError, WalsError

FINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True)
class Job:
    """A pipeline to run.

    Attributes:
        name: name of the run; lower-case letters, digits and dashes.
        spec: the compiled pipeline.
        parameters: values of the pipeline's parameters; the others keep their defaults.
        template: location that the spec was uploaded to; empty if it was not.
    """

    name: str
    spec: Mapping[str, Any]
    parameters: Mapping[str, Any]
    template: str = ""


@dataclass(frozen=True)
class Gpus:
    """GPUs that a step of a run uses, by all of its tasks that run at the same time.

    Attributes:
        step: name of the step.
        accelerator: the platform's name of the GPU.
        count: number of GPUs.
        preemptible: whether they are of the quota for Spot capacity and the queue of flex-start.
        set_by: names of the settings and parameters that make it more than one.
    """

    step: str
    accelerator: str
    count: int
    preemptible: bool
    set_by: Sequence[str]


@dataclass(frozen=True)
class Step:
    """A step of a run.

    Attributes:
        name: name of the step.
        state: ``waiting``, ``running``, ``succeeded``, ``failed``, ``cancelled`` or ``skipped``.
        started: when the step started; None before that.
        ended: when the step ended; None before that.
        link: address of its page in the platform's console, or of the run's; empty if there is none.
    """

    name: str
    state: str
    started: datetime | None = None
    ended: datetime | None = None
    link: str = ""


@dataclass(frozen=True)
class Run:
    """A run of a pipeline.

    Attributes:
        id: id that the commands take.
        name: display name.
        state: one of the states of a step.
        created: when the run was submitted.
        ended: when the run ended; None before that.
        link: address of its page in the platform's console.
        parameters: values that the run was submitted with; where those are ``auto``, what was chosen, such
            as ``64 (auto)``, if the platform reports it.
        error: reason of a failure; empty if there is none.
        steps: steps in the order they started.
        metrics: metrics of the evaluation, if the platform reports them.
        holdout: checksum of what they were computed on, if it is known.
    """

    id: str
    name: str
    state: str
    created: datetime
    ended: datetime | None
    link: str
    parameters: Mapping[str, Any]
    error: str = ""
    steps: Sequence[Step] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    holdout: str = ""


@dataclass(frozen=True)
class LogLine:
    """A line of a step's output.

    Attributes:
        step: name of the step.
        text: the line, without its line break.
    """

    step: str
    text: str


@dataclass(frozen=True)
class Plan:
    """The desired state of a schedule.

    Attributes:
        name: identifies the schedule.
        job: what to run.
        cron: five fields: minute, hour, day of month, month, day of week.
        time_zone: IANA name of the cron's time zone.
        max_concurrent_runs: maximum number of runs at the same time.
        start: time before which no run starts; None for no bound.
        end: time after which no run starts; None for no bound.
        catch_up: whether to make up for missed runs.
        fingerprint: equal for plans that describe the same schedule.
    """

    name: str
    job: Job
    cron: str
    time_zone: str
    max_concurrent_runs: int
    start: datetime | None
    end: datetime | None
    catch_up: bool = False
    fingerprint: str = ""


@dataclass(frozen=True)
class Schedule:
    """A schedule on the platform.

    Attributes:
        id: id that the platform assigned.
        name: display name.
        cron: cron in the platform's own format.
        paused: whether it is paused.
        next_run: time of the next run, if the platform reports it.
        max_concurrent_runs: as in a plan; None if the platform's limits do not correspond to any plan's.
        start: as in a plan; so is end.
        catch_up: whether it makes up for missed runs.
        fingerprint: fingerprint of the plan it was created from; empty if it was created by other means.
    """

    id: str
    name: str
    cron: str
    paused: bool
    next_run: datetime | None
    max_concurrent_runs: int | None
    start: datetime | None
    end: datetime | None
    catch_up: bool
    fingerprint: str


@dataclass(frozen=True)
class Uploaded:
    """An uploaded pipeline, from which runs can be created.

    Attributes:
        location: address of this version.
        version: the platform's name for it.
        created: False if the same bytes had already been uploaded.
    """

    location: str
    version: str
    created: bool


class Runs(Protocol):
    """Where runs can be looked up. Methods raise ``WalsError`` with one line."""

    def get(self, run_id: str) -> Run:
        """Return a run with its steps."""

    def runs(self, limit: int) -> list[Run]:
        """Return the newest runs, newest first."""

    def report(self, run_id: str) -> bytes:
        """Return the HTML report of a run's evaluation."""

    def logs(self, run_id: str, step: str) -> Iterator[LogLine]:
        """Yield the output of a run's steps, or of one step if ``step`` is not empty."""


class Backend(Runs, Protocol):
    """A platform that runs pipelines. Methods that send requests raise ``WalsError`` with one line."""

    def reach(self) -> None:
        """Make sure, within seconds, that the platform answers."""

    def check(self, parameters: Mapping[str, Any], gpus: Sequence[Gpus], findings: Findings) -> None:
        """Note which folders, data, permissions and quotas are missing for a run."""

    def run_request(self, job: Job) -> dict[str, Any]:
        """Return the request that :meth:`submit` sends, as JSON values."""

    def submit(self, job: Job) -> str:
        """Start a run and return its id."""

    def link(self, run_id: str) -> str:
        """Return the address of a run's page in the platform's console."""

    def cancel(self, run_id: str) -> None:
        """Request that a run stops."""

    def cron(self, plan: Plan) -> str:
        """Return a plan's cron in the platform's own format."""

    def schedule_request(self, plan: Plan) -> dict[str, Any]:
        """Return the request that :meth:`create_schedule` sends, as JSON values."""

    def schedules(self) -> list[Schedule]:
        """Return all schedules that have not ended."""

    def create_schedule(self, plan: Plan) -> Schedule:
        """Create a schedule, even if one of the same name exists."""

    def delete_schedule(self, schedule_id: str) -> None:
        """Delete a schedule; its runs stay, and those in progress continue."""

    def pause_schedule(self, schedule_id: str) -> None:
        """Pause a schedule."""

    def resume_schedule(self, schedule: Schedule, catch_up: bool | None) -> None:
        """Resume a paused schedule.

        Args:
            schedule: the schedule on the platform.
            catch_up: whether to make up for missed runs; None for the platform's default.

        Raises:
            InputError: the platform does not offer this choice.
        """

    def upload(self, spec: Path, name: str, tags: Sequence[str]) -> Uploaded:
        """Upload a compiled pipeline; identical bytes do not create a new version."""

    def template(self, location: str) -> Mapping[str, Any]:
        """Return the compiled pipeline at a location that :meth:`upload` returned.

        Raises:
            InputError: it is not such a location, or what was there has been deleted.
        """


def checked_id(kind: str, name: str) -> str:
    """Return the id of a run or a schedule if it is valid on any platform.

    Raises:
        InputError: it is not valid; a path, for example, would address another resource.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise InputError(kind, name, "is not a valid id", "copy one that was printed")
    return name


def pipeline_of(spec: Mapping[str, Any]) -> Any:
    """Return the pipeline's own part of a spec, which may also contain settings for Kubernetes."""
    return spec.get("pipeline_spec", spec)


def groups_of_tasks(spec: Mapping[str, Any]) -> list[Any]:
    """Return the tasks by name of each part of a spec: of the pipeline itself, and of the groups in it.

    Exit handlers, conditions and loops have groups.
    """
    pipeline = pipeline_of(spec)
    parts = (pipeline.get("root", {}), *pipeline.get("components", {}).values())
    return [part["dag"].get("tasks", {}) for part in parts if "dag" in part]


def task_named(name: str, spec: Mapping[str, Any]) -> Any:
    """Return a task of a spec, whatever groups are around it; None if there is no such task."""
    return next((tasks[name] for tasks in groups_of_tasks(spec) if name in tasks), None)


def steps_in_order(steps: Iterable[Step]) -> list[Step]:
    """Return steps in the order they started; steps that have not started come last."""
    return sorted(steps, key=lambda step: (step.started is None, step.started or datetime.max))


def check_step(step: str, known: Iterable[str]) -> None:
    """Refuse a step that a run does not have; "" stands for all of them.

    Raises:
        InputError: naming the steps that the run has.
    """
    names = list(dict.fromkeys(known))
    if step and step not in names:
        remedy = f"give one of {', '.join(names)}" if names else "omit it"
        raise InputError("step", step, "is not a step of the run", remedy)


def nothing_written(run_id: str, step: str) -> WalsError:
    """Return the error for a run, or a step of it, that has no log."""
    what = f"step {step}" if step else "it"
    return WalsError(f"run {run_id}: {what} has no log: it has not started yet, or cached results were used")


def no_report(run_id: str) -> WalsError:
    """Return the error for a run whose evaluation has not written a report."""
    return WalsError(f"run {run_id}: has no report: its evaluation has not ended, or it has none")
