"""``wals recommend``: recommendations from a trained model, for a user or for a basket of items."""

import csv
from pathlib import Path

import rich_click as click

from pipeline.commands.base import wals_command
from pipeline.commands.ranking import model_options, opened, print_ranked

_UNLIMITED = float("-inf")


@wals_command()
@click.option("--user", help="Id of a user, as in your data.")
@click.option("--items", metavar="ID,ID,…", help="Ids of items that a new user likes.")
@model_options
@click.option(
    "--max-per-category",
    type=click.IntRange(0),
    default=0,
    help="Show at most this many items of a category.  [default: any number]",
)
@click.option(
    "--min-score",
    type=float,
    default=_UNLIMITED,
    help="Show only items with at least this score.  [default: any score]",
)
def command(
    user: str | None,
    items: str | None,
    folder: Path,
    k: int,
    catalogue: Path | None,
    as_json: bool,
    max_per_category: int,
    min_score: float,
) -> None:
    """Show recommendations from a trained model, for a user or for a basket of items.

    A user gets no items of the training, and a basket none of its own. The catalogue's lists of blocked and
    available items apply, as in what the pipeline publishes.

    \b
    wals recommend --model runs/latest/model --user 42
    wals recommend --model runs/latest/model --items 1,260,2571
    """
    if (user is None) == (items is None):
        raise click.UsageError("give either --user or --items")
    rules = {"max_per_category": max_per_category, "min_score": min_score}
    with opened(folder, catalogue, **rules) as recommender:
        if user is not None:
            ranked = recommender.recommend(user, k)
        else:
            # As a line of CSV, so that ids may contain commas.
            basket = next(csv.reader([items or ""], skipinitialspace=True), [])
            ranked = recommender.for_basket(basket, k)
    print_ranked(ranked, "item_id", as_json)
