"""Cron expressions of five fields in a time zone, in the form that both platforms understand."""

from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from trainer.errors import InputError, counted

_FIELDS = 5


def parse_cron(cron: str) -> str:
    """Return a cron expression of five fields with numbers for names, 0 for Sunday and single spaces.

    The platforms' parsers differ in the names that they accept and in whether 7 is Sunday.

    Args:
        cron: minute, hour, day of month, month, day of week.

    Raises:
        InputError: it is not such an expression, or never matches.
    """
    fields = cron.upper().split()
    if len(fields) != _FIELDS:
        raise InputError(
            "cron",
            cron,
            f"has {counted(len(fields), 'field')}",
            "give five: minute, hour, day of month, month, day of week, such as '0 21 * * *'",
        )
    minute, hour, day, month, weekday = fields
    if not set("".join(fields[:3])) <= set("0123456789*/,-"):
        raise InputError(
            "cron", cron, "contains more than numbers and * / , -", "give one such as '0 21 * * MON-FRI'"
        )
    try:
        parsed = CronSim(cron, datetime(2000, 1, 1))
        next(parsed)
    except (CronSimError, StopIteration) as error:
        problem = str(error).lower() or "never matches"
        raise InputError(
            "cron", cron, f"is invalid ({problem})", "give one such as '0 21 * * MON-FRI'"
        ) from error
    if any(isinstance(item, tuple) for item in parsed.weekdays):
        raise InputError("cron", cron, "contains # or L in the weekday", "give weekdays as numbers or names")
    weekdays = sorted({int(item) % 7 for item in parsed.weekdays if isinstance(item, int)})
    return " ".join(
        [
            minute,
            hour,
            day,
            month if month.startswith("*") else _listed(sorted(parsed.months)),
            weekday if weekday.startswith("*") else _listed(weekdays),
        ]
    )


def parse_time_zone(name: str) -> ZoneInfo:
    """Return the time zone of an IANA name.

    Raises:
        InputError: no time zone has that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(
            "time zone", name, "is unknown", "give an IANA name such as Europe/Berlin"
        ) from error


def next_times(cron: str, zone: ZoneInfo, after: datetime, count: int) -> list[datetime]:
    """Return the next times within 50 years that match a cron expression, in its time zone.

    Args:
        cron: as :func:`parse_cron` returns it.
        zone: time zone of the expression.
        after: an aware time.
        count: how many times to return.
    """
    return list(islice(CronSim(cron, after.astimezone(zone)), count))


def with_seconds(cron: str) -> str:
    """Return the six fields that Kubeflow Pipelines expects, which start with the seconds.

    It reads five fields as second, minute, hour, day of month and month, and then fires at the wrong times.
    """
    return f"0 {cron}"


def _listed(values: Sequence[int]) -> str:
    return ",".join(map(str, values))
