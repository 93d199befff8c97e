"""Tables of a run's results: metrics and recommended titles."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.console import Group, RenderableType

from components.artifacts.evaluation import Evaluation, Outcome
from components.evaluate.labels import BASELINE_PREFIX, CHAMPION_PREFIX, metric_label, model_metrics
from pipeline.display.output import PlainTable, plain
from trainer.matrix import InteractionMatrix
from trainer.recommender import Recommender

# The prefix of a column's metrics, by its title.
_COLUMNS = {"WALS": "", "champion": CHAMPION_PREFIX, "popularity": BASELINE_PREFIX}
_STYLES: Mapping[Outcome, str] = {"blessed": "green", "rejected": "yellow"}


def metrics_table(metrics: Mapping[str, float], last: Mapping[str, float] | None = None) -> PlainTable:
    """Return the model's metrics, and beside them the champion's and the popularity baseline's.

    Args:
        metrics: metrics by name; those of the others have a prefix.
        last: metrics of an earlier run on the same holdout.
    """
    names = model_metrics(metrics)
    columns = {
        title: [metrics.get(f"{prefix}{name}") for name in names] for title, prefix in _COLUMNS.items()
    }
    columns["last run"] = [(last or {}).get(name) for name in names]
    shown = {title: values for title, values in columns.items() if any(value is not None for value in values)}
    table = PlainTable(title="Holdout metrics", title_justify="left")
    table.add_column("")
    for title in shown:
        table.add_column(title, justify="right")
    for name, *values in zip(names, *shown.values(), strict=True):
        table.add_row(metric_label(name), *("-" if value is None else f"{value:.4f}" for value in values))
    return table


def decision_lines(evaluation: Evaluation) -> RenderableType:
    """Return the decision and its reason in one line, and another one if the data have drifted."""
    decision = evaluation.decision
    lines = [plain(f"{decision.outcome}: {decision.reason}", _STYLES[decision.outcome])]
    if evaluation.drift_warning:
        lines.append(plain(evaluation.drift_warning, "yellow"))
    return Group(*lines)


def recommendations_table(
    known: Recommender, training: InteractionMatrix, top_k: int, most: int
) -> PlainTable:
    """Return what three users rated best in training, and what is recommended to them.

    The users are spread evenly over the vocabulary, so the same data always show the same users.

    Args:
        known: the model and what is known of its items.
        training: what it was trained on.
        top_k: number of recommendations of a user.
        most: largest number of them to show; the heading says if there are more.
    """
    shown = min(top_k, most)
    table = PlainTable(title="Recommendations", title_justify="left", show_lines=True)
    heading = "recommended" if shown == top_k else f"recommended, {shown} of {top_k}"
    for column in ("user", "liked most", heading):
        table.add_column(column)
    model = known.model
    users = len(model.users)
    for user in sorted({users // 6, users // 2, users * 5 // 6}):
        items, values = training.row(user)
        liked = items[np.argsort(-values, kind="stable")[:shown]]
        (recommended,), _ = model.recommend([user], shown, rules=known.rules)
        table.add_row(
            str(model.users.take(np.array([user]))[0]),
            _names(known, liked),
            _names(known, recommended[recommended >= 0]),
        )
    return table


def _names(known: Recommender, items: NDArray[Any]) -> Group:
    """Return a line for each item: its title, or its id where that is unknown."""
    ids = map(str, known.model.items.take(items))
    titles = [None] * len(items) if known.titles is None else known.titles.take(pa.array(items)).to_pylist()
    names = (item if title is None else title for item, title in zip(ids, titles, strict=True))
    return Group(*(plain(name, no_wrap=True, overflow="ellipsis") for name in names))
