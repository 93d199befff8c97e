"""What ``wals recommend`` and ``wals similar`` share: a model with its catalogue, and ranked items."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from rich.console import Console

from pipeline.commands.base import Command, json_option, without
from pipeline.display.output import PlainTable, echo, print_json

if TYPE_CHECKING:
    import pyarrow as pa

    from trainer.recommender import Recommender

CATALOGUE = "catalogue"
"""Name of the catalogue's folder next to a model."""


def model_options(command: Command) -> Command:
    """Give a command ``--model``, what may be known about its items, ``-k`` and ``--json``."""
    options: list[Callable[[Any], Any]] = [
        click.option(
            "--model",
            "folder",
            type=click.Path(path_type=Path, file_okay=False),
            required=True,
            help="Folder of a model, such as runs/latest/model.",
        ),
        click.option(
            "-k", "k", type=click.IntRange(1), default=10, show_default=True, help="Number of items."
        ),
        click.option(
            "--catalogue",
            type=click.Path(path_type=Path, file_okay=False),
            help="Folder with titles and lists of items that a run has extracted.  [default: the folder "
            f"{CATALOGUE} next to the model, if there is one]",
        ),
        json_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


def open_model(folder: Path, catalogue: Path | None, **rules: Any) -> "Recommender":
    """Return a model with what is known about its items.

    Args:
        folder: folder of the model.
        catalogue: folder of a ``wals.catalogue`` artifact; None for the one next to the model, if any.
        rules: further rules; see `trainer.recommender.Recommender.load`.

    Raises:
        InputError: one of them cannot be used.
    """
    # Slow to import, which should not delay the error of a bad option.
    from trainer.recommender import Recommender

    return Recommender.load(folder, catalogue=catalogue, **rules)


@contextmanager
def opened(folder: Path, catalogue: Path | None, **rules: Any) -> "Iterator[Recommender]":
    """Yield a model as `open_model` returns it, for a ranking in the block."""
    # Numba imports these for products of matrices in kernels, and for calls of C, which ours have none of.
    with without("scipy.linalg", "cffi"):
        yield open_model(folder, catalogue, **rules)


def print_ranked(ranked: "pa.Table", item_column: str, as_json: bool) -> None:
    """Print ranked items, best first.

    Args:
        ranked: one list of `trainer.recommender.Recommender`.
        item_column: its column of the items.
        as_json: whether to print JSON, in which an unknown title is null.
    """
    names = ["rank", "item", *(["title"] if "title" in ranked.column_names else []), "score"]
    rows = [{**row, "item": row[item_column]} for row in ranked.to_pylist()]
    if as_json:
        print_json("ranking", {"items": [{name: row[name] for name in names} for row in rows]})
        return
    if not rows:
        echo("No item is left to recommend")
        return
    table = PlainTable(*names)
    for row in rows:
        shown = {**row, "title": row.get("title") or row["item"], "score": f"{row['score']:.4f}"}
        table.add_row(*(str(shown[name]) for name in names))
    Console().print(table)
