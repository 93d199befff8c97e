"""``wals recommend``: a user's recommendations from a trained model."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from components.publish.step import check_top_k
from pipeline.results import named, read_titles
from trainer.errors import InputError
from trainer.model import Model


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--model",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of a model, such as runs/DATE-TIME/model.",
)
@click.option("--user", required=True, help="The user's id as it stands in the ratings.")
@click.option("-k", "k", type=int, default=10, show_default=True, help="How many items.")
@click.option(
    "--titles",
    type=click.Path(path_type=Path, dir_okay=False),
    help="CSV file with the items' ids in its first column and a column title.",
)
def command(folder: Path, user: str, k: int, titles: Path | None) -> None:
    """Show a user's recommendations from a trained model, without the items of the training ratings."""
    check_top_k(k)
    names = read_titles(titles) if titles else {}
    model = Model.load(folder)
    index = int(model.users.index_of([model.users.parse(user)])[0])
    if index < 0:
        raise InputError(
            "user", user, "is not among the model's users", "give a user of the training ratings"
        )
    indices, scores = model.recommend([index], k)
    kept = indices[0] >= 0
    items = model.items.take(indices[0][kept])
    table = Table("rank", "item", *(["title"] if titles else []), "score")
    for rank, (item, title, score) in enumerate(
        zip(items, named(items, names), scores[0][kept], strict=True), 1
    ):
        table.add_row(str(rank), str(item), *([title] if titles else []), f"{score:.4f}")
    Console().print(table)
