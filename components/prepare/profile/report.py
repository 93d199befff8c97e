"""The profile as one self-contained HTML file, which the consoles show in a frame."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from components.prepare.profile.profile import Profile, shares
from components.reports.charts import Chart, Point, Series, chart
from components.reports.page import Cell, Table, write_page

_ROUNDING = 1e-9
"""Tolerance at the bins' lower edges, as in the SQL that computes the bins."""


def write_report(profile: Profile, previous: Profile | None, breaches: Sequence[str], path: Path) -> None:
    """Write a profile, the previous one and the breaches of the contract as an HTML file."""
    before = dict(previous.facts()) if previous else {}
    rows = tuple(
        (Cell(name), Cell(value), *([Cell(before.get(name, ""))] if previous else []))
        for name, value in profile.facts()
    )
    head = ("figure", "this run", *(["previous run"] if previous else []))
    write_page(
        "components.prepare.profile",
        path,
        breaches=breaches,
        compared=previous is not None,
        facts=Table("The input before filters", head, rows),
        histograms=[
            _histogram(title, x_title, getattr(profile, field), getattr(previous, field, None) or {}, label)
            for title, x_title, field, label in (
                ("Interactions by rating, in %", "rating (approximate)", "ratings", _rating_label),
                ("Users by activity, in %", "interactions per user (at least)", "per_user", _size_label),
                ("Items by popularity, in %", "interactions per item (at least)", "per_item", _size_label),
            )
        ],
    )


def _histogram(
    title: str,
    x_title: str,
    now: Mapping[str, int],
    before: Mapping[str, int],
    label: Callable[[int], str],
) -> Chart:
    bins = sorted({*now, *before}, key=int)
    series = [Series("this run", "model", _percent(now, bins), "bars")]
    if before:
        series.append(Series("previous run", "champion", _percent(before, bins), "levels"))
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
