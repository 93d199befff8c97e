"""Interactions out of CSV and Parquet files, read by the embedded engine as one table ``source``."""

import contextlib
import glob
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pyarrow as pa

from components.engines.embedded import DuckDB
from components.engines.sql import quoted
from components.extract.columns import Columns, by_position
from components.extract.query import Request
from components.extract.shards import Written, write_shards
from trainer.errors import InputError, WalsError

_PARQUET = (".parquet", ".pq")
_TEXT = (".csv", ".tsv", ".txt", ".dat", ".csv.gz", ".tsv.gz", ".txt.gz", ".dat.gz")
_CLOUD = "gs://"
_TYPES = {"INT64": "BIGINT", "STRING": "VARCHAR", "TIMESTAMP": "TIMESTAMP WITH TIME ZONE"}


def extract_from_files(
    request: Request, source: str, output: Path, *, delimiter: str, has_header: bool
) -> dict[str, Any]:
    """Run the request's query over files and write its rows.

    Args:
        request: what to extract.
        source: a file, a folder of files, or a glob pattern, here or on Cloud Storage.
        output: folder of the artifact, begun.
        delimiter: between the fields of text files; "" to find it out.
        has_header: whether text files begin with the names of the columns.

    Returns:
        The manifest: of what was written, and where it came from.
    """
    with DuckDB.open(ordered=True) as database:
        files = LocalFiles(database, source, delimiter=delimiter, has_header=has_header)
        if request.query:
            written = _of_query(database, files, request, output)
        elif request.is_ratings:
            positions = {} if has_header else by_position(files.schema)
            unnamed = {field: name for field, name in positions.items() if not getattr(request, field)}
            request = replace(request, **unnamed)
            written = _of_ratings(database, files, request, request.columns(files.schema), output)
        else:
            files.expose()
            sql = request.events_sql(files.schema, files.table, snapshot=False, suffixes=False)
            written = _write(database, files, sql, request, output)
            for field in sorted(written.faulty):
                raise InputError("source", source, f"has events without {field}", "filter or mend them")
    return {**written.manifest(), "source": {"uri": source, "data_type": request.data_type}}


def _of_query(database: DuckDB, files: "LocalFiles", request: Request, output: Path) -> Written:
    files.expose()
    selected = request.table(files.table)
    with files.reading():
        schema = database.schema(f"SELECT * FROM {selected}")  # noqa: S608 - checked
    sql = request.ratings_sql(request.columns(schema), schema, selected, snapshot=False)
    written = _write(database, files, sql, request, output)
    for field in sorted(written.faulty):
        raise InputError("query", request.query, f"yields rows without {field}", "filter or mend them")
    return written


def _of_ratings(
    database: DuckDB, files: "LocalFiles", request: Request, columns: Columns, output: Path
) -> Written:
    filtered = files.schema if request.row_filter else {}
    files.expose({**filtered, **{column: _TYPES[kind] for column, kind in columns.types.items()}})
    sql = request.ratings_sql(columns, files.schema, files.table, snapshot=False)
    written = _write(database, files, sql, request, output)
    ids = {"user_id": columns.user, "item_id": columns.item}
    text = [ids[field] for field in ids if field in written.faulty and columns.types[ids[field]] == "INT64"]
    if files.is_text and text:
        # The first rows have integers where a later one has other text: then all of them are text.
        return _of_ratings(database, files, request, columns.with_text(text), output)
    for field, column, condition, problem in (
        ("user_id", columns.user, _missing, "is no user id"),
        ("item_id", columns.item, _missing, "is no item id"),
        ("rating", columns.rating, _no_number, "is no finite number"),
    ):
        if field in written.faulty:
            row, value = files.first_row(column, condition(column))
            raise InputError(column, value, f"{problem} (row {row:,})", "remove or mend such rows")
    return written


def _write(database: DuckDB, files: "LocalFiles", sql: str, request: Request, output: Path) -> Written:
    with files.reading():
        return write_shards(output, database.stream(sql, request.parameters()))


