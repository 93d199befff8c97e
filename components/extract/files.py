"""Extraction from CSV and Parquet files, which DuckDB reads as one table ``source``."""

import contextlib
import glob
import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from components.artifacts.interactions import ROWS_PER_GROUP, Written, file_name
from components.engines.duckdb import DuckDB, literal
from components.engines.sql import Checked, checked_query, quoted, render, subquery, unique_columns
from components.extract.columns import Columns, by_position, kind_of
from components.extract.options import ExtractOptions
from components.extract.query import SQL, Query, Request, logged
from components.extract.storage import check_gzip, find_files, is_parquet
from trainer.errors import InputError, WalsError, translated
from trainer.files import replacing, sha256

logger = logging.getLogger(__name__)

# Values of other types than the statement expects. Ours converts the files' own values without errors.
_OF_SQL = (duckdb.BinderException, duckdb.ConversionException, duckdb.OutOfRangeException)

_TYPES = {
    "INT64": "BIGINT",
    "FLOAT64": "DOUBLE",
    "STRING": "VARCHAR",
    "TIMESTAMP": "TIMESTAMP WITH TIME ZONE",
}
_WRITTEN = {"rating": "FLOAT", "event_time": "TIMESTAMP WITH TIME ZONE"}
_ARROW_TYPES = {
    "BIGINT": "int64",
    "VARCHAR": "string",
    "FLOAT": "float",
    "TIMESTAMP WITH TIME ZONE": "timestamp[us, tz=UTC]",
}
_PLAIN_NUMBER = "fraction"
"""Text of a DOUBLE without leading zeros, which would make it a code."""


def extract_from_files(options: ExtractOptions, output: Path) -> dict[str, Any]:
    """Query files and write the rows.

    Args:
        options: options with a source of files; see `ExtractOptions.with_window`.
        output: folder of an artifact prepared by `begin_artifact`.

    Returns:
        The manifest: what was written, and where it came from.
    """
    with DuckDB.open(ordered=True) as database, replacing(output / file_name(0)) as written_to:
        files = _source_files(database, options, writable=[written_to])
        files.check_divided()
        request = Request(options)
        source = options.described_source()
        without_user: dict[str, int] = {}
        if options.query:
            files.check()
            selected, schema = _selected(database, files, options)
            source |= logged(request.columns(schema))
            written = _extract_query(database, files, request, selected, schema, written_to)
        elif request.is_ratings:
            # First, because to check the files can mean to read them.
            columns = _columns(files, options)
            source |= logged(columns)
            files.check()
            written = _extract_ratings(database, files, request, columns, written_to)
        else:
            files.check()
            files.expose()
            query = request.events(files.schema, files.table, ordered=True)
            with files.read_errors():
                (counted,) = database.fetch(query.without_user, query.parameters).to_pylist()
            without_user = query.check_users(counted["events"])
            written = _write(database, files, query, written_to)
    return {
        **written.manifest(),
        **without_user,
        "source": {**source, "files": files.names},
    }


def look_at(options: ExtractOptions) -> str:
    """Check a source of files without reading its rows, and return its columns in words.

    Args:
        options: options as for `extract_from_files`, which also names the errors.
    """
    with DuckDB.open(ordered=True) as database:
        files = _source_files(database, options)
        files.check_divided()
        request = Request(options)
        if options.query or not request.is_ratings:
            return f"columns {', '.join(files.schema)}"
        columns = _columns(files, options)
        request.condition(files.schema)
        return f"columns {columns}"


def _columns(files: "SourceFiles", options: ExtractOptions) -> Columns:
    """Return the columns of files of ratings by role."""
    positions = {} if options.has_header else by_position(files.schema)
    unnamed = {field: name for field, name in positions.items() if not getattr(options, field)}
    return Request(options.replace(**unnamed)).columns(files.schema, guessed=files.is_text)


def _source_files(database: DuckDB, options: ExtractOptions, writable: Sequence[Path] = ()) -> "SourceFiles":
    return SourceFiles(
        database,
        options.source,
        has_header=options.has_header,
        delimiter=options.delimiter,
        query=options.query,
        row_filter=options.row_filter,
        writable=writable,
    )


def _selected(
    database: DuckDB, files: "SourceFiles", options: ExtractOptions
) -> tuple[Checked, dict[str, str]]:
    """Return the user's query over the files, and the types of its columns."""
    files.expose(files.types_of(files.schema))
    selected = subquery(checked_query("query", options.query, translated=True))
    with files.read_errors():
        columns = database.columns(selected)
    return selected, unique_columns("query", options.query, columns)


