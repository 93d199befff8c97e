"""A webhook: where its address is kept, and sending a message to it.

The address is a password: whoever has it can write to the channel. No log line, error or file contains it.
"""

import os
import re
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from components.limits import within
from trainer.errors import WalsError

if TYPE_CHECKING:
    import requests

VARIABLE = "WALS_WEBHOOK"
"""Environment variable with the address."""

_TIMEOUT = (5.0, 10.0)
_SECONDS = 60.0
_PAUSES = (1.0, 4.0)
_LONGEST_PAUSE = 20.0
_RETRIED = (HTTPStatus.TOO_MANY_REQUESTS, *range(500, 600))
# A receiver's word for what is wrong, such as Slack's invalid_blocks.
_WORD = re.compile(rb"[a-z_]{1,60}")


class _AgainError(WalsError):
    """A failure that another attempt may not have.

    Attributes:
        pause: seconds that the receiver asks to wait.
    """

    def __init__(self, message: str, pause: float = 0) -> None:
        super().__init__(message)
        self.pause = min(pause, _LONGEST_PAUSE)


def address(secret: str) -> str:
    """Return the address of the webhook; "" if none is configured.

    Args:
        secret: name of a secret's version in Secret Manager; if empty, the address is in `VARIABLE`.

    Raises:
        WalsError: the secret cannot be read, or what is configured is not an address.
    """
    source = f"the secret {secret}" if secret else VARIABLE
    found = _secret(secret) if secret else os.environ.get(VARIABLE, "").strip()
    try:
        parts = urlsplit(found)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if found and not (is_address and found.isascii() and found.isprintable()):
        raise WalsError(f"{source}: does not contain an address that starts with https://")
    return found


def _secret(name: str) -> str:
    from components.secret_manager import read_secret  # slow to import, and most runs have no secret

    return read_secret(name)


def send(url: str, content: Mapping[str, Any]) -> None:
    """Send a message, and wait until the receiver has accepted it.

    An attempt that the receiver does not answer, or answers with 429 or 5xx, is repeated twice, within a
    minute altogether. Redirects are not followed: the address must not reach another server.

    Raises:
        WalsError: the receiver did not accept it; the line does not contain the address.
    """
    within(_SECONDS, lambda: _deliver(url, content), f"it did not answer in {_SECONDS:g} s")


def _deliver(url: str, content: Mapping[str, Any]) -> None:
    for pause in (*_PAUSES, None):
        try:
            _attempt(url, content)
        except _AgainError as error:
            if pause is None:
                raise
            time.sleep(max(pause, error.pause))
        else:
            return


def _attempt(url: str, content: Mapping[str, Any]) -> None:
    """Send the message once.

    Raises:
        _AgainError: another attempt may succeed.
        WalsError: none will.
    """
    import requests  # slow to import, and most runs notify nobody
    import urllib3

    try:
        # Streamed, since only the status counts, and a body may be endless.
        with requests.post(url, json=content, timeout=_TIMEOUT, allow_redirects=False, stream=True) as answer:
            status = answer.status_code
            if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
                return
            if answer.is_redirect:
                raise WalsError(
                    f"it redirects ({status}), and redirects are not followed; configure its new address"
                )
            problem = f"it answers {status}{_word(answer, url)}"
            if status in _RETRIED:
                raise _AgainError(problem, _retry_after(answer))
            raise WalsError(problem)
    # The texts of these errors contain the address.
    except (requests.exceptions.SSLError, requests.exceptions.InvalidURL) as error:
        raise WalsError(f"it cannot be reached ({type(error).__name__})") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise _AgainError(f"it cannot be reached ({type(error).__name__})") from None


def _word(answer: "requests.Response", url: str) -> str:
    body = next(answer.iter_content(256), b"").strip()
    return f": {body.decode()}" if _WORD.fullmatch(body) and body.decode() not in url else ""


def _retry_after(answer: "requests.Response") -> float:
    seconds = answer.headers.get("Retry-After", "")
    return float(seconds) if seconds.isdecimal() and len(seconds) < 6 else 0.0
