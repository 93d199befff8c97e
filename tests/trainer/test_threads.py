import threading

import numpy as np
import pytest

from trainer.errors import InputError
from trainer.solvers.kernels import compiled
from trainer.solvers.simd import take
from trainer.threads import in_threads, threads_of, usable_cores


@compiled()
def _count(counter: np.ndarray, seen: np.ndarray) -> None:
    part = take(counter)
    while part < len(seen):
        seen[part] += 1
        part = take(counter)


def test_each_part_of_the_work_is_taken_once() -> None:
    seen = np.zeros(1_000_000, np.int64)
    in_threads(4, _count, seen)
    assert (seen == 1).all()


def test_as_many_threads_work_as_are_asked_for() -> None:
    together = threading.Barrier(3, timeout=30)
    in_threads(3, lambda counter: together.wait())
    assert not together.broken


def test_what_goes_wrong_in_a_thread_is_told() -> None:
    def work(counter: np.ndarray) -> None:
        raise MemoryError("out of memory")

    with pytest.raises(MemoryError, match="out of memory"):
        in_threads(2, work)


def test_no_threads_are_those_of_all_cores() -> None:
    assert threads_of(0) == usable_cores()
    assert threads_of(1) == 1


def test_more_threads_than_cores_are_refused() -> None:
    with pytest.raises(InputError, match="num_threads 4096: is above the"):
        threads_of(4096)
