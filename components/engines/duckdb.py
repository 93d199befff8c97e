"""DuckDB inside the process, its memory bounded and its spill on local disk."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import duckdb

from components.engines import Parameters
from components.engines.sql import Checked, quoted, to_duckdb, used_parameters
from trainer.errors import WalsError, translated
from trainer.threads import usable_cores

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

_BATCH_ROWS = 1 << 19
_MEMORY_LIMIT = "1800MB"
_GROUPS_BY_PLACE = 1 << 24
"""For so many all threads have room, 16 bytes each, where groups go by their places in the range of an
integer: half the time of a hash table."""

_TELL_EACH = 10.0
"""Seconds."""

_FEW_VALUES = 256


@dataclass(frozen=True)
class Exported:
    """A Parquet file.

    Attributes:
        rows: how many it has.
        statistics: of each column that has rows: null_count, and min and max of the other values as text;
            of a column of floating point also has_nan.
    """

    rows: int
    statistics: Mapping[str, Mapping[str, str]]


class DuckDB:
    """Runs BigQuery SQL, translated, over files and over tables of its own; an `Engine`.

    Attributes:
        connection: for what has no place in the SQL files, such as views over files.
    """

    in_process = True

    def __init__(self, scratch: Path, *, ordered: bool) -> None:
        """Open a database of its own.

        Args:
            scratch: local folder for tables and for what does not fit in memory.
            ordered: whether rows keep the order of the files that they come from.
        """
        self.connection = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": _MEMORY_LIMIT,
                "temp_directory": str(scratch / "spill"),
                "preserve_insertion_order": ordered,
            },
        )
        for setting in (
            "TimeZone = 'UTC'",
            "enable_progress_bar = true",
            "enable_progress_bar_print = false",
            f"perfect_ht_threshold = {(_GROUPS_BY_PLACE // usable_cores()).bit_length() - 1}",
        ):
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

    def columns(self, sql: str, parameters: Parameters | None = None) -> list[tuple[str, str]]:
        """Return name and DuckDB type of each column of a query, without running it."""
        statement = f"DESCRIBE {to_duckdb(sql)}"
        described = self.connection.execute(statement, used_parameters(sql, parameters) or None).fetchall()
        return [(name, kind) for name, kind, *_ in described]

    def create(self, name: str, sql: str, parameters: Parameters | None = None) -> None:
        """See `Engine.create`."""
        statement = f'CREATE OR REPLACE TABLE "{name}" AS {to_duckdb(sql)}'
        with _duckdb_errors():
            self.connection.execute(statement, used_parameters(sql, parameters) or None).fetchall()

    def fetch(self, sql: str, parameters: Parameters | None = None) -> "pa.Table":
        """See `Engine.fetch`."""
        with _duckdb_errors():
            table: pa.Table = self._relation(sql, parameters).to_arrow_table()
            return table

    def stream(self, sql: str, parameters: Parameters | None = None) -> "Iterator[pa.RecordBatch]":
        """See `Engine.stream`."""
        with _duckdb_errors():
            yield from _batches(self._relation(sql, parameters).to_arrow_reader(_BATCH_ROWS))

    def cost(self) -> dict[str, int]:
        """See `Engine.cost`: in this process nothing is billed."""
        return {}

    def export(
        self,
        sql: str,
        path: Path,
        parameters: Parameters | None = None,
        *,
        types: Mapping[str, str],
        rows_per_group: int,
        packed: bool,
    ) -> Exported:
        """Write the rows of a query to a Parquet file, in their order.

        Args:
            sql: the query.
            path: of the file.
            parameters: of the query.
            types: DuckDB types of columns that shall have others than the query gives them; a value that
                does not fit is left out (NULL).
            rows_per_group: rows of a row group.
            packed: whether all columns are numbers or have few values: numbers are then written as their
                differences, which is three times as fast as to look for a dictionary first.
        """
        casts = ", ".join(f'TRY_CAST("{name}" AS {kind}) AS "{name}"' for name, kind in types.items())
        file = str(path).replace("'", "''")
        limit = f", DICTIONARY_SIZE_LIMIT {_FEW_VALUES}" if packed else ""
        statement = (
            f"COPY (SELECT * REPLACE ({casts}) FROM ({to_duckdb(sql)})) TO '{file}' "  # noqa: S608 - checked
            f"(FORMAT parquet, PARQUET_VERSION v2, COMPRESSION {'uncompressed' if packed else 'snappy'}, "
            f"ROW_GROUP_SIZE {rows_per_group}, RETURN_STATS true{limit})"
        )
        with _duckdb_errors():
            ((_, rows, _, _, statistics, *_),) = self._watched(statement, used_parameters(sql, parameters))
        return Exported(rows, {name.strip('"'): found for name, found in (statistics or {}).items()})

    def _watched(self, statement: str, parameters: Parameters) -> list[Any]:
        """Return what a statement returns, and log now and then how far it is."""

        def run() -> list[Any]:
            return self.connection.execute(statement, parameters or None).fetchall()

        with ThreadPoolExecutor(1) as executor:
            running = executor.submit(run)
            try:
                while True:
                    with contextlib.suppress(TimeoutError):
                        return running.result(timeout=_TELL_EACH)
                    logger.info("%.0f %% of the source read", max(self.connection.query_progress(), 0.0))
            finally:
                if not running.done():
                    self.connection.interrupt()

    def _relation(self, sql: str, parameters: Parameters | None) -> duckdb.DuckDBPyRelation:
        return self.connection.sql(to_duckdb(sql), params=used_parameters(sql, parameters) or None)


def _batches(reader: "pa.RecordBatchReader") -> "Iterator[pa.RecordBatch]":
    """Yield a reader's batches; what DuckDB says in the middle, Arrow passes on as an error of its own."""
    import pyarrow as pa  # slow to import, and not all work ends as Arrow's

    try:
        yield from reader
    except (OSError, pa.ArrowException) as error:
        kinds = {"Out of Memory Error": duckdb.OutOfMemoryException, "IO Error": duckdb.IOException}
        raise kinds.get(str(error).split(":")[0], duckdb.Error)(str(error)) from error


def _duckdb_errors() -> contextlib.AbstractContextManager[None]:
    """Return a context that turns DuckDB's lack of memory or disk into one line; its other errors pass."""
    return translated(
        ((duckdb.OutOfMemoryException, duckdb.IOException), lambda error: WalsError(f"DuckDB: {error}"))
    )
