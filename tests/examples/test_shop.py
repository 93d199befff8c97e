"""The worked example of docs/extending.md: an own source and an own step, from component to golden file."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from examples.shop.keep import KeepOptions, keep
from examples.shop.orders import OrdersOptions, orders
from examples.shop.pipeline import SHOP
from tests.components.steps import prepare
from trainer.catalogue import read_catalogue
from trainer.errors import InputError
from trainer.files import MANIFEST

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
Rows = list[tuple[Any, ...]]


@pytest.fixture
def shop(tmp_path: Path) -> Callable[[Rows], str]:
    """Write a shop's database with some orders and with products of two categories; return its path."""

    def write(ordered: Rows) -> str:
        with sqlite3.connect(tmp_path / "shop.db") as database:
            database.execute("CREATE TABLE orders (customer, sku, quantity, ordered_at)")
            database.execute("CREATE TABLE products (sku, title, category)")
            database.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", ordered)
            products = [(f"s{i}", f"Product {i}", "toys" if i % 2 else "books") for i in range(8)]
            database.executemany("INSERT INTO products VALUES (?, ?, ?)", products)
        return str(tmp_path / "shop.db")

    return write


def many() -> Rows:
    return [(f"c{i % 11}", f"s{i % 8}", 1 + i % 3, f"2026-01-{1 + i % 28:02d} 08:00:00") for i in range(88)]


def rows(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(sorted(folder.glob("part-*.parquet"))).to_pylist()


def test_orders_become_interactions_and_products_the_catalogue(shop: Any, tmp_path: Path) -> None:
    metadata = orders(
        OrdersOptions(database=shop(many())), interactions=tmp_path / "in", catalogue=tmp_path / "known"
    )
    assert metadata["interactions"]["rows"] == len(many())
    found = [(row["user_id"], row["item_id"], row["rating"]) for row in rows(tmp_path / "in")]
    assert found == [(customer, sku, quantity) for customer, sku, quantity, _ in many()]
    assert str(rows(tmp_path / "in")[1]["event_time"]) == "2026-01-02 08:00:00+00:00"
    assert read_catalogue(tmp_path / "known").items.slice(1, 1).to_pylist() == [
        {"item_id": "s1", "title": "Product 1", "category": "toys"}
    ]


def test_what_is_kept_can_be_prepared_and_is_of_the_category(shop: Any, tmp_path: Path) -> None:
    source, known = tmp_path / "in", tmp_path / "known"
    orders(OrdersOptions(database=shop(many())), interactions=source, catalogue=known)
    for categories, kept in (("toys", {"s1", "s3", "s5", "s7"}), ("", {f"s{i}" for i in range(8)})):
        keep(KeepOptions(categories=categories), interactions=source, catalogue=known, kept=tmp_path / "kept")
        outputs = {name: tmp_path / name for name in ("training", "holdout", "vocabulary", "profile")}
        prepare(interactions=tmp_path / "kept", profile_report=tmp_path / "profile.html", **outputs)
        ids = pq.read_table(tmp_path / "vocabulary" / "items.parquet")["id"].to_pylist()
        assert set(ids) == kept


@pytest.mark.parametrize(
    ("ordered", "line"),
    [
        ([], "yields no rows"),
        (
            [("c", "s1", 1, None)],
            "database .*shop.db': has orders without event_time; complete or delete them",
        ),
        ([(None, "s1", None, "2026-01-01")], "has orders without rating, user_id; complete"),
    ],
)
def test_orders_that_cannot_be_used_are_one_line_and_nothing_is_published(
    shop: Any, tmp_path: Path, ordered: Rows, line: str
) -> None:
    options = OrdersOptions(database=shop(ordered))
    with pytest.raises(InputError, match=line):
        orders(options, interactions=tmp_path / "in", catalogue=tmp_path / "known")
    assert not (tmp_path / "in" / MANIFEST).exists()


def test_a_database_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    options = OrdersOptions(database=str(tmp_path / "none.db"))
    with pytest.raises(InputError, match=r"database .*none.db': cannot be read \(unable to open"):
        orders(options, interactions=tmp_path / "in", catalogue=tmp_path / "known")
    assert not (tmp_path / "none.db").exists()


def test_a_category_of_no_product_is_one_line(shop: Any, tmp_path: Path) -> None:
    source, known = tmp_path / "in", tmp_path / "known"
    orders(OrdersOptions(database=shop(many())), interactions=source, catalogue=known)
    with pytest.raises(
        InputError, match=r"^categories 'shoes': are of no item; give categories of the products"
    ):
        keep(KeepOptions(categories="shoes"), interactions=source, catalogue=known, kept=tmp_path / "kept")


def test_the_specs_are_the_reviewed_ones(tmp_path: Path) -> None:
    """A change is a visible diff; `make golden` renews the files."""
    subprocess.run([sys.executable, "-m", "examples.shop.pipeline", tmp_path], cwd=ROOT, check=True)
    names = sorted(path.name for path in GOLDEN.iterdir())
    assert names == sorted(path.name for path in tmp_path.iterdir())
    for name in names:
        assert (tmp_path / name).read_bytes() == (GOLDEN / name).read_bytes(), "renew it with `make golden`"


def test_the_pipeline_has_the_options_of_its_steps_and_none_of_the_extraction() -> None:
    assert {"database", "categories", "latent_factors", "registry"} <= set(SHOP.parameters)
    assert not {"source", "user_column"} & set(SHOP.parameters)
