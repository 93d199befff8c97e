"""The catalogue artifact (schema ``wals.catalogue`` v1): the items, and which may be shown.

A folder with those of these files that were given

    items.parquet       item_id, title (string) and category (string), each may be missing but the id
    blocked.parquet     item_id of items that are never recommended
    available.parquet   item_id of the only items that are recommended
    _manifest.json      rows and SHA-256 of each file, by name

Ids are text, whatever the type of the interactions' ids: `trainer.vocabulary.Vocabulary.index_of_texts`
finds them in a model. An id that the model does not know is ignored. Each id occurs once in a file, and a
file has its ids in ascending order.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trainer.errors import InputError, translated
from trainer.files import (
    Count,
    Digest,
    Manifest,
    Schema,
    begin_artifact,
    finish_artifact,
    local_file,
    read_manifest,
    replacing,
    sha256,
)
from trainer.scratch import scratch_folder
from trainer.vocabulary import Vocabulary

SCHEMA = Schema("wals.catalogue", 1)

Part = Literal["items", "blocked", "available"]

MAX_ROWS = 10_000_000
"""Rows of a file, which has to fit in memory."""

_ID = pa.schema([("item_id", pa.string())])
_COLUMNS: Mapping[Part, pa.Schema] = {
    "items": pa.schema([*_ID, ("title", pa.string()), ("category", pa.string())]),
    "blocked": _ID,
    "available": _ID,
}
_REWRITE = "run the extraction again"


class Table(Manifest):
    """A file of the artifact, ``PART.parquet``."""

    rows: Count
    sha256: Digest


class Catalogue(Manifest):
    """The fields of the manifest; a part that was not given is missing."""

    tables: Mapping[Part, Table]


@dataclass(frozen=True)
class CatalogueTables:
    """The content of a catalogue.

    Attributes:
        items: item_id, title and category, all strings, by ascending ids; without rows if not given.
        blocked: string ids of items that are never recommended; None if not given.
        available: string ids of the only items that are recommended; None if not given, so that all are.
    """

    items: pa.Table
    blocked: "pa.Array[Any] | None" = None
    available: "pa.Array[Any] | None" = None

    @classmethod
    def of(
        cls,
        items: Any = None,
        *,
        blocked: Iterable[Any] | None = None,
        available: Iterable[Any] | None = None,
    ) -> Self:
        """Return a catalogue of tables and lists in any form.

        Args:
            items: item_id, title and category of items: an Arrow table, a data frame or lists by name; title
                and category may be absent. None if nothing is known about the items.
            blocked: ids of items that are never recommended; None for none.
            available: ids of the only items that are recommended; None for all.

        Raises:
            InputError: there is no column item_id, an id is missing or occurs twice, or values are not of one
                type.

        >>> catalogue = CatalogueTables.of({"item_id": [7], "title": ["Heat (1995)"]}, blocked=[8, 9])
        >>> catalogue.items.to_pylist()
        [{'item_id': '7', 'title': 'Heat (1995)', 'category': None}]
        """
        lists = (None if ids is None else _texts("item_id", ids) for ids in (blocked, available))
        return cls(no_items() if items is None else _items(items), *lists)

    def described(self, vocabulary: Vocabulary) -> pa.Table:
        """Return title and category of each item of a model.

        Args:
            vocabulary: ids of the items.

        Returns:
            A table of len(vocabulary) rows, in the order of the vocabulary, with the columns title and
            category; null where unknown.
        """
        places = vocabulary.places_in(self.items["item_id"])
        return self.items.select(["title", "category"]).take(places)


def no_items() -> pa.Table:
    """Return the table of items of a catalogue that has none."""
    # Unlike Schema.empty_table, this does not import pandas.
    return pa.Table.from_batches([], _COLUMNS["items"])


def ids_of(table: "pa.Table | None") -> "pa.Array[Any] | None":
    """Return the column item_id of a table as one array; None for no table."""
    if table is None:
        return None
    ids: pa.Array[Any] = table["item_id"].combine_chunks()
    return ids


def write_catalogue(folder: Path, catalogue: CatalogueTables) -> dict[str, Any]:
    """Write a catalogue as an artifact and return its manifest.

    Args:
        folder: folder to write.
        catalogue: at most `MAX_ROWS` ids in each part, each once; they may be in any order.

    Raises:
        InputError: the folder cannot be written.
    """
    begin_artifact(folder)
    parts = {
        "items": catalogue.items if catalogue.items.num_rows else None,
        "blocked": _of_ids(catalogue.blocked),
        "available": _of_ids(catalogue.available),
    }
    tables = {}
    for part, schema in _COLUMNS.items():
        table, path = parts[part], _path(folder, part)
        if table is None:
            path.unlink(missing_ok=True)
            continue
        with replacing(path) as temporary:
            pq.write_table(table.cast(schema).sort_by("item_id"), temporary, compression="zstd")
            tables[part] = {"rows": table.num_rows, "sha256": sha256(temporary)}
    content = {"tables": tables}
    finish_artifact(folder, SCHEMA, content)
    return content


def read_catalogue(folder: Path) -> CatalogueTables:
    """Read a catalogue.

    Raises:
        InputError: it is not a complete ``wals.catalogue`` artifact, or one of its files is missing,
            truncated or changed, has other columns, more than `MAX_ROWS` rows, or ids that are missing or
            repeated.
    """
    tables = read_manifest(folder, SCHEMA, Catalogue).tables
    with scratch_folder() as scratch:
        read = {part: _read(folder, part, tables[part], scratch) for part in tables}
    return CatalogueTables(
        read.get("items", no_items()), ids_of(read.get("blocked")), ids_of(read.get("available"))
    )


def _items(items: Any) -> pa.Table:
    """Return the table of items of `CatalogueTables.of` with all columns, as text."""
    # A data frame has no names of columns of its own that are attributes; tables and lists by name do.
    given = {str(name): items[name] for name in getattr(items, "column_names", items)}
    if "item_id" not in given:
        raise InputError("items", ", ".join(given), "has no column item_id", "give one, with the ids as text")
    ids = _texts("item_id", given["item_id"])
    if ids.null_count or pc.count_distinct(ids).as_py() != len(ids):
        raise InputError("item_id", "", "is missing in a row, or occurs twice", "give one row for each item")
    columns = {
        name: _texts(name, given[name]) if name in given else pa.nulls(len(ids), pa.string())
        for name in _COLUMNS["items"].names
    }
    return pa.table(columns).sort_by("item_id")


def _texts(name: str, values: Any) -> "pa.Array[Any]":
    def unusable(_: Exception) -> InputError:
        return InputError(name, "", "has values of several types", "give text")

    with translated(((pa.ArrowException, TypeError), unusable)):
        array: Any = values if isinstance(values, pa.ChunkedArray) else pa.array(values, from_pandas=True)
        chunks = array.cast(pa.string())
        return chunks.combine_chunks() if isinstance(chunks, pa.ChunkedArray) else chunks


def _of_ids(ids: "pa.Array[Any] | None") -> "pa.Table | None":
    return None if ids is None else pa.table({"item_id": ids})


def _path(folder: Path, part: Part) -> Path:
    return folder / f"{part}.parquet"


def _read(folder: Path, part: Part, expected: Table, scratch: Path) -> pa.Table:
    path = _path(folder, part)

    def refused(problem: str) -> InputError:
        return InputError("catalogue", str(path), problem, _REWRITE)

    local = local_file(path, expected.sha256, scratch)
    with (
        translated(((OSError, pa.ArrowException), lambda _: refused("is not a readable Parquet file"))),
        pq.ParquetFile(local) as file,
    ):
        if file.schema_arrow.remove_metadata() != _COLUMNS[part]:
            raise refused(f"has other columns than {', '.join(_COLUMNS[part].names)}, all text")
        if not expected.rows == file.metadata.num_rows <= MAX_ROWS:
            raise refused(f"has {file.metadata.num_rows:,} rows, not {min(expected.rows, MAX_ROWS):,}")
        table = file.read()
    ids = table["item_id"]
    if ids.null_count or not pc.all(pc.less(ids[:-1], ids[1:]), min_count=0).as_py():
        raise refused("has ids that are missing, repeated or not in ascending order")
    return table