def _extract_query(
    database: DuckDB,
    files: "SourceFiles",
    request: Request,
    selected: Checked,
    schema: Mapping[str, str],
    output: Path,
) -> Written:
    query = request.ratings(request.columns(schema), schema, selected, ordered=True)
    written = _write(database, files, query, output)
    if written.faulty:
        field = min(written.faulty)
        raise InputError("query", request.options.query, f"yields rows without {field}", "filter them")
    query.check_times(written.rows, written.rows_without_time)
    return written


def _extract_ratings(
    database: DuckDB, files: "SourceFiles", request: Request, columns: Columns, output: Path
) -> Written:
    files.check_kinds((columns.user, columns.item, columns.rating, columns.timestamp))
    condition = request.condition(files.schema)
    filtered = files.types_of(condition.columns, columns) if condition else {}
    columns = columns.with_text(column for column in columns.types if filtered.get(column) == "VARCHAR")
    if (
        files.is_text
        and columns.types.get(columns.timestamp) == "TIMESTAMP"
        and columns.timestamp not in filtered
    ):
        # Read like any other text, in BigQuery too; only a filter compares it as a time.
        columns = columns.with_text([columns.timestamp])
    types = {**filtered, **{column: _TYPES[kind] for column, kind in columns.types.items()}}
    files.expose(types)
    query = request.ratings(columns, files.schema, files.table)
    written = _write(database, files, query, output)
    ids = {"user_id": columns.user, "item_id": columns.item}
    text = [ids[field] for field in ids if field in written.faulty and columns.types[ids[field]] == "INT64"]
    if files.is_text and text:
        # The first rows look like integers, but a later one is not: the whole column is text.
        return _extract_ratings(database, files, request, columns.with_text(text), output)
    timeless = {"event_time"} if query.windowed and written.rows_without_time else set()
    first = ""
    if written.faulty or (written.rows_without_time and columns.timestamp):
        files.expose(types, numbered=True)
        numbered = request.ratings(columns, files.schema, files.table, numbered=True)
        _refuse_first(database, files, columns, numbered, written.faulty | timeless)
        row = _first_fault(database, files, numbered, "event_time")
        first = f"first {files.text(columns.timestamp, row)!r} in row {row:,}"
    query.check_times(written.rows, written.rows_without_time, first)
    _log_text(files, columns)
    return written


def _log_text(files: "SourceFiles", columns: Columns) -> None:
    """Log which columns of ids in text files are text."""
    for column in (columns.user, columns.item):
        if files.is_text and columns.types[column] == "STRING":
            logger.info("%s: not all ids are integers, so they are text, exactly as written", column)


def _refuse_first(
    database: DuckDB, files: "SourceFiles", columns: Columns, numbered: Query, faulty: frozenset[str]
) -> None:
    """Raise InputError for the first row that cannot be used; see `Written.faulty`."""
    for field, column, problem in (
        ("user_id", columns.user, "is not a user id"),
        ("item_id", columns.item, "is not an item id"),
        ("rating", columns.rating, "is not a finite number"),
        ("event_time", columns.timestamp, "is not a time, which the window requires"),
    ):
        if field in faulty:
            row = _first_fault(database, files, numbered, field)
            raise InputError(
                column, files.text(column, row), f"{problem} (row {row:,})", "remove or fix such rows"
            )


def _write(database: DuckDB, files: "SourceFiles", query: Query, output: Path) -> Written:
    """Write the rows of a query to the file ``output``, and return what is known about them."""
    with files.read_errors():
        columns = database.columns(query.sql, query.parameters)
        types = {name: _WRITTEN.get(name, kind if kind == "VARCHAR" else "BIGINT") for name, kind in columns}
        text = [name for name, kind in types.items() if kind == "VARCHAR"]
        exported = database.export(
            query.sql,
            output,
            query.parameters,
            types=types,
            rows_per_group=ROWS_PER_GROUP,
            packed=not text,
        )
        if not exported.rows:
            raise InputError("source", files.source, "yields no rows", "give a source with interactions")
        blank = [name for name in text if _has_blanks(database, output, name)]
    missing = {name: int(statistics["null_count"]) for name, statistics in exported.statistics.items()}
    faulty = {name for name in ("user_id", "item_id", "rating") if missing[name]}
    if not _all_finite(exported.statistics["rating"]):
        faulty.add("rating")
    return Written(
        [{"name": name, "type": _ARROW_TYPES[kind]} for name, kind in types.items()],
        [{"path": file_name(0), "rows": exported.rows, "sha256": sha256(output)}],
        missing.get("event_time", 0),
        frozenset({*faulty, *blank}),
    )


