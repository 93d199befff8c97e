"""Which steps of a job may reuse the results of an earlier run.

Neither platform drops cached results after some time, nor makes sure that their artifacts still exist. Both
read the choice from each task of the spec; a run has no option that overrides it.
"""

import copy
import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from components.extract.names import ITEM_SOURCES
from components.times import parse_time
from pipeline.platforms.backend import Job, groups_of_tasks, task_named

EXTRACT = "extract"
"""Name of the task that extracts the interactions."""

_TRAIN = "train"


def submitted_job(job: Job, *, cache: bool) -> Job:
    """Return a job in the form that a single run has.

    The extraction is cached only if its parameters determine the rows. Otherwise a repeated run would train
    on the rows that an earlier one extracted. A training that starts from another model is not cached.

    Args:
        job: the job as it was compiled.
        cache: whether steps may be cached at all.
    """
    if not cache:
        return without_cache(job)
    return _running_again(job, *(() if _determines_rows(job.parameters) else (EXTRACT,)))


def extracting_again(job: Job) -> Job:
    """Return a job whose extraction is not cached; later steps run again if it yields other artifacts.

    A training that starts from another model is not cached either.
    """
    return _running_again(job, EXTRACT)


def _running_again(job: Job, *names: str) -> Job:
    # The champion, or what is in a folder, may have changed since an earlier run started from it.
    again = [*names, *([_TRAIN] if job.parameters.get("warm_start") else [])]
    spec = copy.deepcopy(dict(job.spec))
    for name in again:
        if task := task_named(name, spec):
            _uncache(task)
    return dataclasses.replace(job, spec=spec)


def without_cache(job: Job) -> Job:
    """Return a job none of whose steps is cached, inside loops too."""
    spec = copy.deepcopy(dict(job.spec))
    for tasks in groups_of_tasks(spec):
        for task in tasks.values():
            _uncache(task)
    return dataclasses.replace(job, spec=spec)


def _uncache(task: dict[str, Any]) -> None:
    # In a compiled spec, empty options mean that a task is not cached.
    task["cachingOptions"] = {}


def _determines_rows(parameters: Mapping[str, Any]) -> bool:
    """Return whether an extraction with these parameters reads the same rows whenever it runs.

    What is known about the items is read as it is now, so that a new list of blocked items is followed.
    """
    if any(parameters.get(name) for name in ITEM_SOURCES):
        return False
    end = parse_time(parameters.get("window_end", ""))
    return bool(parameters.get("snapshot")) or bool(end and end <= datetime.now(UTC))
