"""A profile of interactions as tables and charts, beside that of other interactions."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

from components.artifacts.profile import COLD, Profile, shares
from components.reports.charts import Chart, Point, Series, chart
from components.reports.page import Cell, Table

_ROUNDING = 1e-9
"""Tolerance at the bins' lower edges, as in the SQL that computes the bins."""

_QUANTILES = "minimum, quartiles, 99 % and maximum"


def profile_table(caption: str, profiles: Mapping[str, Profile]) -> Table:
    """Return the figures of profiles side by side.

    Args:
        caption: what the table shows.
        profiles: profiles by the titles of their columns; the first one decides which figures there are.
    """
    columns = [{name: text for name, _, text in _facts(profile)} for profile in profiles.values()]
    rows = tuple(
        (Cell(name, note), *(Cell(column.get(name, "-")) for column in columns))
        for name, note, _ in _facts(next(iter(profiles.values())))
    )
    return Table(caption, ("figure", *profiles), rows)


def profile_charts(now: Profile, before: Profile | None, before_name: str) -> list[Chart]:
    """Return charts of the distributions of ratings and of interactions per user and item.

    Args:
        now: the profile of this run.
        before: the profile to compare it with, if there is one.
        before_name: name of that one.
    """
    return [
        _histogram(
            title, x_title, getattr(now, field), (before_name, getattr(before, field, None) or {}), label
        )
        for title, x_title, field, label in (
            ("Interactions by rating, in %", "rating (approximate)", "ratings", _rating_label),
            ("Users by activity, in %", "interactions per user (at least)", "per_user", _size_label),
            ("Items by popularity, in %", "interactions per item (at least)", "per_item", _size_label),
        )
    ]


def _facts(profile: Profile) -> list[tuple[str, str, str]]:
    """Return name, explanation and text of each figure."""
    quantiles = [
        (f"interactions per {side}", _QUANTILES, " / ".join(f"{count:,}" for count in counts))
        for side, counts in (("user", profile.user_quantiles), ("item", profile.item_quantiles))
        if counts
    ]
    times = [("first interaction", "", profile.earliest), ("newest interaction", "", profile.latest)]
    return [
        ("interactions", "", f"{profile.rows:,}"),
        ("left out by the filters", "", f"{1 - profile.interactions / profile.rows:.1%}"),
        ("duplicates after filters", "", f"{profile.duplicates:.1%}"),
        ("users", "", f"{profile.users:,}"),
        ("items", "", f"{profile.items:,}"),
        ("density", "", f"{profile.density:.3g}"),
        ("ratings", "", f"{profile.lowest_rating:g} to {profile.highest_rating:g}"),
        *quantiles,
        (f"users with fewer than {COLD} interactions", "", f"{profile.cold_users:.1%}"),
        *(times if profile.latest else []),
    ]


def _histogram(
    title: str,
    x_title: str,
    now: Mapping[str, int],
    compared: tuple[str, Mapping[str, int]],
    label: Callable[[int], str],
) -> Chart:
    name, before = compared
    bins = sorted({*now, *before}, key=int)
    series = [Series("this run", "model", _percent(now, bins), "bars")]
    if before:
        series.append(Series(name, "champion", _percent(before, bins), "levels"))
    names = [label(int(bin_)) for bin_ in bins]
    return chart(title, names, series, x_title=x_title, as_text="{:.1f}%".format)


def _percent(histogram: Mapping[str, int], bins: Sequence[str]) -> list[Point]:
    return [Point(100 * share) for share in shares(histogram, bins).tolist()]


def _rating_label(bin_: int) -> str:
    """Return the roundest number in a bin, such as 4 for the bin from 3.76 up to 4.19."""
    low, high = (2 ** (edge / 8) - 1 for edge in (abs(bin_), abs(bin_) + 1))
    powers = itertools.count(math.floor(math.log10(high)), -1)
    steps = (digit * 10.0**power for power in powers for digit in (5, 2, 1))
    numbers = (step * math.ceil(low / step - _ROUNDING) for step in steps)
    return f"{math.copysign(next(number for number in numbers if number < high), bin_):,g}"


def _size_label(bin_: int) -> str:
    return f"{2 ** (bin_ % 10)}{('', 'K', 'M', 'G', 'T')[bin_ // 10]}"
