"""Charts by template: importing a plotting library takes longer than the work of most steps.

A chart has one or more series over the same categories, and is drawn for the width of a phone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

_WIDTH, _HEIGHT = 340, 210
_TOP, _RIGHT, _BOTTOM = 12, 12, 40
_CHARACTER = 6.2
"""Width of a character of a label, in pixels."""

_MAX_DIGITS = 7
"""Digits that there is room for beside the axis."""

_ROUNDING = 1e-9

Form = Literal["line", "points", "bars", "levels"]

# Circle, square, triangle, diamond and bar: nobody has to tell series apart by colour alone.
_CIRCLE = "m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0"
_MARKERS = {
    "model": _CIRCLE,
    "champion": "m-3.5 -3.5h7v7h-7z",
    "popularity": "m0 -4.5l4.5 8h-9z",
    "item_cosine": "m0 -5l4.5 5l-4.5 5l-4.5 -5z",
    "random": "m-5 -1.2h10v2.4h-10z",
}


@dataclass(frozen=True)
class Point:
    """A value with its interval, if it has one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """What is drawn in one colour.

    Attributes:
        name: name in the key.
        style: class of the style sheet, one of ``model``, ``champion``, ``popularity``, ``item_cosine`` and
            ``random``.
        points: a point for each category; None where there is none.
        form: how the points are drawn: connected, as markers, as bars from 0, or as horizontal lines that are
            as wide as bars.
    """

    name: str
    style: str
    points: Sequence[Point | None]
    form: Form = "points"


@dataclass(frozen=True)
class _Tick:
    y: float
    label: str


@dataclass(frozen=True)
class _Label:
    x: float
    text: str


@dataclass(frozen=True)
class _Drawn:
    """A series as paths; "" for those that its form lacks."""

    name: str
    style: str
    marker: str
    line: str
    area: str
    whiskers: str


@dataclass(frozen=True)
class Chart:
    """A chart as the template draws it; places are in pixels."""

    title: str
    summary: str
    x_title: str
    ticks: tuple[_Tick, ...]
    labels: tuple[_Label, ...]
    series: tuple[_Drawn, ...]
    left: float
    right: float = _WIDTH - _RIGHT
    bottom: float = _HEIGHT - _BOTTOM
    width: int = _WIDTH
    height: int = _HEIGHT


def chart(
    title: str,
    categories: Sequence[str],
    series: Sequence[Series],
    *,
    x_title: str = "",
    from_zero: bool = True,
    as_text: Callable[[float], str] = "{:.4g}".format,
    summary: str = "",
) -> Chart:
    """Draw a chart.

    Args:
        title: what it shows.
        categories: at least one name, from left to right; those that would overlap are left out.
        series: what is drawn, the first one in front.
        x_title: what the categories are.
        from_zero: start the axis of values at 0; always so with bars.
        as_text: how a value is written.
        summary: alternative for those who cannot see it; all values by default.
    """
    ticks, step = _ticks(*_range(series, from_zero))
    texts = _texts(ticks, step)
    left = round(max(map(len, texts)) * _CHARACTER + 10, 1)
    scale = _Scale(left, len(categories), ticks[0], ticks[-1])
    return Chart(
        title=title,
        summary=summary or _summary(title, categories, series, as_text),
        x_title=x_title,
        ticks=tuple(_Tick(scale.y(tick), text) for tick, text in zip(ticks, texts, strict=True)),
        labels=tuple(_labels(categories, scale)),
        series=tuple(_draw(line, number, len(series), scale) for number, line in enumerate(series)),
        left=left,
    )


@dataclass(frozen=True)
class _Scale:
    """Where categories and values are, in pixels."""

    left: float
    categories: int
    lowest: float
    highest: float

    @property
    def band(self) -> float:
        """Width of a category."""
        return (_WIDTH - _RIGHT - self.left) / max(self.categories, 1)

    def x(self, category: int) -> float:
        """Return the middle of a category."""
        return round(self.left + (category + 0.5) * self.band, 1)

    def y(self, value: float) -> float:
        share = (value - self.lowest) / (self.highest - self.lowest)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP), 1)


def _range(series: Sequence[Series], from_zero: bool) -> tuple[float, float]:
    points = [point for line in series for point in line.points if point]
    ends = [end for point in points for end in (point.value, point.low, point.high) if end is not None]
    finite = [*(end for end in ends if math.isfinite(end)), *([0.0] if from_zero else [])]
    return (min(finite), max(finite)) if finite else (0.0, 1.0)


def _ticks(low: float, high: float) -> tuple[list[float], float]:
    """Return about five round numbers that enclose a range, and their distance."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= span / 4 - _ROUNDING * span)
    first = math.floor(low / step + _ROUNDING)
    last = max(math.ceil(high / step - _ROUNDING), first + 1)
    return [number * step for number in range(first, last + 1)], step


def _texts(ticks: Sequence[float], step: float) -> list[str]:
    digits = max(0, -math.floor(math.log10(step) + _ROUNDING))
    if digits > _MAX_DIGITS or max(map(abs, ticks)) >= 10**_MAX_DIGITS:
        return [f"{tick:.3g}" for tick in ticks]
    return [f"{tick:,.{digits}f}" for tick in ticks]


def _labels(categories: Sequence[str], scale: _Scale) -> list[_Label]:
    widest = max(map(len, categories), default=0) * _CHARACTER + 6
    every = max(1, math.ceil(widest / scale.band))
    return [_Label(scale.x(number), text) for number, text in enumerate(categories) if number % every == 0]


def _draw(series: Series, number: int, total: int, scale: _Scale) -> _Drawn:
    """Return a series as paths; ``number`` is its place among the ``total`` series of the chart."""
    places = [
        (round(scale.x(category) + _shift(series.form, number, total, scale), 1), point)
        for category, point in enumerate(series.points)
        if point and math.isfinite(point.value)
    ]
    tops = [(x, scale.y(point.value)) for x, point in places]
    whiskers = [
        f"M{x} {scale.y(point.low)}V{scale.y(point.high)}"
        for x, point in places
        if point.low is not None and point.high is not None
    ]
    marker = _MARKERS[series.style]
    half = round(0.4 * scale.band, 1)
    line = area = ""
    if series.form == "bars":
        bottom = scale.y(0.0)
        area = "".join(f"M{x - half:.1f} {bottom}V{y}H{x + half:.1f}V{bottom}z" for x, y in tops)
    elif series.form == "levels":
        line = "".join(f"M{x - half:.1f} {y}H{x + half:.1f}" for x, y in tops)
    else:
        area = "".join(f"M{x} {y}{marker}" for x, y in tops)
        if series.form == "line" and len(tops) > 1:
            line = "M" + "L".join(f"{x} {y}" for x, y in tops)
    return _Drawn(series.name, series.style, marker, line, area, "".join(whiskers))


def _shift(form: Form, number: int, total: int, scale: _Scale) -> float:
    """Return how far a series is from the middle of the category, so that no interval hides another."""
    if form in ("bars", "levels"):
        return 0.0
    side = number - (total - 1) / 2
    return side * min(3.0 if form == "line" else 9.0, scale.band / total)


def _summary(
    title: str, categories: Sequence[str], series: Sequence[Series], as_text: Callable[[float], str]
) -> str:
    """Return all values in words."""
    parts = [
        f"{line.name}: "
        + ", ".join(
            f"{category} {as_text(point.value)}"
            for category, point in zip(categories, line.points, strict=True)
            if point
        )
        for line in series
    ]
    return f"{title}. {'. '.join(parts)}."