def _all_finite(statistics: Mapping[str, str]) -> bool:
    bounds = [float(statistics[bound]) for bound in ("min", "max") if bound in statistics]
    return statistics.get("has_nan") != "true" and all(map(math.isfinite, bounds))


def _has_blanks(database: DuckDB, path: Path, field: str) -> bool:
    """Return whether a column of text ids has blank ones."""
    written = database.connection.read_parquet(glob.escape(str(path)), hive_partitioning=False)
    written.create_view("written", replace=True)
    sql = render(SQL, "any_fault.sql", interactions=database.table("written"), field=field)
    (row,) = database.fetch(sql).to_pylist()
    return bool(row["any_fault"])


def _first_fault(database: DuckDB, files: "SourceFiles", numbered: Query, field: str) -> int:
    """Return the number of the first row without a usable ``field``; headers do not count."""
    sql = render(SQL, "first_fault.sql", interactions=Checked(numbered.sql), field=field)
    with files.read_errors():
        (row,) = database.fetch(sql, numbered.parameters).to_pylist()
    return int(row["source_row"])


class SourceFiles:
    """Files of one format, readable as one table.

    Attributes:
        table: quoted name of the table.
        names: names of the files, sorted.
        is_text: whether the files are delimited text rather than Parquet.
        schema: DuckDB types by column; for text files, guessed from their first rows.
    """

    table = quoted("source", "source")

    def __init__(
        self,
        database: DuckDB,
        source: str,
        *,
        has_header: bool = True,
        delimiter: str = "",
        query: str = "",
        row_filter: str = "",
        writable: Sequence[Path] = (),
    ) -> None:
        """Find the files and their columns, and deny the database access to any other file.

        Args:
            database: reads the files.
            source: a file, a folder, a glob pattern, or an address in a store.
            has_header: whether text files begin with the names of their columns.
            delimiter: text between the fields of text files; "" to find it.
            query: the user's query over the files; "" if there is none.
            row_filter: the user's filter of their rows; "" if there is none.
            writable: files that the database may also write.

        Raises:
            InputError: there are no files, they are empty, damaged, not all of one format, or differ in
                their columns.
        """
        self._database = database
        self.source = source
        self._has_header = has_header
        self._delimiter = delimiter
        self._query_text, self._filter_text = query, row_filter
        self.names = find_files(database, self.source)
        names = [*self.names, *map(str, writable)]
        # DuckDB checks the name of a file, and the pattern that stands for it.
        database.confine(sorted({*names, *map(glob.escape, names)}))
        self.is_text = not is_parquet(self.source, self.names)
        with self.read_errors():
            schemas = self._text_schemas() if self.is_text else self._parquet_schemas()
        self._schemas = {file: unique_columns("source", file, columns) for file, columns in schemas.items()}
        self._refuse_missing()
        # Columns that the first file lacks are left out.
        self.schema: Mapping[str, str] = next(iter(self._schemas.values()))
        if self.is_text:
            with self.read_errors():
                described = self._query(f"DESCRIBE SELECT * FROM {self._reader()}")  # noqa: S608 - quoted
            self.schema = {name: kind for name, kind, *_ in described}

    def _parquet_schemas(self) -> dict[str, list[tuple[str, str]]]:
        """Return the name and type of each column of each file."""
        elements: dict[str, list[tuple[str, str, int]]] = {}
        for file, *element in self._query(
            "SELECT file_name, name, duckdb_type, coalesce(num_children, 0) "  # noqa: S608 - quoted
            f"FROM parquet_schema({_literals(self.names)}) ORDER BY file_name, column_id"
        ):
            elements.setdefault(file, []).append((element[0], element[1], element[2]))
        return {file: list(_top_level(schema[1:])) for file, schema in elements.items()}

    def _text_schemas(self) -> dict[str, list[tuple[str, str]]]:
        """Return the names of the columns of each file, all of them of type text.

        DuckDB itself would rename columns that have the same name.
        """
        if not self._has_header:
            return {self.source: []}
        schemas = {}
        for file in self.names:
            reader = self._reader([file], header=False, as_text=True)
            header = self._query(f"SELECT * FROM {reader} LIMIT 1")  # noqa: S608 - quoted
            schemas[file] = [(name, "VARCHAR") for row in header for name in row if name]
        return schemas

    def _refuse_missing(self) -> None:
        (first, first_schema), *others = self._schemas.items()
        for file, schema in others:
            missing = {name.lower() for name in first_schema} - {name.lower() for name in schema}
            if missing and schema:
                raise InputError(
                    "source",
                    file,
                    f"has no column {', '.join(sorted(missing))}, which {first} has",
                    "give files with the same columns",
                )

    def check_divided(self) -> None:
        """Raise InputError if rows of text have one column, as if their delimiter was not found."""
        if self.is_text and len(self.schema) == 1:
            raise InputError(
                "source",
                self.source,
                "its rows cannot be split into the same columns",
                "fix quotes and rows of other lengths, or give the --delimiter",
            )

    def check(self) -> None:
        """Raise InputError if a compressed file does not match its own checksum; reads all of it."""
        if self.is_text:
            check_gzip(self.source, self.names)

    def check_kinds(self, columns: Iterable[str]) -> None:
        """Raise InputError if a column has incompatible types in two files; "" is no column."""
        if self.is_text:
            return
        for column in filter(None, columns):
            kinds: dict[str, str] = {}
            for file, schema in self._schemas.items():
                kinds.update(
                    {kind_of(schema[name]): file for name in schema if name.lower() == column.lower()}
                )
            if len(kinds) > 1:
                raise InputError(
                    "source",
                    self.source,
                    " and ".join(
                        f"column {column!r} holds {kind} in {kinds[kind]}" for kind in sorted(kinds)
                    ),
                    "give files with the same columns",
                )

    def types_of(self, used: Iterable[str], columns: Columns | None = None) -> dict[str, str]:
        """Return the DuckDB types of columns of text files in a row filter or a query.

        A column has the type that its first rows look like if all rows can be read as that type; otherwise it
        is text.

        Args:
            used: the columns in the filter or query.
            columns: columns of the ratings; a filter treats ratings as fractions, and ids as integers or
                text.
        """
        if not self.is_text:
            return {}
        tried = [(column, kind) for column in used for kind in _kinds(column, self.schema[column], columns)]
        fits = ", ".join(
            f"coalesce(bool_and({_name(column)} IS NULL OR {_cast(_name(column), kind)} IS NOT NULL), true)"
            for column, kind in tried
        )
        if not fits:
            return {}
        with self.read_errors():
            (all_fit,) = self._query(f"SELECT {fits} FROM {self._reader(as_text=True)}")  # noqa: S608 - quoted
        types: dict[str, str] = {}
        for (column, kind), fit in zip(tried, all_fit, strict=True):
            if fit:
                types.setdefault(column, kind)
        return types

    def _query(self, sql: str) -> list[tuple[Any, ...]]:
        return self._database.connection.execute(sql).fetchall()

    def _reader(
        self, files: list[str] | None = None, *, header: bool | None = None, as_text: bool = False
    ) -> str:
        names = _literals(self.names if files is None else files)
        if not self.is_text:
            # By name, a column gets the widest of its types; otherwise that of the first file.
            first, *others = self._schemas.values()
            by_name = any(schema != first for schema in others)
            return f"read_parquet({names}, hive_partitioning=false, union_by_name={by_name})"
        delimiter = f", delim={literal(self._delimiter)}" if self._delimiter else ""
        header = self._has_header if header is None else header
        # By default the reader skips first lines, and treats quotes as text, if rows do not fit.
        dialect = """skip=0, quote='"', escape='"', comment='', strict_mode=true, null_padding=false"""
        return (
            f"read_csv({names}, hive_partitioning=false, header={header}, all_varchar={as_text}, "
            f"{dialect}{delimiter})"
        )

    def expose(self, types: Mapping[str, str] | None = None, *, numbered: bool = False) -> None:
        """Create the view `table` over the files.

        Args:
            types: DuckDB types by column, for text files: other columns stay text, and fields that cannot be
                converted become NULL. Without it every column has its guessed type.
            numbered: whether to add the number of each row, from 1, as ``source_row``.
        """
        casts = types or {}
        columns = ", ".join(
            f"{_cast(_name(column), casts[column])} AS {_name(column)}"
            if self.is_text and column in casts
            else _name(column)
            for column in self.schema
        )
        number = "row_number() OVER () AS source_row, " if numbered else ""
        reader = self._reader(as_text=types is not None)
        with self.read_errors():
            self._query(
                f"CREATE OR REPLACE VIEW source AS SELECT {number}{columns} FROM {reader}"  # noqa: S608 - quoted
            )

    def text(self, column: str, row: int) -> str:
        """Return the text that the files have in a column of a row, given by its number."""
        with self.read_errors():
            ((text,),) = self._query(
                f"SELECT {_name(column)} FROM {self._reader(as_text=True)} LIMIT 1 OFFSET {row - 1}"  # noqa: S608
            )
        return "" if text is None else str(text)

    def read_errors(self) -> contextlib.AbstractContextManager[None]:
        """Return a context that turns DuckDB's errors into one line.

        Their causes are a damaged file, a wrong query or a failing store.
        """

        def cannot_be_read(error: duckdb.Error) -> WalsError:
            if isinstance(error, duckdb.PermissionException) and self._query_text:
                return InputError(
                    "query", self._query_text, "reads more than the source", "select only from source"
                )
            field, text = (
                ("query", self._query_text) if self._query_text else ("row_filter", self._filter_text)
            )
            if text and isinstance(error, _OF_SQL) and "CSV Error" not in str(error):
                problem = f"cannot be evaluated: {_reason(error)}"
                return InputError(field, text, problem, "correct its names and types")
            failure = _store_failure(error)
            if failure:
                return WalsError(f"reading {self.source} failed: {failure}")
            return InputError(
                "source", self.source, f"cannot be read: {_reason(error)}", "fix or convert the file"
            )

        return translated((duckdb.Error, cannot_be_read))


