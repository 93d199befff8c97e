"""``wals recommend``: a user's recommendations from a trained model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rich_click as click
from rich.console import Console

from pipeline.commands.options import CONTEXT, json_option
from pipeline.display.output import PlainTable, print_json
from pipeline.display.results import named, read_titles
from trainer.errors import InputError
from trainer.model import Model


@click.command(context_settings=CONTEXT)
@click.option(
    "--model",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of a model, such as runs/DATE-TIME/model.",
)
@click.option("--user", required=True, help="Id of the user, as in the ratings.")
@click.option("-k", "k", type=click.IntRange(1), default=10, show_default=True, help="Number of items.")
@click.option(
    "--titles",
    type=click.Path(path_type=Path, dir_okay=False),
    help="CSV file with the items' ids in its first column and a column title.",
)
@json_option
def command(folder: Path, user: str, k: int, titles: Path | None, as_json: bool) -> None:
    """Show a user's recommendations from a trained model, without the items rated in training."""
    names = read_titles(titles) if titles else {}
    model = Model.load(folder)
    index = int(model.users.index_of([model.users.parse(user)])[0])
    if index < 0:
        raise InputError("user", user, "is unknown to the model", "give a user of the training ratings")
    indices, scores = model.recommend([index], min(k, len(model.items)))
    kept = indices[0] >= 0
    items = model.items.take(indices[0][kept])
    ranked = enumerate(zip(items, named(items, names), scores[0][kept], strict=True), 1)
    rows = [
        {"rank": rank, "item": item, **({"title": title} if titles else {}), "score": float(score)}
        for rank, (item, title, score) in ranked
    ]
    if as_json:
        print_json(rows)
    else:
        Console().print(_table(rows, ["rank", "item", *(["title"] if titles else []), "score"]))


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> PlainTable:
    table = PlainTable(*columns)
    for row in rows:
        table.add_row(*(f"{row[name]:.4f}" if name == "score" else str(row[name]) for name in columns))
    return table
