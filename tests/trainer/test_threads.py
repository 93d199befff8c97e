import pytest

from trainer.errors import InputError
from trainer.threads import threads_of, usable_cores


def test_zero_threads_means_one_for_each_core() -> None:
    assert threads_of(0) == usable_cores()
    assert threads_of(1) == 1


def test_more_threads_than_cores_are_refused() -> None:
    with pytest.raises(InputError, match="num_threads 4096: is above the"):
        threads_of(4096)
