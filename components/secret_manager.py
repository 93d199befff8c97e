"""Secrets in Google's Secret Manager. No log line and no error contains their text."""

import base64
import json
import os

import requests
from google.auth import exceptions

from components.google_rest import google_session
from components.limits import within
from trainer.errors import WalsError, translated

SERVICE = "Secret Manager"

_ADDRESS = "https://secretmanager.googleapis.com"
# The variable that gcloud uses for this purpose.
_OTHER_ADDRESS = "CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER"
_ANSWER_SECONDS = 10.0
_SECONDS = 30.0
_LARGEST = 200_000  # base64 of Secret Manager's limit of 64 KiB, and what is around it


def endpoint() -> str:
    """Return the address of Secret Manager, or of what stands for it."""
    return os.environ.get(_OTHER_ADDRESS, _ADDRESS).rstrip("/")


def read_secret(name: str) -> str:
    """Return the text of a secret's version, without white space around it.

    Args:
        name: ``projects/P/secrets/S/versions/V``.

    Raises:
        WalsError: it cannot be read, is empty, or is not ASCII.
    """
    source = f"the secret {name}"
    text = within(_SECONDS, lambda: _read(name), f"{source}: {SERVICE} did not answer in time").strip()
    if not text:
        raise WalsError(f"{source}: is empty")
    return text


def _read(name: str) -> str:
    address = endpoint()
    unread = f"the secret {name} cannot be read"
    with translated(
        (
            (requests.RequestException, exceptions.TransportError),
            lambda error: WalsError(f"{unread}: {SERVICE} cannot be reached ({type(error).__name__})"),
        ),
        (exceptions.GoogleAuthError, lambda _: WalsError(f"{unread}: there are no valid credentials")),
        (
            (ValueError, KeyError, TypeError, RecursionError),
            lambda _: WalsError(f"{unread}: the response is not a secret"),
        ),
    ):
        with google_session(address, f"{unread}: {SERVICE}", seconds=_ANSWER_SECONDS).get(
            f"{address}/v1/{name}:access", stream=True, allow_redirects=False
        ) as answer:
            if answer.status_code == requests.codes.forbidden:
                raise WalsError(
                    f"{unread}: access is denied; give the run's service account "
                    "roles/secretmanager.secretAccessor on it"
                )
            if answer.status_code != requests.codes.ok:
                raise WalsError(f"{unread}: {SERVICE} answers {answer.status_code}")
            body = answer.raw.read(_LARGEST + 1, decode_content=True)
        if len(body) > _LARGEST:
            raise WalsError(f"{unread}: it is larger than a secret can be")
        return base64.b64decode(json.loads(body)["payload"]["data"], validate=True).decode("ascii")
