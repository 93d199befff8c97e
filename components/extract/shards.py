"""Interactions as an artifact (schema ``wals.interactions`` v1): sharded Parquet and a manifest.

part-00000.parquet …   user_id and item_id (int64 or string), rating (float32, finite) and, where the
                       source has times, event_time (timestamp, microseconds, UTC)
_manifest.json          rows, columns, source, and of each shard its path, rows and SHA-256
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.threads import ordered_map
from trainer.errors import InputError
from trainer.files import replacing, sha256

logger = logging.getLogger(__name__)

SCHEMA = "wals.interactions"
SCHEMA_VERSION = 1

_ROWS_PER_SHARD = 1 << 22
_ROWS_PER_GROUP = 1 << 20


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        schema: of the shards.
        shards: path, rows and SHA-256 of each, for the manifest.
        rows_without_time: rows whose event_time is missing.
        faulty: columns in which a row has no id (nothing, or blank text) or no finite number.
    """

    schema: pa.Schema
    shards: list[dict[str, Any]]
    rows_without_time: int
    faulty: frozenset[str]

    @property
    def rows(self) -> int:
        """How many there are."""
        return sum(shard["rows"] for shard in self.shards)

    def manifest(self) -> dict[str, Any]:
        """Return the part of the artifact's manifest that tells of the shards."""
        return {
            "rows": self.rows,
            "columns": [{"name": field.name, "type": str(field.type)} for field in self.schema],
            "rows_without_time": self.rows_without_time,
            "shards": self.shards,
        }


def write_shards(folder: Path, source: str, batches: Iterable[pa.RecordBatch]) -> Written:
    """Write record batches as shards of equal size, the last one shorter.

    Args:
        folder: of the artifact, begun.
        source: where they come from, for the error.
        batches: of the columns user_id, item_id, rating and perhaps event_time, in the order in which the
            rows shall be written.

    Raises:
        InputError: there are no rows.
    """

    def write(numbered: tuple[int, list[pa.Table]]) -> tuple[pa.Schema, dict[str, Any], int, set[str]]:
        number, groups = numbered
        path = folder / f"part-{number:05d}.parquet"
        schema = _schema(groups[0].schema)
        cast = [group.cast(schema) for group in groups]
        with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, **_encoding(schema)) as writer:
            for group in cast:
                writer.write_table(group, row_group_size=_ROWS_PER_GROUP)
        rows = sum(group.num_rows for group in groups)
        logger.info("%s: %s rows", path.name, f"{rows:,}")
        timeless = sum(group["event_time"].null_count for group in cast if "event_time" in group.schema.names)
        faulty = {name for group in cast for name in _faulty(group)}
        return schema, {"path": path.name, "rows": rows, "sha256": sha256(path)}, timeless, faulty

    written = list(ordered_map(write, enumerate(_shards(batches))))
    if not written:
        raise InputError("source", source, "yields no rows", "give a source with interactions")
    schemas, shards, timeless, faulty = zip(*written, strict=True)
    return Written(schemas[0], list(shards), sum(timeless), frozenset().union(*faulty))


def _schema(found: pa.Schema) -> pa.Schema:
    kinds: dict[str, pa.DataType] = {"rating": pa.float32(), "event_time": pa.timestamp("us", tz="UTC")}
    return pa.schema([pa.field(field.name, kinds.get(field.name, field.type)) for field in found])


def _encoding(schema: pa.Schema) -> dict[str, Any]:
    """Pack integers and times as differences: smaller, and written and read twice as fast."""
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
    """Cut and join batches into tables of `_ROWS_PER_GROUP` rows, the last one shorter."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        while rows + batch.num_rows >= _ROWS_PER_GROUP:
            taken = _ROWS_PER_GROUP - rows
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
