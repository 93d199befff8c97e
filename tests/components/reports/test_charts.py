"""Charts: what is drawn stands where its value is, and is said in words."""

import itertools
import re

import pytest

from components.reports.charts import Point, Series, chart


def places(path: str) -> list[tuple[float, float]]:
    """Return the ends of the lines of a path."""
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]


@pytest.mark.parametrize(
    ("values", "from_zero", "labels"),
    [
        ([0.21, 0.38], True, ["0.0", "0.1", "0.2", "0.3", "0.4"]),
        ([18_026.0, 39_000.0], False, ["10,000", "20,000", "30,000", "40,000"]),
        ([-0.5, 2.0], True, ["-1", "0", "1", "2"]),
        ([1e200], True, ["0", "5e+199", "1e+200"]),
        ([0.0], True, ["0.0", "0.5"]),
        ([7.0], False, ["6", "8"]),
        (
            [1e-9, 2e-9],
            True,
            ["0", "5e-10", "1e-09", "1.5e-09", "2e-09"],
        ),
        ([float("nan"), 3.0], True, ["0", "1", "2", "3"]),
        ([float("inf")], True, ["0.0", "0.5"]),
    ],
)
def test_the_axis_has_a_few_round_numbers_around_the_values(
    values: list[float], from_zero: bool, labels: list[str]
) -> None:
    series = Series("model", "model", [Point(value) for value in values])
    drawn = chart("Recall", [str(place) for place in range(len(values))], [series], from_zero=from_zero)
    assert [tick.label for tick in drawn.ticks] == labels
    for place in places(drawn.series[0].area):
        assert drawn.left < place[0] < drawn.right
        assert drawn.ticks[-1].y <= place[1] <= drawn.ticks[0].y


def test_a_line_goes_through_its_values_and_skips_those_that_are_missing() -> None:
    points = [Point(0.0), None, Point(0.5), Point(1.0, 0.9, 1.1)]
    drawn = chart("Recall", ["10", "20", "50", "100"], [Series("model", "model", points, "line")])
    (low, high) = (next(tick.y for tick in drawn.ticks if tick.label == label) for label in ("0.0", "1.0"))
    line = places(drawn.series[0].line)
    assert [y for _, y in line] == pytest.approx([low, (low + high) / 2, high], abs=0.1)
    band = drawn.labels[1].x - drawn.labels[0].x
    assert [x - drawn.labels[0].x for x, _ in line] == pytest.approx([0, 2 * band, 3 * band], abs=0.2)
    (whisker,) = re.findall(r"M[\d.]+ ([\d.]+)V([\d.]+)", drawn.series[0].whiskers)
    assert float(whisker[0]) > high > float(whisker[1])


def test_intervals_of_several_series_stand_side_by_side() -> None:
    names = ("model", "champion", "popularity", "item_cosine", "random")
    drawn = chart("Recall", ["cold", "heavy"], [Series(name, name, [Point(1.0)] * 2) for name in names])
    xs = sorted(x for series in drawn.series for x, _ in places(series.area))
    assert all(right - left > 5 for left, right in itertools.pairwise(xs))
    assert len({series.marker for series in drawn.series}) == len(names)


def test_labels_that_would_overlap_are_left_out() -> None:
    series = [Series("model", "model", [Point(1.0)] * 40, "bars")]
    labels = chart("Objective", [str(number) for number in range(100, 140)], series).labels
    assert 3 < len(labels) < 40
    assert all(right.x - left.x > 3 * 6 for left, right in itertools.pairwise(labels))


def test_the_alternative_has_all_values() -> None:
    points = [Point(0.25), None, Point(0.5)]
    drawn = chart(
        "Recall", ["10", "20", "50"], [Series("this model", "model", points)], as_text="{:.2f}".format
    )
    assert drawn.summary == "Recall. this model: 10 0.25, 50 0.50."
