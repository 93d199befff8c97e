"""The profile as one HTML file with its picture inside, as the consoles show it in a frame."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components.pictures import svg
from components.prepare.profile import Profile, shares
from trainer.files import replacing

_MOST_LABELS = 6
"""Under a histogram; more would overlap."""

_ROUNDING = 1e-9
"""Of the bins' lower edges, as in the SQL that makes the bins."""


def write_report(profile: Profile, previous: Profile | None, breaches: Sequence[str], path: Path) -> None:
    """Write profile, previous profile and breaches as one self-contained HTML file."""
    environment = Environment(
        loader=PackageLoader("components.prepare", "."), autoescape=True, undefined=StrictUndefined
    )
    facts = [
        (name, value, dict(previous.facts()).get(name, "") if previous else "")
        for name, value in profile.facts()
    ]
    html = environment.get_template("profile.html").render(
        facts=facts,
        breaches=breaches,
        compared=previous is not None,
        picture=svg(_picture(profile, previous)),
    )
    with replacing(path) as temporary:
        temporary.write_text(html, "utf-8")


def _picture(profile: Profile, previous: Profile | None) -> Figure:
    figure = Figure(figsize=(11, 3.2))
    axes = figure.subplots(1, 3)
    for one, title, field, label in (
        (axes[0], "rating, about", "ratings", _rating_label),
        (axes[1], "interactions per user, from", "per_user", _size_label),
        (axes[2], "interactions per item, from", "per_item", _size_label),
    ):
        _histogram(one, title, getattr(profile, field), getattr(previous, field, None), label)
    figure.tight_layout()
    return figure


def _histogram(
    axes: Axes,
    title: str,
    now: Mapping[str, int],
    before: Mapping[str, int] | None,
    label: Callable[[int], str],
) -> None:
    bins = sorted({*now, *(before or {})}, key=int)
    places = np.arange(len(bins))
    axes.bar(places, shares(now, bins), color="#1a6fb5", label="now")
    if before is not None:
        axes.step(places, shares(before, bins), where="mid", color="#1c2024", label="previous")
        axes.legend(frameon=False)
    shown = places[:: math.ceil(len(bins) / _MOST_LABELS)]
    axes.set_xticks(shown, [label(int(bins[place])) for place in shown])
    axes.set_title(title)
    axes.set_ylabel("share")
    axes.spines[["top", "right"]].set_visible(False)


def _rating_label(bin_: int) -> str:
    """Return the roundest number that a bin holds, such as 4 for that from 3.76 up to 4.19."""
    low, high = (2 ** (edge / 8) - 1 for edge in (abs(bin_), abs(bin_) + 1))
    powers = itertools.count(math.floor(math.log10(high)), -1)
    steps = (digit * 10.0**power for power in powers for digit in (5, 2, 1))
    numbers = (step * math.ceil(low / step - _ROUNDING) for step in steps)
    return f"{math.copysign(next(number for number in numbers if number < high), bin_):,g}"


def _size_label(bin_: int) -> str:
    return f"{2 ** (bin_ % 10)}{('', 'K', 'M', 'G', 'T')[bin_ // 10]}"
