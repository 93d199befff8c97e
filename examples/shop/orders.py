"""An own source: the orders of a shop in a SQLite database become the artifacts that extraction writes."""

import logging
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field

from components.artifacts.interactions import SCHEMA
from components.extract.shards import write_shards
from trainer.catalogue import CatalogueTables, write_catalogue
from trainer.errors import InputError, translated
from trainer.files import begin_artifact, finish_artifact, identity
from trainer.options import Options, group

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE = 100_000
_ORDERS = """
SELECT customer, sku, quantity, CAST(strftime('%s', ordered_at) AS INTEGER) * 1000000
FROM orders ORDER BY rowid
"""
_PRODUCTS = "SELECT sku, title, category FROM products"
_COLUMNS: Mapping[str, "pa.DataType"] = {
    "user_id": pa.string(),
    "item_id": pa.string(),
    "rating": pa.float32(),
    "event_time": pa.timestamp("us", tz="UTC"),
}


class OrdersOptions(Options):
    """Which orders to read."""

    database: str = Field(
        description="SQLite database of the shop, with the tables orders and products.",
        json_schema_extra=group("Data"),
    )


def orders(options: OrdersOptions, *, interactions: Path, catalogue: Path) -> dict[str, dict[str, Any]]:
    """Write the orders as interactions, and the products as the catalogue.

    Args:
        options: which orders to read.
        interactions: folder of an artifact of schema ``wals.interactions``.
        catalogue: folder of an artifact of schema ``wals.catalogue``.

    Returns:
        Metadata by artifact: rows, checksum and schema_version.

    Raises:
        InputError: the database cannot be read, or an order has no customer, product, quantity or time.
    """
    begin_artifact(interactions)
    with (
        translated((sqlite3.Error, lambda error: _unreadable(options, error))),
        closing(_open(options)) as shop,
    ):
        products = pa.Table.from_pylist(
            [dict(zip(("item_id", "title", "category"), row, strict=True)) for row in shop.execute(_PRODUCTS)]
        )
        known = write_catalogue(catalogue, CatalogueTables.of(products))
        written = write_shards(interactions, options.database, _batches(shop.execute(_ORDERS)))
    if written.faulty or written.rows_without_time:
        missing = ", ".join(sorted({*written.faulty, *(["event_time"] if written.rows_without_time else [])}))
        raise InputError(
            "database", options.database, f"has orders without {missing}", "complete or delete them"
        )
    content = {**written.manifest(), "source": {"uri": options.database, "data_type": "orders"}}
    # The manifest completes the artifact: it is written last, so a retry never finds half of one.
    finish_artifact(interactions, SCHEMA, content)
    logger.info("%s orders from %s", f"{written.rows:,}", options.database)
    return {
        "interactions": {"rows": written.rows, **identity(SCHEMA, content)},
        "catalogue": {"rows": known["tables"]["items"]["rows"]},
    }


def _open(options: OrdersOptions) -> sqlite3.Connection:
    # SQLite would create a database that is not there.
    return sqlite3.connect(f"{Path(options.database).absolute().as_uri()}?mode=ro", uri=True)


def _unreadable(options: OrdersOptions, error: sqlite3.Error) -> InputError:
    return InputError(
        "database", options.database, f"cannot be read ({error})", "check the path and the tables"
    )


def _batches(rows: sqlite3.Cursor) -> Iterator[pa.RecordBatch]:
    """Yield rows a batch at a time, so that a large database needs little memory."""
    while batch := rows.fetchmany(_ROWS_AT_ONCE):
        columns = zip(_COLUMNS.items(), zip(*batch, strict=True), strict=True)
        yield pa.RecordBatch.from_pydict({name: pa.array(values, kind) for (name, kind), values in columns})
