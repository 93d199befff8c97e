"""A time limit for calls that have none of their own."""

import threading
from collections.abc import Callable
from typing import TypeVar

from trainer.errors import WalsError

T = TypeVar("T")


def within(seconds: float, call: Callable[[], T], failure: str) -> T:
    """Return what a call returns, or give up after a time limit.

    Lookups of names and credentials retry with their own timeouts, which cannot be set.

    Raises:
        WalsError: with ``failure`` as its line, if the call has not returned in time.
    """
    outcome: list[T | BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise WalsError(failure)
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]
