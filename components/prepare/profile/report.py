"""The profile as one HTML file with its picture inside, as the consoles show it in a frame."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from components.prepare.profile.profile import Profile, shares
from trainer.files import replacing

_WIDTH, _HEIGHT, _MARGIN = 350, 180, 60
"""Of a histogram with its margin, of its bars, and of the margin: pixels."""

_MOST_LABELS = 6
"""Under a histogram; more would overlap."""

_ROUNDING = 1e-9
"""Of the bins' lower edges, as in the SQL that makes the bins."""


@dataclass(frozen=True)
class _Bar:
    """A bin: its bar for now and the height before (pixels), and its label or ""."""

    x: float
    width: float
    now: float
    before: float
    label: str


@dataclass(frozen=True)
class _Histogram:
    """Shares by bin; the axis ends at the highest."""

    title: str
    bars: list[_Bar]
    highest: str


def write_report(profile: Profile, previous: Profile | None, breaches: Sequence[str], path: Path) -> None:
    """Write profile, previous profile and breaches as one self-contained HTML file."""
    environment = Environment(
        loader=PackageLoader("components.prepare.profile", "."), autoescape=True, undefined=StrictUndefined
    )
    facts = [
        (name, value, dict(previous.facts()).get(name, "") if previous else "")
        for name, value in profile.facts()
    ]
    # Drawn here: to import a plotting library takes longer than to prepare a million interactions.
    picture = environment.get_template("histograms.html").render(
        panels=[
            _histogram(title, getattr(profile, field), getattr(previous, field, None) or {}, label)
            for title, field, label in (
                ("rating, about", "ratings", _rating_label),
                ("interactions per user, from", "per_user", _size_label),
                ("interactions per item, from", "per_item", _size_label),
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
    labelled = range(0, len(bins), math.ceil(len(bins) / _MOST_LABELS))
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
    """Return the roundest number that a bin holds, such as 4 for that from 3.76 up to 4.19."""
    low, high = (2 ** (edge / 8) - 1 for edge in (abs(bin_), abs(bin_) + 1))
    powers = itertools.count(math.floor(math.log10(high)), -1)
    steps = (digit * 10.0**power for power in powers for digit in (5, 2, 1))
    numbers = (step * math.ceil(low / step - _ROUNDING) for step in steps)
    return f"{math.copysign(next(number for number in numbers if number < high), bin_):,g}"


def _size_label(bin_: int) -> str:
    return f"{2 ** (bin_ % 10)}{('', 'K', 'M', 'G', 'T')[bin_ // 10]}"
