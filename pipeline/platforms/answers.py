"""Reading an answer whole: in time, and no larger than any that a server should send."""

import io
from collections.abc import Callable

import pydantic
import urllib3

from pipeline.platforms.network import answered
from trainer.errors import WalsError

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


def field_problem(error: pydantic.ValidationError) -> str:
    """Return the first field of an answer that is not of its type, and why."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the answer'}: {first['msg']}"


def _read(answer: urllib3.BaseHTTPResponse, server: str) -> urllib3.HTTPResponse:
    body = io.BytesIO()
    try:
        while part := answer.read1(_PART, decode_content=True):
            body.write(part)
            if body.tell() > LARGEST_ANSWER:
                raise WalsError(f"{server}: sends more than {LARGEST_ANSWER:,} bytes")
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
