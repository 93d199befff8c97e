"""Schedules by name, the same way on every platform."""

import dataclasses
import hashlib
import json

from pipeline.backends import Backend, Plan, Schedule
from trainer.errors import InputError

_FINGERPRINT_DIGITS = 32


def put_schedule(backend: Backend, plan: Plan) -> tuple[Schedule, str]:
    """Make the schedule of a plan's name be as planned; doing so twice changes nothing the second time.

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
    if old and old.fingerprint == plan.fingerprint:
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


def _fingerprint(backend: Backend, plan: Plan) -> str:
    """Return a digest of the whole request that makes the schedule."""
    request = json.dumps(backend.schedule_request(plan), sort_keys=True)
    return hashlib.sha256(request.encode()).hexdigest()[:_FINGERPRINT_DIGITS]
