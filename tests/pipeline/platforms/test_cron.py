"""Five-field crons: which are accepted, their form on each platform, and their next times."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from pipeline.platforms.cron import next_times, parse_cron, parse_time_zone, with_seconds
from trainer.errors import InputError


@pytest.mark.parametrize(
    ("cron", "parsed"),
    [
        ("0 21 * * *", "0 21 * * *"),
        ("  0   21 * * 7 ", "0 21 * * 0"),
        ("0 21 * * sun", "0 21 * * 0"),
        ("0 21 * * MON-FRI", "0 21 * * 1,2,3,4,5"),
        ("0 21 * * 5-7", "0 21 * * 0,5,6"),
        ("0 21 * JAN,jul *", "0 21 * 1,7 *"),
        ("*/15 8-18/2 1,15 * */2", "*/15 8-18/2 1,15 * */2"),
        ("0 0 29 2 *", "0 0 29 2 *"),
    ],
)
def test_names_and_sunday_as_7_become_the_numbers_both_platforms_know(cron: str, parsed: str) -> None:
    assert parse_cron(cron) == parsed


@given(
    st.tuples(
        st.sampled_from(["0", "*/15", "5,35"]),
        st.sampled_from(["3", "*", "8-18"]),
        st.sampled_from(["*", "1", "10-20"]),
        st.sampled_from(["*", "MAR-MAY", "1,7"]),
        st.sampled_from(["*", "7", "SUN", "FRI-7", "1-5", "*/2", "SAT,SUN"]),
    ).map(" ".join)
)
def test_the_parsed_cron_comes_at_the_same_times(cron: str) -> None:
    after = datetime(2026, 11, 24, tzinfo=UTC)
    theirs = CronSim(cron, after)
    assert next_times(parse_cron(cron), ZoneInfo("UTC"), after, 20) == [next(theirs) for _ in range(20)]


@pytest.mark.parametrize(
    ("cron", "named"),
    [
        ("0 0 21 * * *", "6 fields"),
        ("0 21 * *", "4 fields"),
        ("", "0 fields"),
        ("0 25 * * *", "hour"),
        ("every day at nine please", "numbers"),
        ("0 21 31 2 *", "day-of-month"),
        ("0 21 L * *", "numbers"),
        ("0 21 * * MON#1", "weekday"),
        ("0 21 * * MUN", "day-of-week"),
        ("0 21 * * 1;2", "day-of-week"),
    ],
)
def test_invalid_crons_are_refused(cron: str, named: str) -> None:
    with pytest.raises(InputError, match=named) as caught:
        parse_cron(cron)
    assert str(caught.value).startswith("cron ")


def test_kubeflow_gets_the_seconds_first() -> None:
    assert with_seconds("30 21 * * 1,2") == "0 30 21 * * 1,2"


def test_a_time_zone_is_known_by_its_name() -> None:
    assert parse_time_zone("Europe/Berlin") == ZoneInfo("Europe/Berlin")
    for unknown in ("Europe/Atlantis", "", "../etc/passwd"):
        with pytest.raises(InputError, match="time zone"):
            parse_time_zone(unknown)


def test_the_hour_stays_the_same_when_the_clocks_change() -> None:
    times = next_times("0 21 * * *", ZoneInfo("Europe/Berlin"), datetime(2026, 3, 27, 12, tzinfo=UTC), 4)
    assert [time.hour for time in times] == [21] * 4
    assert [time.astimezone(UTC).hour for time in times] == [20, 20, 19, 19]
