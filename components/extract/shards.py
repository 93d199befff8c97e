"""Writes record batches of interactions as the files of an artifact."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.artifacts.interactions import ROWS_PER_GROUP, Written, file_name
from components.threads import ordered_map
from trainer.errors import InputError
from trainer.files import replacing, sha256

logger = logging.getLogger(__name__)

_ROWS_PER_SHARD = 1 << 22


def write_shards(folder: Path, source: str, batches: Iterable[pa.RecordBatch]) -> Written:
    """Write record batches as shards of equal size; the last one may be shorter.

    Args:
        folder: folder of an artifact prepared by `begin_artifact`.
        source: source of the rows, for the error.
        batches: batches with the columns user_id, item_id, rating and optionally event_time; the rows keep
            their order.

    Raises:
        InputError: there are no rows.
    """

    def write(numbered: tuple[int, list[pa.Table]]) -> tuple[pa.Schema, dict[str, Any], int, set[str]]:
        number, groups = numbered
        path = folder / file_name(number)
        schema = _schema(groups[0].schema)
        cast = [group.cast(schema) for group in groups]
        with replacing(path) as temporary:
            with pq.ParquetWriter(temporary, schema, **_encoding(schema)) as writer:
                for group in cast:
                    writer.write_table(group, row_group_size=ROWS_PER_GROUP)
            digest = sha256(temporary)
        rows = sum(group.num_rows for group in groups)
        logger.info("%s: %s rows", path.name, f"{rows:,}")
        timeless = sum(group["event_time"].null_count for group in cast if "event_time" in group.schema.names)
        faulty = {name for group in cast for name in _faulty(group)}
        return schema, {"path": path.name, "rows": rows, "sha256": digest}, timeless, faulty

    written = list(ordered_map(write, enumerate(_shards(batches))))
    if not written:
        raise InputError("source", source, "yields no rows", "give a source with interactions")
    schemas, shards, timeless, faulty = zip(*written, strict=True)
    columns = [{"name": field.name, "type": str(field.type)} for field in schemas[0]]
    return Written(columns, shards, sum(timeless), frozenset().union(*faulty))


def _schema(schema: pa.Schema) -> pa.Schema:
    types: dict[str, pa.DataType] = {"rating": pa.float32(), "event_time": pa.timestamp("us", tz="UTC")}
    return pa.schema([pa.field(field.name, types.get(field.name, field.type)) for field in schema])


def _encoding(schema: pa.Schema) -> dict[str, Any]:
    """Delta-encode integers and times, which is smaller, and twice as fast to write and to read."""
    packed = [
        field.name for field in schema if pa.types.is_int64(field.type) or pa.types.is_timestamp(field.type)
    ]
    return {
        "column_encoding": dict.fromkeys(packed, "DELTA_BINARY_PACKED"),
        "use_dictionary": [name for name in schema.names if name not in packed],
        "compression": {name: "none" if name in packed else "snappy" for name in schema.names},
    }


def _faulty(table: pa.Table) -> Iterator[str]:
    for name in ("user_id", "item_id"):
        column = table[name]
        is_text = pa.types.is_string(column.type)
        if column.null_count or (
            is_text and pc.any(pc.equal(pc.utf8_trim_whitespace(column), pa.scalar(""))).as_py()
        ):
            yield name
    rating = table["rating"]
    if rating.null_count or not pc.all(pc.is_finite(rating)).as_py():
        yield "rating"


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield the batches as tables of `ROWS_PER_GROUP` rows; the last one may be shorter."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        while rows + batch.num_rows >= ROWS_PER_GROUP:
            taken = ROWS_PER_GROUP - rows
            yield pa.Table.from_batches([*held, batch.slice(0, taken)])
            batch, held, rows = batch.slice(taken), [], 0
        if batch.num_rows:
            held.append(batch)
            rows += batch.num_rows
    if held:
        yield pa.Table.from_batches(held)


def _shards(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.Table]]:
    groups: list[pa.Table] = []
    for group in _groups(batches):
        groups.append(group)
        if sum(part.num_rows for part in groups) >= _ROWS_PER_SHARD:
            yield groups
            groups = []
    if groups:
        yield groups
