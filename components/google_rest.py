"""Sessions for Google's REST interfaces."""

import google.auth
import requests
import urllib3
from google.auth.transport.requests import AuthorizedSession

from components.answers import bounded
from components.limits import REQUEST_SECONDS, answered

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)


def google_session(
    endpoint: str, server: str, *, seconds: float | None = None, retries: urllib3.Retry | None = None
) -> requests.Session:
    """Return a session with the application default credentials, whose answers are bounded.

    Args:
        endpoint: address of the interface. One with ``http://`` is not Google's, and gets no credentials.
        server: name of the interface, for errors.
        seconds: longest time for one request; see `components.answers.bounded`.
        retries: which failures are repeated; see there.

    Raises:
        google.auth.exceptions.GoogleAuthError: there are no credentials.
        WalsError: the server of the credentials does not answer.
    """
    if endpoint.startswith("http://"):
        return bounded(requests.Session(), server, seconds=seconds, retries=retries)
    credentials, _ = answered(
        lambda: google.auth.default(scopes=_SCOPES), "the server of Google Cloud's credentials"
    )
    session: requests.Session = AuthorizedSession(  # type: ignore[no-untyped-call]
        credentials, refresh_timeout=REQUEST_SECONDS
    )
    return bounded(session, server, seconds=seconds, retries=retries)