def _store_failure(error: duckdb.Error) -> str:
    """Return the error of a store, which DuckDB reports as a traceback; "" if the error is DuckDB's own."""
    match = re.search(r"Traceback \(most recent call last\):\n(?:  .*\n)*(.*)", str(error))
    return match.group(1) if match else ""


def _reason(error: duckdb.Error) -> str:
    """Return DuckDB's message without its settings and its advice, which users of this step cannot apply."""
    message = str(error)
    if "sniffing file" in message or "state machine" in message:
        return (
            "its text is inconsistent (look for unclosed quotes, rows of other lengths, mixed CRLF and LF "
            "line endings, and text that is not UTF-8)"
        )
    return re.split(r"\n(?:Possible |Potential |\tCandidate functions)|\n\n(?:  |LINE )", message)[0].rstrip()


def _top_level(elements: Iterable[tuple[str, str, int]]) -> Iterator[tuple[str, str]]:
    """Yield the name and type of each top-level column of a Parquet schema."""
    nested = 0
    for name, kind, children in elements:
        if not nested:
            yield name, kind
        nested += children - bool(nested)


def _kinds(column: str, looks_like: str, columns: Columns | None) -> list[str]:
    """Return the DuckDB types that may be used to compare a column of text, best first."""
    if columns and column == columns.rating and looks_like != "VARCHAR":
        return ["DOUBLE", "VARCHAR"]
    if columns and column in columns.types:
        return [_TYPES[columns.types[column]], "VARCHAR"]
    if looks_like in ("BIGINT", "DOUBLE"):
        return ["BIGINT", _PLAIN_NUMBER, "VARCHAR"]
    return [looks_like, "VARCHAR"]


