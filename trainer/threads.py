"""Work shared by threads."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

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


def in_threads(threads: int, work: Callable[..., None], *arguments: Any) -> None:
    """Call ``work(counter, *arguments)`` in so many threads.

    They share ``counter``, (1,) int64, and by :func:`trainer.solvers.simd.take` the parts of the work.
    """
    counter = np.zeros(1, np.int64)
    with ThreadPoolExecutor(threads) as executor:
        for call in [executor.submit(work, counter, *arguments) for _ in range(threads)]:
            call.result()
