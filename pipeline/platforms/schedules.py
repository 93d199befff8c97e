"""Creating, updating and finding schedules by name, in the same way on every platform."""

import dataclasses
import hashlib
import json

from pipeline.platforms.backend import Backend, Job, Plan, Schedule, pipeline_of, task_named
from pipeline.platforms.caching import EXTRACT, extracting_again
from trainer.errors import InputError

_FINGERPRINT_DIGITS = 32


def scheduled_job(job: Job, window_days: int | None) -> Job:
    """Return a job in the form that a schedule runs.

    Every run of a schedule has the same parameters. If extraction were cached, all runs but the first would
    train on the rows that the first one extracted, so it is not. The scheduled time is written into the spec
    as the value of a task's input, which both platforms replace; in parameters, Kubeflow Pipelines 2.17
    does not replace ``[[ScheduledTime]]``.

    Args:
        job: the job as it would be submitted.
        window_days: number of days before the scheduled time that a run reads; None to keep the window of
            the parameters.

    Raises:
        InputError: the pipeline does not support a window in days, or parameters already set the window.
    """
    scheduled = extracting_again(job)
    if window_days is None:
        return scheduled
    extract = task_named(EXTRACT, scheduled.spec)
    known = pipeline_of(scheduled.spec)["root"].get("inputDefinitions", {}).get("parameters", {})
    if not extract or "window_days" not in known:
        raise InputError(
            "window days",
            window_days,
            "is not supported, because the pipeline has no parameter window_days",
            "use a newer pipeline, or omit it",
        )
    for name in ("window_start", "window_end"):
        if job.parameters.get(name):
            raise InputError(
                name,
                job.parameters[name],
                "cannot be combined with --window-days, which computes it",
                "omit one of them",
            )
    from kfp import dsl  # slow to import

    time = {"constant": dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER}
    extract["inputs"]["parameters"]["window_end"] = {"runtimeValue": time}
    return dataclasses.replace(scheduled, parameters={**job.parameters, "window_days": window_days})


def put_schedule(backend: Backend, plan: Plan) -> tuple[Schedule, str]:
    """Create or update the schedule with a plan's name; a repeated call changes nothing.

    A schedule is up to date if it was created from the same request and its times have not been changed by
    other means.

    An outdated schedule is recreated: Kubeflow cannot change a schedule, and Vertex AI's ``UpdateSchedule``
    cannot unset a value. The new one is created before the old one is deleted: if something fails in between,
    an extra run is better than none. A paused schedule stays paused.

    Returns:
        The schedule, and ``created``, ``updated`` or ``unchanged``.

    Raises:
        InputError: several schedules have that name.
        WalsError: the platform refuses or fails.
    """
    plan = dataclasses.replace(plan, fingerprint=_fingerprint(backend, plan))
    old = _find(backend, plan.name)
    if old and old.fingerprint == plan.fingerprint and _untouched(old, plan, backend.cron(plan)):
        return old, "unchanged"
    new = backend.create_schedule(plan)
    if not old:
        return new, "created"
    if old.paused:
        backend.pause_schedule(new.id)
        new = dataclasses.replace(new, paused=True)
    backend.delete_schedule(old.id)
    return new, "updated"


def schedule_named(backend: Backend, name: str) -> Schedule:
    """Return the one schedule with a name.

    Raises:
        InputError: there is none, or more than one.
    """
    schedule = _find(backend, name)
    if not schedule:
        raise InputError("schedule", name, "does not exist", "list them with `wals schedule list`")
    return schedule


def _find(backend: Backend, name: str) -> Schedule | None:
    schedules = [schedule for schedule in backend.schedules() if schedule.name == name]
    if len(schedules) > 1:
        raise InputError(
            "schedule",
            name,
            f"is the name of several schedules: {', '.join(schedule.id for schedule in schedules)}",
            "delete all but one in the platform's console",
        )
    return schedules[0] if schedules else None


def _untouched(schedule: Schedule, plan: Plan, cron: str) -> bool:
    """Return whether everything that a platform's console can change of a schedule matches the plan."""
    return (schedule.cron, schedule.max_concurrent_runs, schedule.start, schedule.end) == (
        cron,
        plan.max_concurrent_runs,
        plan.start,
        plan.end,
    )


def _fingerprint(backend: Backend, plan: Plan) -> str:
    """Return a digest of the request that creates the schedule, and of what the request does not contain."""
    request = json.dumps([backend.schedule_request(plan), plan.catch_up], sort_keys=True)
    return hashlib.sha256(request.encode()).hexdigest()[:_FINGERPRINT_DIGITS]
