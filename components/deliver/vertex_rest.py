"""Requests to Vertex AI.

They are REST: the client library is ten times as large as everything else that the step needs.
"""

import contextlib
import os
import time
from typing import Any

import requests
from google.auth.exceptions import GoogleAuthError
from urllib3 import Retry

from components.answers import documented
from components.google_rest import google_session
from components.limits import unhurried
from trainer.errors import InputError, WalsError, translated

SERVER = "Vertex AI"
"""Its name in errors."""

# As gcloud's setting api_endpoint_overrides/aiplatform.
_OTHER_ADDRESS = "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM"
_REPEATED = Retry(total=4, backoff_factor=0.5, status_forcelist=(429, 502, 503), raise_on_status=False)
_SECONDS = 120.0
_OPERATION_SECONDS = 3600
_POLL_SECONDS = 5.0


class InvalidError(WalsError):
    """Vertex AI found a request invalid."""


class VertexRest:
    """Vertex AI in a region, for what is done to one resource."""

    def __init__(self, field: str, name: str, region: str) -> None:
        """Connect with the application default credentials.

        Args:
            field: parameter that names the resource, for errors.
            name: name of the resource, for errors.
            region: region of Vertex AI.

        Raises:
            WalsError: there are no credentials.
        """
        self._field, self._name = field, name
        address = os.environ.get(_OTHER_ADDRESS) or f"https://{region}-aiplatform.googleapis.com"
        self._address = f"{address.rstrip('/')}/v1"
        with self._errors():
            self._session = google_session(address, SERVER, seconds=_SECONDS, retries=_REPEATED)

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        query: dict[str, str] | None = None,
        missing: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Send a request and return the answer; ``missing``, if given, stands for one that is not found.

        Raises:
            InputError: access is denied.
            InvalidError: the request is invalid.
            WalsError: Vertex AI cannot be reached, refused the request, or sends no JSON object.
        """
        with self._errors():
            answer = self._session.request(method, f"{self._address}/{path}", json=body, params=query)
        if answer.status_code == requests.codes.not_found and missing is not None:
            return missing
        if answer.status_code in (requests.codes.forbidden, requests.codes.unauthorized):
            raise InputError(self._field, self._name, "denies you access", "ask for roles/aiplatform.user")
        if not answer.ok:
            kind = InvalidError if answer.status_code == requests.codes.bad_request else WalsError
            raise kind(f"Vertex AI answers {answer.status_code} to {path}: {_message(answer)}")
        with documented(SERVER):
            content: dict[str, Any] = answer.json()
            if not isinstance(content, dict):
                raise TypeError("it is not an object")
            return content

    def finish(self, operation: dict[str, Any], what: str) -> dict[str, Any]:
        """Wait for a long-running operation, and return its response.

        Args:
            operation: the operation, as the request that began it answered.
            what: what it does, such as "the upload of …", for errors.

        Raises:
            InputError: access is denied.
            WalsError: the operation failed or takes longer than an hour, or Vertex AI cannot be reached.
        """
        ended = self.wait(operation, what)
        if "error" in ended:
            raise WalsError(f"Vertex AI refused {what}: {ended['error'].get('message')}")
        response: dict[str, Any] = ended.get("response", {})
        return response

    def wait(self, operation: dict[str, Any], what: str) -> dict[str, Any]:
        """Wait for a long-running operation, and return it as it ended; see `finish`."""
        deadline = time.monotonic() + _OPERATION_SECONDS
        while not operation.get("done"):
            if time.monotonic() > deadline:
                raise WalsError(f"Vertex AI did not finish {what} in {_OPERATION_SECONDS} s")
            with unhurried():
                time.sleep(_POLL_SECONDS)
            operation = self.call("GET", operation["name"])
        return operation

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        return translated(
            (
                (requests.RequestException, GoogleAuthError),
                lambda error: WalsError(f"Vertex AI cannot be used ({type(error).__name__}: {error})"),
            )
        )


def _message(answer: requests.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return answer.reason
