"""A webhook: where its address is kept, and sending a message to it.

The address is a password: whoever has it can write to the channel. No log line, error or file contains it.
"""

import base64
import json
import os
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from google.auth import exceptions

from components.google_rest import google_session
from components.limits import within
from trainer.errors import WalsError, translated

VARIABLE = "WALS_WEBHOOK"
"""Environment variable with the address."""

_SECRETS = "https://secretmanager.googleapis.com"
# The variable that gcloud uses for this purpose.
_OTHER_SECRETS = "CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER"
_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_TIMEOUT = (5.0, 10.0)
_SECRET_SECONDS = 30.0
_SECONDS = 60.0
_PAUSES = (1.0, 4.0)
_LONGEST_PAUSE = 20.0
_LARGEST_SECRET = 200_000  # base64 of Secret Manager's limit of 64 KiB, and what is around it
_RETRIED = (requests.codes.too_many_requests, *range(500, 600))
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
    found = (
        within(_SECRET_SECONDS, lambda: _secret(secret), f"{source}: Secret Manager did not answer in time")
        if secret
        else os.environ.get(VARIABLE, "")
    ).strip()
    try:
        parts = urlsplit(found)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if found and not (is_address and found.isascii() and found.isprintable()):
        raise WalsError(f"{source}: does not hold an address that starts with https://")
    if secret and not found:
        raise WalsError(f"{source}: is empty")
    return found


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
    try:
        # Streamed, since only the status counts, and a body may be endless.
        with requests.post(url, json=content, timeout=_TIMEOUT, allow_redirects=False, stream=True) as answer:
            status = answer.status_code
            if requests.codes.ok <= status < requests.codes.multiple_choices:
                return
            if answer.is_redirect:
                raise WalsError(f"it redirects ({status}), which is not followed; configure its new address")
            problem = f"it answers {status}{_word(answer, url)}"
            if status in _RETRIED:
                raise _AgainError(problem, _retry_after(answer))
            raise WalsError(problem)
    # The texts of these errors contain the address.
    except (requests.exceptions.SSLError, requests.exceptions.InvalidURL) as error:
        raise WalsError(f"it cannot be reached ({type(error).__name__})") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise _AgainError(f"it cannot be reached ({type(error).__name__})") from None


def _word(answer: requests.Response, url: str) -> str:
    body = next(answer.iter_content(256), b"").strip()
    return f": {body.decode()}" if _WORD.fullmatch(body) and body.decode() not in url else ""


def _retry_after(answer: requests.Response) -> float:
    seconds = answer.headers.get("Retry-After", "")
    return float(seconds) if seconds.isdecimal() and len(seconds) < 6 else 0.0


def _secret(name: str) -> str:
    """Return the text of a secret's version.

    Raises:
        WalsError: it cannot be read.
    """
    endpoint = os.environ.get(_OTHER_SECRETS, _SECRETS).rstrip("/")
    unread = f"the secret {name} cannot be read"
    with translated(
        (
            (requests.RequestException, exceptions.TransportError),
            lambda error: WalsError(f"{unread}: Secret Manager cannot be reached ({type(error).__name__})"),
        ),
        (exceptions.GoogleAuthError, lambda _: WalsError(f"{unread}: there are no valid credentials")),
        ((ValueError, KeyError, TypeError), lambda _: WalsError(f"{unread}: the answer is not a secret")),
    ):
        with google_session(endpoint).get(
            f"{endpoint}/v1/{name}:access", timeout=_TIMEOUT, stream=True, allow_redirects=False
        ) as answer:
            if answer.status_code == requests.codes.forbidden:
                raise WalsError(
                    f"{unread}: access is denied; give the run's service account "
                    "roles/secretmanager.secretAccessor on it"
                )
            if answer.status_code != requests.codes.ok:
                raise WalsError(f"{unread}: Secret Manager answers {answer.status_code}")
            body = answer.raw.read(_LARGEST_SECRET + 1, decode_content=True)
        if len(body) > _LARGEST_SECRET:
            raise WalsError(f"{unread}: it is larger than a secret can be")
        return base64.b64decode(json.loads(body)["payload"]["data"], validate=True).decode("ascii")
