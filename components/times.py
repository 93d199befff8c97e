"""Times in options: ISO 8601, in UTC by default."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator

from trainer.options import invalid


def parse_time(text: str) -> datetime | None:
    """Return an ISO 8601 time; None for "".

    Raises:
        ValueError: the text is not a time.
    """
    if not text:
        return None
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def timestamp(text: str) -> str:
    """Return an ISO 8601 time in a form that all engines read; "" stays "".

    Raises:
        ValueError: the text is not a time.
    """
    time = parse_time(text)
    return time.isoformat(" ", "microseconds") if time else ""


def from_microseconds(time: int) -> str:
    """Return a time in microseconds since 1970 as ISO 8601 in UTC."""
    return str(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time))


def _check(text: str) -> str:
    try:
        parse_time(text)
    except ValueError as error:
        raise invalid("is not a time", "give one such as 2026-01-31 or 2026-01-31T08:00Z") from error
    return text


Time = Annotated[str, AfterValidator(_check)]
"""Type of an option that is a time, or "" if not set."""
