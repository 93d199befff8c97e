"""How many threads may work."""

import os

from trainer.errors import InputError


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of(count: int) -> int:
    """Return how many threads a ``num_threads`` asks for; 0 is one for each core.

    Raises:
        InputError: there are not so many cores.
    """
    cores = usable_cores()
    if count > cores:
        raise InputError("num_threads", count, f"is above the {cores} cores", "give fewer, or 0 for all")
    return count or cores
