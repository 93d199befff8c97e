"""Sessions for Google's REST interfaces."""

import google.auth
import requests
from google.auth.transport.requests import AuthorizedSession

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)


def google_session(endpoint: str) -> requests.Session:
    """Return a session with the application default credentials.

    Args:
        endpoint: address of the interface. One with ``http://`` is not Google's, and gets no credentials.

    Raises:
        google.auth.exceptions.GoogleAuthError: there are no credentials.
    """
    if endpoint.startswith("http://"):
        return requests.Session()
    credentials, _ = google.auth.default(scopes=_SCOPES)
    session: requests.Session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
    return session
