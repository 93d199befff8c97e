"""How S3-compatible stores are addressed, for every client that speaks to one."""

import os
from urllib.parse import urlsplit

from trainer.errors import InputError


def endpoint() -> str:
    """Return the address of another store than AWS', from ``AWS_ENDPOINT_URL``; "" for AWS.

    Raises:
        InputError: it is not the address of a store.
    """
    address = os.environ.get("AWS_ENDPOINT_URL", "")
    parts = urlsplit(address)
    if address and (parts.scheme not in ("http", "https") or not parts.netloc):
        raise InputError(
            "AWS_ENDPOINT_URL",
            address,
            "is not the address of a store",
            "give https://HOST or http://HOST:PORT",
        )
    return address
