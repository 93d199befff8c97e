"""Number of threads to use."""

import os

from trainer.errors import InputError


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of(count: int) -> int:
    """Return the number of threads that ``num_threads`` stands for; 0 is one for each core.

    Raises:
        InputError: there are fewer cores.
    """
    cores = usable_cores()
    if count > cores:
        raise InputError("num_threads", count, f"is above the {cores} cores", "give fewer, or 0 for all")
    return count or cores
