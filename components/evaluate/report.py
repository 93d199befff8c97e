"""The evaluation report: one self-contained HTML file, which the consoles show in a frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from components.pictures import svg
from trainer.files import replacing

_WALS_COLOUR, _BASELINE_COLOUR = "#1a6fb5", "#b8bec6"


@dataclass(frozen=True)
class Comparison:
    """One metric of the model and of the baseline.

    Attributes:
        label: display name, such as ``Recall@20``.
        model: the model's value.
        baseline: the popularity baseline's value; None if there is none.
    """

    label: str
    model: float
    baseline: float | None


@dataclass(frozen=True)
class Report:
    """Content of the report.

    Attributes:
        comparisons: rows of the table of metrics.
        ranking: comparisons to draw as bars; all between 0 and 1.
        objective: the training objective after each iteration.
        facts: names and values of the data and the configuration.
    """

    comparisons: Sequence[Comparison]
    ranking: Sequence[Comparison]
    objective: Sequence[float]
    facts: Sequence[tuple[str, str]]


def write_report(report: Report, path: Path) -> None:
    """Write ``report`` to ``path`` as a self-contained HTML file."""
    environment = Environment(
        loader=PackageLoader("components.evaluate", "."), autoescape=True, undefined=StrictUndefined
    )
    html = environment.get_template("report.html").render(
        report=report, ranking=svg(_ranking(report.ranking)), objective=svg(_objective(report.objective))
    )
    with replacing(path) as temporary:
        temporary.write_text(html, "utf-8")


def _ranking(comparisons: Sequence[Comparison]) -> Figure:
    figure, axes = _figure()
    positions = range(len(comparisons))
    axes.bar(
        [position - 0.2 for position in positions],
        [comparison.model for comparison in comparisons],
        0.38,
        color=_WALS_COLOUR,
        label="WALS",
    )
    axes.bar(
        [position + 0.2 for position in positions],
        [comparison.baseline or 0.0 for comparison in comparisons],
        0.38,
        color=_BASELINE_COLOUR,
        label="popularity",
    )
    axes.set_xticks(list(positions), [comparison.label for comparison in comparisons])
    axes.legend(frameon=False)
    return figure


def _objective(objective: Sequence[float]) -> Figure:
    figure, axes = _figure()
    axes.plot(range(1, len(objective) + 1), objective, color=_WALS_COLOUR, marker="o", markersize=3)
    axes.set_xlabel("iteration")
    axes.set_ylabel("objective")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
