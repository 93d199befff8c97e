"""What a platform that runs pipelines must be able to do, and how runs and schedules look on either."""

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
        name: of the run: lower-case letters, digits and dashes.
        spec: the compiled pipeline.
        parameters: values of its parameters; the others keep their defaults.
        template: location that the spec was uploaded to; empty if it was not.
    """

    name: str
    spec: Mapping[str, Any]
    parameters: Mapping[str, Any]
    template: str = ""


@dataclass(frozen=True)
class Step:
    """A step of a run.

    Attributes:
        name: of the step.
        state: ``waiting``, ``running``, ``succeeded``, ``failed``, ``cancelled`` or ``skipped``.
        started: when it began; None before.
        ended: when it ended; None before.
        link: to its page in the platform's console, or to the run's; empty if it has none.
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
        id: what the other commands take.
        name: for people to read.
        state: as a step's.
        created: when it was submitted.
        ended: when it ended; None before.
        link: to the platform's console.
        parameters: that it was given.
        error: why it failed; empty if it did not.
        steps: in the order they began.
        metrics: of the evaluation, where the platform tells them.
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


@dataclass(frozen=True)
class LogLine:
    """A line that a step wrote.

    Attributes:
        step: its name.
        text: the line, without its end.
    """

    step: str
    text: str


@dataclass(frozen=True)
class Plan:
    """A schedule as it is wanted.

    Attributes:
        name: by which it is found again.
        job: what to run.
        cron: five fields: minute, hour, day of month, month, day of week.
        time_zone: IANA name of the zone that the cron is read in.
        max_concurrent_runs: no run is started while as many are going.
        start: no run before; None for at once.
        end: no run after; None for never.
        catch_up: whether the runs that it missed are made up for.
        fingerprint: the same for two plans that ask for the same.
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
    """A schedule as it stands on the platform.

    Attributes:
        id: the platform's.
        name: for people to read.
        cron: in the platform's own form.
        paused: whether it starts no runs.
        next_run: the next time it starts one, where the platform tells it.
        max_concurrent_runs: as a plan's; so are start and end.
        catch_up: whether it makes up for the runs that it missed.
        fingerprint: of the plan that it was made from; empty if it was made by other means.
    """

    id: str
    name: str
    cron: str
    paused: bool
    next_run: datetime | None
    max_concurrent_runs: int
    start: datetime | None
    end: datetime | None
    catch_up: bool
    fingerprint: str


@dataclass(frozen=True)
class Uploaded:
    """A compiled pipeline in a place that runs can be made from.

    Attributes:
        location: address of this version.
        version: that the platform knows it by.
        created: False when the same bytes were there already.
    """

    location: str
    version: str
    created: bool


class Backend(Protocol):
    """A platform that runs pipelines. Every method that calls it raises ``WalsError`` with one line."""

    def reach(self) -> None:
        """Make sure, within seconds, that the platform can be spoken to at all."""

    def check(self, parameters: Mapping[str, Any], findings: Findings) -> None:
        """Note what is missing for a run: the folders and the data it is given, and rights to them."""

    def run_request(self, job: Job) -> dict[str, Any]:
        """Return the request that :meth:`submit` sends, as JSON values."""

    def submit(self, job: Job) -> str:
        """Start a run and return its id."""

    def link(self, run_id: str) -> str:
        """Return the address of a run's page in the platform's console."""

    def get(self, run_id: str) -> Run:
        """Return a run with its steps."""

    def runs(self, limit: int) -> list[Run]:
        """Return the newest runs, newest first."""

    def cancel(self, run_id: str) -> None:
        """Ask a run to stop."""

    def logs(self, run_id: str, step: str) -> Iterator[LogLine]:
        """Yield what a run's steps wrote; one step's lines if it is named."""

    def cron(self, plan: Plan) -> str:
        """Return a plan's cron in the platform's own form."""

    def schedule_request(self, plan: Plan) -> dict[str, Any]:
        """Return the request that :meth:`create_schedule` sends, as JSON values."""

    def schedules(self) -> list[Schedule]:
        """Return all schedules that are not over."""

    def create_schedule(self, plan: Plan) -> Schedule:
        """Create a schedule, also beside one of the same name."""

    def delete_schedule(self, schedule_id: str) -> None:
        """Delete a schedule; its runs stay."""

    def pause_schedule(self, schedule_id: str) -> None:
        """Let a schedule start no more runs."""

    def resume_schedule(self, schedule: Schedule, catch_up: bool | None) -> None:
        """Let a paused schedule start runs again.

        Args:
            schedule: as it stands.
            catch_up: whether to make up for the runs that it missed; None for what the platform does unasked.

        Raises:
            InputError: the platform leaves no choice.
        """

    def upload(self, spec: Path, name: str, tags: Sequence[str]) -> Uploaded:
        """Put a compiled pipeline where runs can be made from it; the same bytes make no new version."""

    def template(self, location: str) -> Mapping[str, Any]:
        """Return the compiled pipeline at a location that :meth:`upload` returned.

        Raises:
            InputError: it is no such location, or what was there has been deleted.
        """


def checked_id(kind: str, name: str) -> str:
    """Return the id of a run or a schedule, if it can be one on any platform.

    Raises:
        InputError: it cannot, such as a path, which would make another request of it.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise InputError(kind, name, "is no id", "take one that was printed")
    return name


def pipeline_of(spec: Mapping[str, Any]) -> Any:
    """Return the pipeline's own part of a spec, which may have settings of Kubernetes beside it."""
    return spec.get("pipeline_spec", spec)


def steps_in_order(steps: Iterable[Step]) -> list[Step]:
    """Return steps in the order they began; those that have not come last."""
    return sorted(steps, key=lambda step: (step.started is None, step.started or datetime.max))


def check_step(step: str, known: Iterable[str]) -> None:
    """Refuse a step that a run has not; no step means all of them.

    Raises:
        InputError: naming those it has.
    """
    names = list(dict.fromkeys(known))
    if step and step not in names:
        remedy = f"give one of {', '.join(names)}" if names else "leave it out"
        raise InputError("step", step, "is not a step of the run", remedy)


def nothing_written(run_id: str, step: str) -> WalsError:
    """Return what to say of a run, or a step of it, that has no log."""
    what = f"step {step}" if step else "it"
    return WalsError(
        f"run {run_id}: {what} has no log: nothing has begun yet, or earlier results were taken instead"
    )
