"""DuckDB inside the process, its memory bounded and its spill on local disk."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import duckdb
import pyarrow as pa

from components.engines import Parameters
from components.engines.sql import Checked, quoted, to_duckdb, used_parameters
from trainer.errors import WalsError

_BATCH_ROWS = 1 << 19
_MEMORY_LIMIT = "1800MB"


class DuckDB:
    """Runs BigQuery SQL, translated, over files and over tables of its own; an `Engine`.

    Attributes:
        connection: for what has no place in the SQL files, such as views over files.
    """

    def __init__(self, scratch: Path, *, ordered: bool) -> None:
        """Open a database of its own.

        Args:
            scratch: local folder for tables and for what does not fit in memory.
            ordered: whether rows keep the order of the files that they come from.
        """
        self.connection = duckdb.connect(
            str(scratch / "tables.duckdb"),
            config={
                "memory_limit": _MEMORY_LIMIT,
                "temp_directory": str(scratch / "spill"),
                "preserve_insertion_order": ordered,
            },
        )
        for setting in ("TimeZone = 'UTC'", "enable_progress_bar = false"):
            self.connection.execute(f"SET {setting}").fetchall()

    @classmethod
    @contextlib.contextmanager
    def open(cls, *, ordered: bool) -> Iterator[Self]:
        """Yield a database in a scratch folder that is removed at the end; see `__init__`."""
        with tempfile.TemporaryDirectory(prefix="wals-") as scratch:
            database = cls(Path(scratch), ordered=ordered)
            try:
                yield database
            finally:
                database.connection.close()

    def table(self, name: str) -> Checked:
        """See `Engine.table`."""
        return quoted("table", name)

    def columns(self, sql: str) -> list[tuple[str, str]]:
        """Return name and DuckDB type of each column of a query, without running it."""
        described = self.connection.execute(f"DESCRIBE {to_duckdb(sql)}").fetchall()
        return [(name, kind) for name, kind, *_ in described]

    def create(self, name: str, sql: str, parameters: Parameters | None = None) -> None:
        """See `Engine.create`."""
        statement = f'CREATE OR REPLACE TABLE "{name}" AS {to_duckdb(sql)}'
        with _one_line():
            self.connection.execute(statement, used_parameters(sql, parameters) or None).fetchall()

    def fetch(self, sql: str, parameters: Parameters | None = None) -> pa.Table:
        """See `Engine.fetch`."""
        with _one_line():
            table: pa.Table = self._relation(sql, parameters).to_arrow_table()
            return table

    def stream(self, sql: str, parameters: Parameters | None = None) -> Iterator[pa.RecordBatch]:
        """See `Engine.stream`."""
        with _one_line():
            yield from _batches(self._relation(sql, parameters).to_arrow_reader(_BATCH_ROWS))

    def _relation(self, sql: str, parameters: Parameters | None) -> duckdb.DuckDBPyRelation:
        return self.connection.sql(to_duckdb(sql), params=used_parameters(sql, parameters) or None)


def _batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Yield a reader's batches; what DuckDB says in the middle, Arrow passes on as an error of its own."""
    try:
        yield from reader
    except (OSError, pa.ArrowException) as error:
        kinds = {"Out of Memory Error": duckdb.OutOfMemoryException, "IO Error": duckdb.IOException}
        raise kinds.get(str(error).split(":")[0], duckdb.Error)(str(error)) from error


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
        raise WalsError(f"DuckDB: {error}") from error
