"""Time limits: for one call, for one request, and for all requests that a command sends."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import TypeVar

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
    """Leave the time inside out of account: the user waits for a run or a file, or is asked something."""
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

    A step has no deadline, only the limit of the call.

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

    # With the deadline of the command.
    thread = threading.Thread(target=copy_context().run, args=(run,), daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise WalsError(failure)
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]
