"""Time limits: for one request, and for all those that a command sends."""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from components.limits import within
from trainer.errors import WalsError

CONNECT_SECONDS = 2.5
"""Longest wait for credentials or a connection before a command gives up with one line."""

REQUEST_SECONDS = 30.0
"""Longest wait for the answer to one request."""

TIMEOUT = (CONNECT_SECONDS, REQUEST_SECONDS)
"""Both limits, as requests and urllib3 take them."""

COMMAND_SECONDS = 300.0
"""Longest time in which a command asks servers, or in which one that follows a run asks once."""

T = TypeVar("T")


class AccessError(WalsError):
    """The platform denies access to the user, which a retry does not change."""


@dataclass
class _Deadline:
    seconds: float
    end: float


_DEADLINE: ContextVar[_Deadline | None] = ContextVar("deadline", default=None)


@contextlib.contextmanager
def deadline() -> Iterator[None]:
    """Give all requests inside `COMMAND_SECONDS` together, instead of the time that is left outside."""
    token = _DEADLINE.set(_Deadline(COMMAND_SECONDS, time.monotonic() + COMMAND_SECONDS))
    try:
        yield
    finally:
        _DEADLINE.reset(token)


@contextlib.contextmanager
def unhurried() -> Iterator[None]:
    """Leave the time inside out of account: the user waits for a run, or is asked something."""
    current, began = _DEADLINE.get(), time.monotonic()
    try:
        yield
    finally:
        if current:
            current.end += time.monotonic() - began


def renew() -> None:
    """Start the time again, because a stream has brought something that the user sees."""
    if current := _DEADLINE.get():
        current.end = time.monotonic() + current.seconds


def answered(call: Callable[[], T], server: str, seconds: float | None = None) -> T:
    """Return what a call of a server returns, in the time that it has.

    Args:
        call: sends a request and reads the answer.
        server: name or address of the server.
        seconds: longest wait, if the command has that long; `REQUEST_SECONDS` if None.

    Raises:
        WalsError: the server has not answered in time; the line names it and the limit.
    """
    limit = REQUEST_SECONDS if seconds is None else seconds
    failure = f"{server}: did not answer in {limit:g} s"
    current = _DEADLINE.get()
    if current and (left := current.end - time.monotonic()) < limit:
        limit = left
        failure = f"{server}: did not answer within the {current.seconds:g} s that a command has"
    if limit <= 0:
        raise WalsError(failure)
    return within(limit, call, failure)
