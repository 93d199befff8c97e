"""``wals similar``: the items that are similar to an item, from a trained model."""

from pathlib import Path

import rich_click as click

from pipeline.commands.base import wals_command
from pipeline.commands.ranking import model_options, opened, print_ranked


@wals_command()
@click.option("--item", required=True, help="Id of an item, as in your data.")
@model_options
def command(item: str, folder: Path, k: int, catalogue: Path | None, as_json: bool) -> None:
    """Show the items nearest to an item by cosine similarity of their factors.

    \b
    wals similar --model runs/latest/model --item 260
    """
    with opened(folder, catalogue) as recommender:
        ranked = recommender.similar(item, k)
    print_ranked(ranked, "similar_item_id", as_json)
