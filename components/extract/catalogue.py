"""Extraction of the catalogue: what is known about the items, and which of them may be recommended."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from components.engines.duckdb import DuckDB
from components.engines.sql import Checked, quoted, render
from components.extract.columns import ItemColumns, find_id_column, find_item_columns
from components.extract.files import SourceFiles
from components.extract.names import ITEM_SOURCES, table_of
from components.extract.options import ExtractOptions
from components.extract.query import SQL
from trainer.catalogue import (
    MAX_ROWS,
    SCHEMA,
    CatalogueTables,
    ids_of,
    no_items,
    write_catalogue,
)
from trainer.errors import InputError, counted
from trainer.files import identity

logger = logging.getLogger(__name__)

_NOTHING = ""
_LONGEST_TEXT = 300
"""Characters that are kept of a title or a category, which are shown in lists."""


def extract_catalogue(options: ExtractOptions, output: Path) -> dict[str, Any]:
    """Write the catalogue as an artifact of schema ``wals.catalogue``; without any source it is empty.

    Args:
        options: what to extract and from where.
        output: folder of the artifact.

    Returns:
        Metadata of the artifact: rows of each of its files, checksum and schema_version.

    Raises:
        InputError: a source, a column or a row of it cannot be used, or the output cannot be written.
        WalsError: BigQuery or a store failed or denied access.
    """
    tables = {field: _read(field, options) for field in given(options)}
    catalogue = CatalogueTables(
        tables.get("items", no_items()),
        ids_of(tables.get("blocked_items")),
        ids_of(tables.get("available_items")),
    )
    content = write_catalogue(output, catalogue)
    rows = {part: table["rows"] for part, table in content["tables"].items()}
    return {**rows, **identity(SCHEMA, content)}


def given(options: ExtractOptions) -> list[str]:
    """Return those of `ITEM_SOURCES` that have a value."""
    return [field for field in ITEM_SOURCES if getattr(options, field)]


def look_at(field: str, options: ExtractOptions) -> str:
    """Check a source and its columns without reading its rows, and return what it has or costs in words.

    Args:
        field: option that names the source.
        options: see `extract_catalogue`, which also has the errors.
    """
    with _opened(field, options) as source:
        sql = _sql(field, options, source)
        return source.described(sql)


@dataclass(frozen=True)
class _Source:
    """A source that can be queried.

    Attributes:
        table: its quoted name.
        schema: type of each column.
        has_blank_lines: whether lines without an id are no rows.
        check_kinds: raises InputError if a column has incompatible types in two files.
        fetch: returns the rows of a query.
        described: returns what the source has, or the cost of a query, in words.
    """

    table: Checked
    schema: Mapping[str, str]
    has_blank_lines: bool
    check_kinds: Callable[[Iterable[str]], None]
    fetch: Callable[[str], pa.Table]
    described: Callable[[str], str]


@contextlib.contextmanager
def _opened(field: str, options: ExtractOptions) -> Iterator[_Source]:
    """Yield the source that an option names; errors about "the source" are then about that option."""
    place = getattr(options, field)
    open_source = _in_bigquery if place.startswith("bq://") else _in_files
    try:
        with open_source(place, options) as source:
            yield source
    except InputError as error:
        if getattr(error, "field", "") != "source":
            raise
        raise InputError(field, error.value, error.problem, error.remedy) from error


@contextlib.contextmanager
def _in_files(place: str, _: ExtractOptions) -> Iterator[_Source]:
    with DuckDB.open(ordered=False) as database:
        files = SourceFiles(database, place)
        # Everything in text is read as text, whatever it looks like.
        schema = dict.fromkeys(files.schema, "VARCHAR") if files.is_text else files.schema

        def fetch(sql: str) -> pa.Table:
            files.check()
            files.expose({})
            with files.read_errors():
                return database.fetch(sql)

        yield _Source(
            files.table,
            schema,
            files.is_text and len(schema) == 1,
            files.check_kinds,
            fetch,
            lambda _: f"columns {', '.join(schema)}",
        )


@contextlib.contextmanager
def _in_bigquery(place: str, options: ExtractOptions) -> Iterator[_Source]:
    # Google's libraries are slow to import, and files do not need them.
    from components.engines.bigquery import BigQuery

    project, table = table_of(place, "")
    engine = BigQuery(
        project=options.project or project,
        location=options.location,
        dataset="",
        prefix="",
        maximum_bytes_billed=options.maximum_bytes_billed,
    )
    yield _Source(
        quoted("source", table),
        engine.describe(table).schema,
        False,
        lambda _: None,
        engine.fetch,
        lambda sql: f"the query would read {engine.estimate(sql):,} bytes",
    )


def _sql(field: str, options: ExtractOptions, source: _Source) -> str:
    """Return the query for the rows of a source."""
    place = getattr(options, field)
    if field == "items":
        columns = find_item_columns(
            place,
            source.schema,
            item_column=options.item_column,
            item_title_column=options.item_title_column,
            item_category_column=options.item_category_column,
        )
    else:
        columns = ItemColumns(find_id_column(place, source.schema, item_column=options.item_column))
    source.check_kinds((columns.item, columns.title, columns.category))
    return render(
        SQL,
        "catalogue.sql",
        source=source.table,
        item=quoted("item_column", columns.item),
        title=columns.title and quoted("item_title_column", columns.title),
        category=columns.category and quoted("item_category_column", columns.category),
        longest_text=Checked(_LONGEST_TEXT),
        without_blank_lines=source.has_blank_lines,
        most_rows=Checked(MAX_ROWS + 1),
    )


def _read(field: str, options: ExtractOptions) -> pa.Table:
    """Return item_id, title and category of each item of a source."""
    place = getattr(options, field)
    with _opened(field, options) as source:
        rows = source.fetch(_sql(field, options, source))
    _check(field, place, rows)
    logger.info("%s: %s items from %s", field, f"{rows.num_rows:,}", place)
    for name in ("title", "category") if field == "items" else ():
        missing = rows[name].null_count
        if missing:
            logger.info("%s: %s have no %s", field, f"{missing:,}", name)
    texts = [_trimmed(rows[name]) for name in ("title", "category")]
    return pa.table([rows["item_id"], *texts], names=["item_id", "title", "category"])


def _check(field: str, place: str, rows: pa.Table) -> None:
    """Raise InputError for rows that are too many, none, without an id, or in contradiction."""
    if rows.num_rows > MAX_ROWS:
        raise InputError(
            field, place, f"has more than {MAX_ROWS:,} items", "give only those in the interactions"
        )
    if not rows.num_rows and field != "blocked_items":
        raise InputError(field, place, "has no rows", "give at least one item, or omit it")
    ids = rows["item_id"]
    if ids.null_count or pc.any(pc.equal(pc.utf8_trim_whitespace(ids), pa.scalar(_NOTHING))).as_py():
        raise InputError(field, place, "has rows without an id", "remove or fix them")
    for column, what in (("titles", "titles"), ("categories", "categories")):
        several = ids.filter(pc.greater(rows[column], pa.scalar(1)))
        if len(several):
            first = pc.min(several).as_py()
            raise InputError(
                field,
                place,
                f"has several {what} for {counted(len(several), 'item')}, such as {first!r}",
                "give each item one title and one category",
            )


def _trimmed(texts: "pa.ChunkedArray[Any]") -> Any:
    """Return texts without white space around them; null if nothing is left."""
    trimmed = pc.utf8_trim_whitespace(texts)
    return pc.if_else(pc.equal(trimmed, pa.scalar(_NOTHING)), pa.scalar(None, pa.string()), trimmed)
