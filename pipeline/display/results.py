"""Tables of a run's results: metrics and recommended titles."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group

from components.evaluate.labels import BASELINE_PREFIX, metric_label, model_metrics
from pipeline.display.output import PlainTable, plain
from trainer.errors import InputError
from trainer.inputs import open_input
from trainer.matrix import InteractionMatrix
from trainer.model import Model

Titles = Mapping[str, str]


def read_titles(path: Path) -> Titles:
    """Read a CSV file of items whose first column is the id, with a column ``title``.

    Returns:
        The title by the id's text.

    Raises:
        InputError: the file cannot be read or has no such column.
    """
    try:
        with io.TextIOWrapper(
            open_input("titles", path, "give a CSV file"), encoding="utf-8-sig", newline=""
        ) as file:
            rows = csv.reader(file)
            header = [name.strip().lower() for name in next(rows, [])]
            if "title" not in header:
                raise InputError(
                    "titles",
                    str(path),
                    f"has no title column, only {header}",
                    "give a CSV file with an id and a title column",
                )
            column = header.index("title")
            return {row[0]: row[column] for row in rows if len(row) > column}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError("titles", str(path), f"cannot be read ({error})", "give a CSV file") from error


def named(ids: Sequence[Any], titles: Titles) -> list[str]:
    """Return the title of each id, or the id's text where it has none."""
    return [titles.get(str(item), str(item)) for item in ids]


def metrics_table(metrics: Mapping[str, float]) -> PlainTable:
    """Return the model's metrics next to those of the popularity baseline."""
    table = PlainTable(title="Holdout metrics", title_justify="left")
    table.add_column("")
    table.add_column("WALS", justify="right")
    table.add_column("popularity", justify="right")
    for name in model_metrics(metrics):
        baseline = metrics.get(f"{BASELINE_PREFIX}{name}")
        table.add_row(
            metric_label(name), f"{metrics[name]:.4f}", "-" if baseline is None else f"{baseline:.4f}"
        )
    return table


def recommendations_table(
    model: Model, training: InteractionMatrix, titles: Titles, shown: int
) -> PlainTable:
    """Return what three users rated best in training, and what is recommended to them.

    The users are spread evenly over the vocabulary, so the same data always show the same users.
    """
    table = PlainTable(title="Recommendations", title_justify="left", show_lines=True)
    for column in ("user", "liked most", "recommended"):
        table.add_column(column)
    users = len(model.users)
    for user in sorted({users // 6, users // 2, users * 5 // 6}):
        liked = model.items.take(_best_rated(training, user, shown))
        recommended, _ = model.recommend([user], shown)
        table.add_row(
            str(model.users.take(np.array([user]))[0]),
            _lines(named(liked, titles)),
            _lines(named(model.items.take(recommended[0][recommended[0] >= 0]), titles)),
        )
    return table


def _lines(names: Sequence[str]) -> Group:
    return Group(*(plain(name, no_wrap=True, overflow="ellipsis") for name in names))


def _best_rated(training: InteractionMatrix, user: int, shown: int) -> NDArray[Any]:
    """Return the items that a user gave the highest values, best first."""
    shard = next(shard for shard in training.by_row if shard.first <= user < shard.first + shard.rows)
    entries = slice(*shard.indptr[user - shard.first : user - shard.first + 2])
    best = np.argsort(-shard.values[entries], kind="stable")[:shown]
    return shard.indices[entries][best]
