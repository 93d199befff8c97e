"""Schedules by name, the same way on every platform."""

import copy
import dataclasses
import hashlib
import json
from typing import Any

from kfp import dsl

from pipeline.platforms.backend import Backend, Job, Plan, Schedule, pipeline_of
from trainer.errors import InputError

_FINGERPRINT_DIGITS = 32
_EXTRACT = "extract"


def scheduled_job(job: Job, window_days: int | None) -> Job:
    """Return a job as a schedule is to carry it.

    Its runs have the same parameters each time, so that a cached extraction would have all of them but the
    first train on the first one's rows. Nor do the platforms agree on how a parameter is given the scheduled
    time: Kubeflow Pipelines 2.17 leaves ``[[ScheduledTime]]`` as it is in pipelines of version 2. Both know
    it in the spec itself, as the value of a task's input.

    Args:
        job: as it would be submitted.
        window_days: days up to the scheduled time that a run is to read; None for what the parameters say.

    Raises:
        InputError: the pipeline cannot read the last days, or the window is given by parameters already.
    """
    spec: dict[str, Any] = copy.deepcopy(dict(job.spec))
    root = pipeline_of(spec)["root"]
    extract = root["dag"]["tasks"].get(_EXTRACT)
    if extract:
        # None at all is how a compiled spec says that a task is not to be cached.
        extract["cachingOptions"] = {}
    if window_days is None:
        return dataclasses.replace(job, spec=spec)
    known = root.get("inputDefinitions", {}).get("parameters", {})
    if not extract or "window_days" not in known:
        raise InputError(
            "window days",
            window_days,
            "cannot be had: the pipeline has no parameter window_days",
            "use a newer one, or leave it out",
        )
    for name in ("window_start", "window_end"):
        if job.parameters.get(name):
            raise InputError(
                name,
                job.parameters[name],
                "is given beside --window-days, which computes it",
                "leave one of them out",
            )
    time = {"constant": dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER}
    extract["inputs"]["parameters"]["window_end"] = {"runtimeValue": time}
    return dataclasses.replace(job, spec=spec, parameters={**job.parameters, "window_days": window_days})


def put_schedule(backend: Backend, plan: Plan) -> tuple[Schedule, str]:
    """Make the schedule of a plan's name be as planned; doing so twice changes nothing the second time.

    It counts as planned if it was made from the same request and nobody has changed its times by other means.

    Neither platform can change what a schedule runs, so that a changed one is made anew. It is made before
    the old one is deleted: should anything fail in between, a run too many is better than none. A schedule
    that was paused stays paused.

    Returns:
        The schedule, and ``created``, ``updated`` or ``unchanged``.

    Raises:
        InputError: several schedules have that name.
        WalsError: the platform does not do it.
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
    """Return the one schedule of a name.

    Raises:
        InputError: there is none, or several.
    """
    found = _find(backend, name)
    if not found:
        raise InputError("schedule", name, "does not exist", "list them with `wals schedule list`")
    return found


def _find(backend: Backend, name: str) -> Schedule | None:
    found = [schedule for schedule in backend.schedules() if schedule.name == name]
    if len(found) > 1:
        raise InputError(
            "schedule",
            name,
            f"is the name of several: {', '.join(schedule.id for schedule in found)}",
            "delete all but one in the platform's console",
        )
    return found[0] if found else None


def _untouched(schedule: Schedule, plan: Plan, cron: str) -> bool:
    """Return whether what a platform's console can change of a schedule is as planned."""
    return (schedule.cron, schedule.max_concurrent_runs, schedule.start, schedule.end) == (
        cron,
        plan.max_concurrent_runs,
        plan.start,
        plan.end,
    )


def _fingerprint(backend: Backend, plan: Plan) -> str:
    """Return a digest of the whole request that makes the schedule, and of what is no part of it."""
    request = json.dumps([backend.schedule_request(plan), plan.catch_up], sort_keys=True)
    return hashlib.sha256(request.encode()).hexdigest()[:_FINGERPRINT_DIGITS]
