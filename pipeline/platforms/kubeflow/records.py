"""Runs and recurring runs as the server returns them, as the records that all platforms share."""

import re
from collections.abc import Callable, Mapping
from datetime import MAXYEAR, UTC, datetime
from typing import Any

from pipeline.platforms.backend import FINAL_STATES, Run, Schedule, Step, steps_in_order
from pipeline.platforms.kubeflow.client import ForeignError, given
from pipeline.platforms.tasks import step_names

FINGERPRINT = "wals-schedule "
"""Prefix of the fingerprint in a recurring run's description."""

_STATES = {
    "PENDING": "waiting",
    "RUNNING": "running",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "CANCELING": "running",
    "CANCELED": "cancelled",
    "PAUSED": "waiting",
    "SKIPPED": "skipped",
}
_CANCELLED = ["CANCELING", "FAILED"]


def run_of(run: Any, spec: Mapping[str, Any], link: str, named: Callable[[Any], str]) -> Run:
    """Return a ``V2beta1Run`` as a record, without metrics and the reason of a failure.

    Args:
        run: the run.
        spec: its compiled pipeline.
        link: address of its page.
        named: function that returns the name of a step, given its task's details.
    """
    states = [status.state for status in run.state_history or []]
    # The server gives a cancelled run the state of its workflow, which has failed.
    cancelled = run.state == "FAILED" and states[-2:] == _CANCELLED
    state = "cancelled" if cancelled else _STATES.get(run.state, "waiting")
    return Run(
        id=given(run, "run_id"),
        name=given(run, "display_name"),
        state=state,
        created=_created(run),
        ended=_time(run.finished_at),
        link=link,
        parameters=(run.runtime_config.parameters if run.runtime_config else None) or {},
        error=(run.error.message if run.error else "") or "",
        steps=_steps(run, state, step_names(spec), link, named),
    )


def schedule_of(recurring: Any) -> Schedule:
    """Return a ``V2beta1RecurringRun`` as a record."""
    trigger = recurring.trigger.cron_schedule if recurring.trigger else None
    description = recurring.description or ""
    ours = description.startswith(FINGERPRINT)
    return Schedule(
        id=given(recurring, "recurring_run_id"),
        name=given(recurring, "display_name"),
        cron=(trigger.cron if trigger else "") or "",
        paused=recurring.status == "DISABLED",
        next_run=None,
        max_concurrent_runs=_count(recurring.max_concurrency or "1"),
        start=_time(trigger.start_time) if trigger else None,
        end=_time(trigger.end_time) if trigger else None,
        catch_up=not recurring.no_catchup,
        fingerprint=description.removeprefix(FINGERPRINT) if ours else "",
    )


def _steps(run: Any, run_state: str, names: list[str], link: str, named: Callable[[Any], str]) -> list[Step]:
    """Return the steps that ran, and those that an ended run skipped, in the order of the pipeline."""
    # The server also lists what it runs around the steps: drivers, attempts, executors, the run itself. What
    # Argo omits has a time, but no state.
    ran = [
        task
        for task in (run.run_details.task_details if run.run_details else None) or []
        if task.display_name in names and task.state in _STATES
    ]
    # Cancelling a run makes its running steps fail.
    states = _STATES | ({"FAILED": "cancelled"} if run_state == "cancelled" else {})
    begun = [(names.index(task.display_name), named(task), task) for task in ran]
    # Steps that started in the same second are in the order of the pipeline, and then by their number.
    begun.sort(key=lambda step: (step[0], len(step[1]), step[1]))
    steps = [
        Step(name, states[task.state], _time(task.start_time), _time(task.end_time), link)
        for _, name, task in begun
    ]
    if run_state in FINAL_STATES:
        ran_names = {task.display_name for task in ran}
        steps += [Step(name, "skipped", link=link) for name in names if name not in ran_names]
    return steps_in_order(steps)


def _created(run: Any) -> datetime:
    created = _time(run.created_at)
    if not created or created.year == MAXYEAR:
        raise ForeignError("created_at is missing")
    return created


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text):
        raise ForeignError("max_concurrency is not a number")
    return int(text)


def _time(time: datetime | None) -> datetime | None:
    """Return a time, or None for the epoch and earlier, which the server sends for a missing time."""
    return time if time and time > datetime(1971, 1, 1, tzinfo=UTC) else None