class LocalFiles:
    """Files of one format, readable as one table.

    Attributes:
        table: its quoted name.
        is_text: whether the files are CSV (or the like) and not Parquet.
        schema: DuckDB type by column; of text files, what their first rows look like.
    """

    table = quoted("source", "source")

    def __init__(self, database: DuckDB, source: str, *, delimiter: str, has_header: bool) -> None:
        """Find the files and look at their columns; see `extract_from_files`.

        Raises:
            InputError: there are no files, they are empty, damaged, or not all of one format.
        """
        self._database = database
        self._source = source
        self._has_header = has_header
        self._delimiter = delimiter
        self._files = _cloud_files(database, source) if source.startswith(_CLOUD) else _files(source)
        self.is_text = not _is_parquet(source, self._files)
        with self.reading():
            described = database.connection.execute(
                f"DESCRIBE SELECT * FROM {self._reader()}"  # noqa: S608 - quoted
            ).fetchall()
            self.schema: Mapping[str, str] = {name: kind for name, kind, *_ in described}
            if self.is_text and len(self.schema) == 1:
                raise InputError(
                    "source",
                    source,
                    "its rows do not divide into the same columns",
                    "mend quotes and rows of other lengths, or name the --delimiter",
                )
            if self.is_text and has_header:
                self._refuse_duplicates()

    def _refuse_duplicates(self) -> None:
        """DuckDB tells columns of one name apart by itself; which of them is meant only the user knows."""
        reader = self._reader(header=False, as_text=True)
        query = f"SELECT * FROM {reader} LIMIT 1"  # noqa: S608 - quoted
        (header,) = self._database.connection.execute(query).fetchall()
        names = [(name or "").lower() for name in header]
        for name in header:
            if name and names.count(name.lower()) > 1:
                raise InputError(
                    "source", self._source, f"has several columns {name!r}", "rename or drop one"
                )

    def _reader(self, *, header: bool | None = None, as_text: bool = False) -> str:
        files = "[" + ", ".join(_literal(file) for file in self._files) + "]"
        if not self.is_text:
            return f"read_parquet({files})"
        delimiter = f", delim={_literal(self._delimiter)}" if self._delimiter else ""
        header = self._has_header if header is None else header
        # Left to itself the reader would skip first lines, and take quotes for text, where rows do not fit.
        dialect = """skip=0, quote='"', escape='"', comment='', strict_mode=true, null_padding=false"""
        return f"read_csv({files}, header={header}, all_varchar={as_text}, {dialect}{delimiter})"

    def expose(self, types: Mapping[str, str] | None = None) -> None:
        """Make the files the table `table`.

        Args:
            types: DuckDB type by column, for text files: columns not named stay text, and fields that cannot
                be converted become NULL. Without it every column has the type that it looks like.
        """
        columns = "*"
        if self.is_text and types:
            casts = ", ".join(
                f"{_cast(_name(column), kind)} AS {_name(column)}" for column, kind in types.items()
            )
            columns = f"* REPLACE ({casts})"
        reader = self._reader(as_text=types is not None)
        with self.reading():
            self._database.connection.execute(
                f"CREATE OR REPLACE VIEW source AS SELECT {columns} FROM {reader}"  # noqa: S608 - quoted
            ).fetchall()

    def first_row(self, column: str, condition: str) -> tuple[int, str]:
        """Return the first row that meets a condition: its number, without headers, and a column's text.

        Args:
            column: whose text to return.
            condition: DuckDB SQL over the columns of `table`.
        """
        with self.reading():
            ((number, text),) = self._database.connection.execute(
                f"SELECT number, {_name(column)} "  # noqa: S608 - quoted
                "FROM (SELECT row_number() OVER () AS number, * FROM source) "
                f"WHERE {condition} ORDER BY number LIMIT 1"
            ).fetchall()
        return number, "" if text is None else str(text)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Turn what DuckDB says of a damaged file or a wrong query into one line."""
        try:
            yield
        except duckdb.Error as error:
            raise InputError(
                "source", self._source, f"cannot be read: {_reason(error)}", "mend or convert the file"
            ) from error


def _reason(error: duckdb.Error) -> str:
    """Return what DuckDB says is wrong, without its settings and its advice, which are not the user's."""
    said = str(error)
    if "sniffing file" in said:
        return (
            "its text is not of one form (look for open quotes, rows of other lengths, line endings that "
            "are CRLF here and LF there, and text that is not UTF-8)"
        )
    return re.split(r"\n(?:Possible|Potential) |\n\n  ", said)[0].rstrip()


def _missing(column: str) -> str:
    """Return the DuckDB condition that an id is missing or blank."""
    return f"{_name(column)} IS NULL OR trim(CAST({_name(column)} AS VARCHAR)) = ''"


def _no_number(column: str) -> str:
    """Return the DuckDB condition that a rating is no finite float32."""
    return f"NOT coalesce(isfinite(TRY_CAST({_name(column)} AS FLOAT)), false)"


def _files(source: str) -> list[str]:
    path = Path(source)
    if path.is_dir():
        found = sorted(str(file) for file in path.rglob("*") if _is_known(file.name))
    elif path.is_file():
        found = [source]
    else:
        found = sorted(glob.glob(source, recursive=True))  # noqa: PTH207 - patterns may be absolute
    _refuse_empty(source, [Path(file).stat().st_size for file in found])
    return found


def _cloud_files(database: DuckDB, source: str) -> list[str]:
    try:
        storage = fsspec.filesystem("gs")
        if "*" in source:
            found = storage.glob(source)
        elif storage.isdir(source):
            found = [file for file in storage.find(source) if _is_known(file)]
        else:
            found = [source] if storage.exists(source) else []
        _refuse_empty(source, [storage.size(file) for file in found])
        database.connection.register_filesystem(storage)
    except InputError:
        raise
    except Exception as error:  # gcsfs raises its own, aiohttp's, Google's and the system's
        raise WalsError(f"Cloud Storage failed on {source}: {error}") from error
    return sorted(file if file.startswith(_CLOUD) else _CLOUD + file for file in found)


def _is_known(file: str) -> bool:
    return file.lower().endswith((*_PARQUET, *_TEXT))


def _refuse_empty(source: str, sizes: list[int]) -> None:
    if not sizes:
        raise InputError(
            "source", source, "there is no such file, or no CSV or Parquet file in it", "check the path"
        )
    if not any(sizes):
        raise InputError("source", source, "is empty", "give a file with interactions")


def _is_parquet(source: str, files: list[str]) -> bool:
    parquet = [file.lower().endswith(_PARQUET) for file in files]
    if any(parquet) and not all(parquet):
        raise InputError("source", source, "has Parquet and text files", "give files of one format")
    return all(parquet)


def _cast(column: str, kind: str) -> str:
    """Cast text to integers only where no two texts become one ("1" and "01"), else to NULL."""
    if kind != "BIGINT":
        return f"TRY_CAST({column} AS {kind})"
    number = f"TRY_CAST({column} AS BIGINT)"
    return f"CASE WHEN CAST({number} AS VARCHAR) = {column} THEN {number} END"


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
