"""Time limits for requests."""

from trainer.errors import WalsError

CONNECT_SECONDS = 2.5
"""Longest wait for credentials or a connection before a command gives up with one line."""

REQUEST_SECONDS = 30.0
"""Longest wait for the answer to one request."""

TIMEOUT = (CONNECT_SECONDS, REQUEST_SECONDS)
"""Both limits, as requests and urllib3 take them."""


LARGEST_ANSWER = 64 << 20
"""Bytes of the largest answer that is read, above those of any spec, report or page of a list."""


class AccessError(WalsError):
    """The platform denies access to the user, which a retry does not change."""
