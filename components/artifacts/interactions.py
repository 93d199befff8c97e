"""The interactions artifact (schema ``wals.interactions`` v1): Parquet files and a manifest.

part-00000.parquet …   user_id and item_id (int64 or string), rating (float32, finite) and, if the
                       source has times, event_time (timestamp, microseconds, UTC)
_manifest.json          rows, columns, source, for events the number of those without a user, and the path,
                       rows and SHA-256 of each file (shard)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pydantic
from pydantic import StringConstraints

from trainer.files import Count, Digest, Manifest, Schema

SCHEMA = Schema("wals.interactions", 1)

ROWS_PER_GROUP = 1 << 20


class Column(Manifest):
    """Name and Arrow type of a column."""

    name: str
    type: str


class Shard(Manifest):
    """A file, which is in the artifact's own folder."""

    path: Annotated[str, StringConstraints(pattern=r"^part-\d{5,}\.parquet$")]
    rows: Count
    sha256: Digest


class Staged(Manifest):
    """A table in BigQuery that holds the interactions instead of files."""

    project: str
    location: str
    dataset: str
    table: str
    maximum_bytes_billed: Count


class Source(Manifest):
    """Where interactions come from; "" stands for what was not given.

    Attributes:
        uri: the source as it was given.
        data_type: kind of its rows, such as ``ratings``.
        snapshot: time of the snapshot that was read, ISO 8601 in UTC; "" if there is none, as for files.
        query: the user's query over the source.
        row_filter: the user's condition on its rows.
        window_start: time from which on interactions were taken.
        window_end: time before which interactions were taken.
        files: names of the files that were read, in order; none for a table.
    """

    uri: str
    data_type: str
    snapshot: str = ""
    query: str = ""
    row_filter: str = ""
    window_start: str = ""
    window_end: str = ""
    files: tuple[str, ...] = ()


class Interactions(Manifest):
    """The fields of the manifest that preparation reads."""

    rows: Count
    columns: tuple[Column, ...]
    rows_without_time: Count
    shards: tuple[Shard, ...]
    staged: Staged | None = None
    source: Source | None = None

    @pydantic.field_validator("columns")
    @classmethod
    def _with_ids(cls, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        types = {column.name: column.type for column in columns}
        for name in ("user_id", "item_id"):
            if types.get(name) not in ("int64", "string"):
                raise ValueError(f"lacks {name} as int64 or string")
        return columns


@dataclass(frozen=True)
class Written:
    """Interactions that have been written to files.

    Attributes:
        columns: name and Arrow type of each column.
        shards: path, rows and SHA-256 of each, for the manifest.
        rows_without_time: rows whose event_time is missing.
        faulty: columns in which some row has no id (null or blank text) or no finite number.
    """

    columns: Sequence[dict[str, str]]
    shards: Sequence[dict[str, Any]]
    rows_without_time: int
    faulty: frozenset[str]

    @property
    def rows(self) -> int:
        """Number of interactions."""
        return sum(shard["rows"] for shard in self.shards)

    def manifest(self) -> dict[str, Any]:
        """Return the part of the artifact's manifest that describes the files."""
        return {
            "rows": self.rows,
            "columns": list(self.columns),
            "rows_without_time": self.rows_without_time,
            "shards": list(self.shards),
        }


def file_name(number: int) -> str:
    """Return the name of a file by its number, which starts at 0."""
    return f"part-{number:05d}.parquet"
