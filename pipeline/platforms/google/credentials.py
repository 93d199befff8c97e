"""Credentials of Google Cloud."""

import google.auth
from google.auth import credentials as auth_credentials
from google.auth import exceptions
from google.auth.transport.requests import Request

from components.limits import CONNECT_SECONDS, answered
from pipeline.platforms.network import AccessError
from trainer.errors import WalsError, translated

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_LOGIN = "run `gcloud auth application-default login`"

REFUSED = f"the Google Cloud credentials were refused; {_LOGIN}"
"""Error line for credentials that a service does not accept."""


def google_credentials(endpoint: str) -> auth_credentials.Credentials:
    """Return credentials that hold a fresh token, or anonymous ones for an endpoint without encryption.

    Raises:
        WalsError: there are none, they have expired, or Google cannot be reached to renew them.
    """
    if endpoint.startswith("http://"):
        return auth_credentials.AnonymousCredentials()  # type: ignore[no-untyped-call]

    def fresh() -> auth_credentials.Credentials:
        credentials, _ = google.auth.default(scopes=_SCOPES)
        credentials.refresh(Request())  # type: ignore[no-untyped-call]
        return credentials

    with translated(
        (
            exceptions.DefaultCredentialsError,
            lambda _: WalsError(f"no Google Cloud credentials were found; {_LOGIN}"),
        ),
        (
            exceptions.TransportError,
            lambda _: WalsError("Google Cloud cannot be reached; check the network and try again"),
        ),
        (
            exceptions.RefreshError,
            lambda _: AccessError(f"the Google Cloud credentials have expired; {_LOGIN}"),
        ),
    ):
        return answered(fresh, "the server of Google Cloud's credentials", CONNECT_SECONDS)
