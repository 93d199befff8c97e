"""Reading an answer whole: in time, and no larger than any that a server should send."""

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pydantic
import requests
import urllib3
from requests.adapters import HTTPAdapter

from components.limits import TIMEOUT, answered
from trainer.errors import WalsError, translated

Session = TypeVar("Session", bound=requests.Session)

LARGEST_ANSWER = 64 << 20
"""Bytes of the largest answer that is read, above those of any spec, report or page of a list."""

_PART = 1 << 16


def whole(
    ask: Callable[[], urllib3.BaseHTTPResponse], server: str, seconds: float | None = None
) -> urllib3.HTTPResponse:
    """Return the answer to a request, with its body decoded and in memory.

    Args:
        ask: sends the request, and leaves the body unread.
        server: name or address of the server.
        seconds: longest time from the request to the end of the answer; see `answered`.

    Raises:
        WalsError: the answer is too large, or takes too long.
        urllib3.exceptions.HTTPError: it breaks off.
    """
    return answered(lambda: _read(ask(), server), server, seconds)


def bounded(
    session: Session,
    server: str,
    *,
    seconds: float | None = None,
    retries: urllib3.Retry | None = None,
) -> Session:
    """Return a session after bounding its answers; see `whole`.

    Args:
        session: session of a client, or our own.
        server: name or address of the server that it asks.
        seconds: longest time for one request with what is repeated of it; see `answered`.
        retries: which failures are repeated; none if None.
    """
    for scheme in ("https://", "http://"):
        session.mount(scheme, _Bounded(server, seconds, retries))
    return session


class _Bounded(HTTPAdapter):
    """Reads the whole answer before it returns, and limits connecting to a shorter time than the answer.

    Google's clients take one number for both limits, and it holds between two bytes.
    """

    def __init__(self, server: str, seconds: float | None, retries: urllib3.Retry | None) -> None:
        super().__init__(max_retries=retries or 0)
        self._server, self._seconds = server, seconds

    def send(self, request: Any, *arguments: Any, **options: Any) -> requests.Response:
        """See ``requests.adapters.HTTPAdapter``.

        Raises:
            WalsError: the answer is too large, or takes too long.
            requests.RequestException: the server cannot be reached, or its answer breaks off.
        """
        sent: list[requests.Response] = []

        def ask() -> urllib3.BaseHTTPResponse:
            bounds = {"stream": True, "timeout": TIMEOUT}
            sent.append(super(_Bounded, self).send(request, *arguments, **{**options, **bounds}))
            raw: urllib3.BaseHTTPResponse = sent[0].raw
            return raw

        try:
            body = whole(ask, self._server, self._seconds)
        except urllib3.exceptions.HTTPError as error:
            raise requests.ConnectionError(error, request=request) from error
        sent[0].raw = body
        return sent[0]


def field_problem(error: pydantic.ValidationError) -> str:
    """Return the first field of an answer that is not of its type, and why."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the answer'}: {first['msg']}"


def undocumented(server: str, problem: str) -> WalsError:
    """Return the error for an answer of another type than the server's documentation says."""
    return WalsError(f"{server}: returned an unexpected response ({problem})")


@contextlib.contextmanager
def documented(server: str) -> Iterator[None]:
    """Turn what code raises when it meets a value of another type into one line; also a decorator.

    Args:
        server: name or address of the server whose answers are read inside.

    Raises:
        WalsError: an answer is not as it is documented.
    """
    with translated(
        (
            (AttributeError, LookupError, RecursionError, TypeError, ValueError),
            lambda error: undocumented(server, f"{type(error).__name__}: {error}"),
        )
    ):
        yield


def _read(answer: urllib3.BaseHTTPResponse, server: str) -> urllib3.HTTPResponse:
    body = io.BytesIO()
    try:
        while part := answer.read1(_PART, decode_content=True):
            body.write(part)
            if body.tell() > LARGEST_ANSWER:
                raise WalsError(f"{server}: returned more than {LARGEST_ANSWER:,} bytes")
    except BaseException:
        answer.close()
        raise
    answer.release_conn()
    body.seek(0)
    headers = answer.headers.copy()
    for name in ("Content-Encoding", "Transfer-Encoding"):
        headers.discard(name)
    return urllib3.HTTPResponse(
        body,
        headers,
        answer.status,
        reason=answer.reason,
        decode_content=False,
        preload_content=False,
        enforce_content_length=False,
    )
