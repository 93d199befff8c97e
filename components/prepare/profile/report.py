"""The profile as one self-contained HTML file, which the consoles show in a frame."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from components.prepare.profile.profile import Profile, shares
from trainer.files import replacing

_WIDTH, _HEIGHT, _MARGIN = 350, 180, 60
"""Width of a histogram with its margin, height of its bars, and width of the margin, in pixels."""

_MAX_LABELS = 6
"""Labels under a histogram; more would overlap."""

_ROUNDING = 1e-9
"""Tolerance at the bins' lower edges, as in the SQL that computes the bins."""


@dataclass(frozen=True)
class _Bar:
    """A bin: its bar and the previous run's height, in pixels, and its label or ""."""

    x: float
    width: float
    now: float
    before: float
    label: str


@dataclass(frozen=True)
class _Histogram:
    """Shares by bin; the axis ends at the highest share."""

    title: str
    bars: list[_Bar]
    highest: str


def write_report(profile: Profile, previous: Profile | None, breaches: Sequence[str], path: Path) -> None:
    """Write a profile, the previous one and the breaches of the contract as an HTML file."""
    environment = Environment(
        loader=PackageLoader("components.prepare.profile", "."), autoescape=True, undefined=StrictUndefined
    )
    facts = [
        (name, value, dict(previous.facts()).get(name, "") if previous else "")
        for name, value in profile.facts()
    ]
    # Drawn by a template: importing a plotting library takes longer than preparing a million interactions.
    picture = environment.get_template("histograms.html").render(
        panels=[
            _histogram(title, getattr(profile, field), getattr(previous, field, None) or {}, label)
            for title, field, label in (
                ("rating (approximate)", "ratings", _rating_label),
                ("interactions per user (at least)", "per_user", _size_label),
                ("interactions per item (at least)", "per_item", _size_label),
            )
        ],
        compared=previous is not None,
        width=_WIDTH,
        height=_HEIGHT,
        plot=_WIDTH - _MARGIN,
    )
    html = environment.get_template("report.html").render(
        facts=facts, breaches=breaches, compared=previous is not None, picture=picture
    )
    with replacing(path) as temporary:
        temporary.write_text(html, "utf-8")


def _histogram(
    title: str, now: Mapping[str, int], before: Mapping[str, int], label: Callable[[int], str]
) -> _Histogram:
    bins = sorted({*now, *before}, key=int)
    of_now = shares(now, bins).tolist()
    of_before = shares(before, bins).tolist() if before else [0.0] * len(bins)
    highest = max(*of_now, *of_before)
    width = (_WIDTH - _MARGIN) / len(bins)
    labelled = range(0, len(bins), math.ceil(len(bins) / _MAX_LABELS))
    bars = [
        _Bar(
            round(number * width, 1),
            round(0.8 * width, 1),
            round(_HEIGHT * of_now[number] / highest, 1),
            round(_HEIGHT * of_before[number] / highest, 1),
            label(int(bin_)) if number in labelled else "",
        )
        for number, bin_ in enumerate(bins)
    ]
    return _Histogram(title, bars, f"{highest:.0%}")


def _rating_label(bin_: int) -> str:
    """Return the roundest number in a bin, such as 4 for the bin from 3.76 up to 4.19."""
    low, high = (2 ** (edge / 8) - 1 for edge in (abs(bin_), abs(bin_) + 1))
    powers = itertools.count(math.floor(math.log10(high)), -1)
    steps = (digit * 10.0**power for power in powers for digit in (5, 2, 1))
    numbers = (step * math.ceil(low / step - _ROUNDING) for step in steps)
    return f"{math.copysign(next(number for number in numbers if number < high), bin_):,g}"


def _size_label(bin_: int) -> str:
    return f"{2 ** (bin_ % 10)}{('', 'K', 'M', 'G', 'T')[bin_ // 10]}"
