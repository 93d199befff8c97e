"""What a platform that runs pipelines must be able to do, and how runs and schedules look on either."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pipeline.environments import Platform
from pipeline.findings import Findings
from trainer.errors import WalsError

T = TypeVar("T")

CONNECT_SECONDS = 4.0
"""Longest wait for credentials or a connection before a command gives up with one line."""

REQUEST_SECONDS = 30.0
"""Longest wait for the answer to one request."""

FINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True)
class Job:
    """A pipeline to run.

    Attributes:
        name: of the run: lower-case letters, digits and dashes.
        spec: the compiled pipeline.
        parameters: values of its parameters; the others keep their defaults.
    """

    name: str
    spec: Mapping[str, Any]
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """A step of a run.

    Attributes:
        name: of the step.
        state: ``waiting``, ``running``, ``succeeded``, ``failed``, ``cancelled`` or ``skipped``.
        started: when it began; None before.
        ended: when it ended; None before.
    """

    name: str
    state: str
    started: datetime | None = None
    ended: datetime | None = None


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
        fingerprint: the same for two plans that ask for the same.
    """

    name: str
    job: Job
    cron: str
    time_zone: str
    max_concurrent_runs: int
    start: datetime | None
    end: datetime | None
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
        fingerprint: of the plan that it was made from; empty if it was made by other means.
    """

    id: str
    name: str
    cron: str
    paused: bool
    next_run: datetime | None
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

    def get(self, run_id: str) -> Run:
        """Return a run with its steps."""

    def runs(self, limit: int) -> list[Run]:
        """Return the newest runs, newest first."""

    def cancel(self, run_id: str) -> None:
        """Ask a run to stop."""

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

    def resume_schedule(self, schedule_id: str) -> None:
        """Let a paused schedule start runs again, from now on: none that it missed."""

    def upload(self, spec: Path, name: str, tags: Sequence[str]) -> Uploaded:
        """Put a compiled pipeline where runs can be made from it; the same bytes make no new version."""


def steps_in_order(steps: Iterable[Step]) -> list[Step]:
    """Return steps in the order they began; those that have not come last."""
    return sorted(steps, key=lambda step: (step.started is None, step.started or datetime.max))


def connect(platform: Platform) -> Backend:
    """Return the backend of a platform; nothing is asked of it yet."""
    # The clients are slow to import, and a command needs one of them.
    if platform.target == "vertex":
        from pipeline.vertex import VertexBackend

        return VertexBackend(platform)
    from pipeline.kubeflow import KubeflowBackend

    return KubeflowBackend(platform)


def within(seconds: float, call: Callable[[], T], failure: str) -> T:
    """Return what a call returns, or give up on it after a time.

    Looking up names and credentials has retries and timeouts of its own, which nothing else ends.

    Raises:
        WalsError: with ``failure`` as its line, if the call has not returned in time.
    """
    outcome: list[T | BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise WalsError(failure)
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]