def _cast(column: str, kind: str) -> str:
    """Return the SQL that casts a column of text; values that cannot be cast become NULL.

    Only the usual form of an integer is cast, so that no two texts ("1" and "01") become the same.
    """
    if kind == "BIGINT":
        number = f"TRY_CAST({column} AS BIGINT)"
        return f"CASE WHEN CAST({number} AS VARCHAR) = {column} THEN {number} END"
    if kind in ("DOUBLE", _PLAIN_NUMBER):
        # DuckDB also reads 1_000, unlike BigQuery.
        not_read = "_" if kind == "DOUBLE" else "^[+-]?0[0-9]|_"
        return f"CASE WHEN NOT regexp_matches({column}, '{not_read}') THEN TRY_CAST({column} AS DOUBLE) END"
    if kind.startswith(("TIMESTAMP", "DATE")):
        # DuckDB also reads epoch and infinity.
        return f"CASE WHEN regexp_matches({column}, '^[0-9]') THEN TRY_CAST({column} AS {kind}) END"
    return f"TRY_CAST({column} AS {kind})"


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _literals(files: Iterable[str]) -> str:
    """Return a list of files for DuckDB, with characters escaped that it would read as patterns."""
    return "[" + ", ".join(literal(glob.escape(file)) for file in files) + "]"
