"""Which columns of a source are users, items, ratings and times."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.extract.columns import USUAL_NAMES, find_columns
from tests.components.steps import extract
from trainer.errors import InputError

ROLES = ("user_column", "item_column", "rating_column", "timestamp_column")


@pytest.mark.parametrize(
    ("header", "found"),
    [
        # Public datasets, as they are published.
        ("userId,movieId,rating,timestamp", "user=userId item=movieId rating=rating time=timestamp"),
        (
            "reviewerID,asin,overall,unixReviewTime",
            "user=reviewerID item=asin rating=overall time=unixReviewTime",
        ),
        ("user_id,parent_asin,asin,rating", "user=user_id item=asin rating=rating time=none (no column)"),
        ("User-ID,ISBN,Book-Rating", "user=User-ID item=ISBN rating=Book-Rating time=none (no column)"),
        (
            "timestamp,visitorid,event,itemid",
            "user=visitorid item=itemid rating=1 (no column) time=timestamp",
        ),
        (
            "t_dat,customer_id,article_id,price",
            "user=customer_id item=article_id rating=1 (no column) time=t_dat",
        ),
        (
            "InvoiceNo,StockCode,Quantity,InvoiceDate,CustomerID",
            "user=CustomerID item=StockCode rating=Quantity time=InvoiceDate",
        ),
        ("business_id,user_id,stars,date", "user=user_id item=business_id rating=stars time=date"),
        # Exports of shops.
        (
            "Name,Email,Created at,Lineitem quantity,Lineitem sku",
            "user=Email item=Lineitem sku rating=Lineitem quantity time=Created at",
        ),
        (
            "id,buyer_email,sku,quantity,ordered_at,price",
            "user=buyer_email item=sku rating=quantity time=ordered_at",
        ),
        ("sessionId,itemId,addedAt", "user=sessionId item=itemId rating=1 (no column) time=addedAt"),
        # Precedence: who it is before where they are, ratings before counts, named times before others.
        (
            "session_id,email,customer_id,item",
            "user=customer_id item=item rating=1 (no column) time=none (no column)",
        ),
        ("user,item,quantity,rating", "user=user item=item rating=rating time=none (no column)"),
        ("user,item,shipped_at,created_at", "user=user item=item rating=1 (no column) time=created_at"),
        # No times, though they end with the same letters.
        ("user,item,format,seat,chat", "user=user item=item rating=1 (no column) time=none (no column)"),
    ],
)
def test_usual_columns_of_datasets_and_shops(header: str, found: str) -> None:
    assert str(find_columns(dict.fromkeys(header.split(","), "VARCHAR"))) == found


@pytest.mark.parametrize("role", ROLES)
def test_an_earlier_name_wins_over_a_later_one(role: str) -> None:
    names = [name.replace("*", "my") for name in USUAL_NAMES[role]]
    others = {"user_column": "USER", "item_column": "ITEM"}
    others.pop(role, None)
    for first, *later in (names[start:] for start in range(len(names))):
        schema = dict.fromkeys([*reversed(later), first, *others.values()], "BIGINT")
        columns = find_columns(schema, **others)
        assert getattr(columns, role.removesuffix("_column")) == first


def test_no_name_is_of_two_roles() -> None:
    names = [name for role in ROLES for name in USUAL_NAMES[role]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("header", "options", "message"),
    [
        (
            "who,what,when",
            {"rated": True},
            "user_column, item_column, rating_column '': none of the columns who, what, when has a usual "
            "name for user ids or item ids or ratings; map them with --user-column NAME --item-column NAME "
            "--rating-column NAME",
        ),
        (
            "who,what,seen_at,read_at",
            {"item_column": "thing", "rating_column": "how much"},
            "item_column 'thing': is not among the columns who, what, seen_at, read_at; name one with "
            "--item-column NAME | "
            "rating_column 'how much': is not among the columns who, what, seen_at, read_at; name one with "
            "--rating-column NAME | "
            "timestamp_column 'seen_at, read_at': are ambiguous; choose one with --timestamp-column NAME | "
            "user_column '': none of the columns who, what, seen_at, read_at has a usual name for user ids; "
            "map them with --user-column NAME",
        ),
        (
            "user,what",
            {"item_column": "user"},
            "item_column 'user': is already the user_column; name another with --item-column NAME",
        ),
    ],
)
def test_everything_that_is_missing_is_told_at_once(header: str, options: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        find_columns(dict.fromkeys(header.split(","), "VARCHAR"), **options)
    assert str(caught.value) == message


def _csv(folder: Path, table: pa.Table, _: Any) -> str:
    table.to_pandas().to_csv(folder / "orders.csv", index=False)
    return str(folder / "orders.csv")


def _parquet(folder: Path, table: pa.Table, _: Any) -> str:
    pq.write_table(table, folder / "orders.parquet")
    return str(folder / "orders.parquet")


def _bigquery(_: Path, table: pa.Table, warehouse: Any) -> str:
    return str(warehouse.load("orders", table))


@pytest.mark.parametrize("place", [_csv, _parquet, _bigquery])
def test_without_ratings_each_interaction_counts_as_1(
    tmp_path: Path, warehouse: Any, caplog: pytest.LogCaptureFixture, place: Callable[..., str]
) -> None:
    caplog.set_level(logging.INFO)
    orders = pa.table({"email": ["a", "b"], "sku": [7, 8], "ordered_at": ["2026-01-01", "2026-01-02"]})
    source = place(tmp_path, orders, warehouse)
    metadata = extract(source=source, output=tmp_path / "out")
    rows = pq.read_table(sorted((tmp_path / "out").glob("part-*.parquet"))).sort_by("user_id").to_pylist()
    assert [(row["user_id"], row["item_id"], row["rating"]) for row in rows] == [("a", 7, 1), ("b", 8, 1)]
    assert [str(row["event_time"].date()) for row in rows] == ["2026-01-01", "2026-01-02"]
    chosen = "user=email item=sku rating=1 (no column) time=ordered_at"
    assert f"columns: {chosen}" in caplog.messages
    assert caplog.messages[-1] == f"2 interactions from {source} ({chosen})"
    assert metadata["column_roles"] == chosen
    with pytest.raises(InputError, match=r"^rating_column '': none of the columns .* --rating-column NAME$"):
        extract(source=source, output=tmp_path / "out", feedback="explicit")


def test_a_file_without_a_header_may_have_users_and_items_only(tmp_path: Path) -> None:
    (tmp_path / "views.csv").write_text("1,10\n2,20\n", "utf-8")
    metadata = extract(source=str(tmp_path / "views.csv"), output=tmp_path / "out", has_header=False)
    assert metadata["column_roles"] == "user=column0 item=column1 rating=1 (no column) time=none (no column)"
