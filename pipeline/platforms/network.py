"""Time limits for requests, and for calls that have none of their own."""

import threading
from collections.abc import Callable
from typing import TypeVar

from trainer.errors import WalsError

T = TypeVar("T")

CONNECT_SECONDS = 2.5
"""Longest wait for credentials or a connection before a command gives up with one line."""

REQUEST_SECONDS = 30.0
"""Longest wait for the answer to one request."""

TIMEOUT = (CONNECT_SECONDS, REQUEST_SECONDS)
"""Both limits, as requests and urllib3 take them."""


class AccessError(WalsError):
    """The platform denies access to the user, which a retry does not change."""


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
