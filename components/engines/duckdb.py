"""DuckDB inside the process, with bounded memory, spilling to local disk."""

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import duckdb

from components.engines import Parameters
from components.engines.sql import Checked, quoted, to_duckdb, used_parameters
from trainer.errors import WalsError, translated
from trainer.scratch import scratch_folder
from trainer.threads import usable_cores

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

_BATCH_ROWS = 1 << 19
_MEMORY_LIMIT = "1800MB"
_ARRAY_GROUPS = 1 << 24
"""Groups, over all threads, for which DuckDB groups integers by their place in an array (16 bytes a group)
instead of a hash table, which takes half the time."""

_LOG_EVERY = 10.0
"""Seconds between the log lines of a long statement."""

_FEW_VALUES = 256


@dataclass(frozen=True)
class Exported:
    """A Parquet file that has been written.

    Attributes:
        rows: number of rows.
        statistics: statistics by column, if there are rows: null_count, min and max of the other values as
            text, and has_nan for floating-point columns.
    """

    rows: int
    statistics: Mapping[str, Mapping[str, str]]


class DuckDB:
    """Runs translated BigQuery SQL over files and its own tables; an `Engine`.

    Attributes:
        connection: connection for statements outside the SQL files, such as views over files.
    """

    in_process = True

    def __init__(self, scratch: Path, *, ordered: bool) -> None:
        """Open a new database.

        Args:
            scratch: local folder for data that does not fit in memory.
            ordered: whether rows keep the order of the files they come from.
        """
        self.connection = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": _MEMORY_LIMIT,
                "temp_directory": str(scratch / "spill"),
                "preserve_insertion_order": ordered,
                # Freed memory goes back to the system soon, and not only when a query needs more of it.
                "allocator_background_threads": True,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                # Names of tables are never Python variables.
                "python_enable_replacements": False,
            },
        )
        for setting in (
            "TimeZone = 'UTC'",
            "enable_progress_bar = true",
            "enable_progress_bar_print = false",
            f"perfect_ht_threshold = {(_ARRAY_GROUPS // usable_cores()).bit_length() - 1}",
        ):
            self.connection.execute(f"SET {setting}").fetchall()

    @classmethod
    @contextlib.contextmanager
    def open(cls, *, ordered: bool) -> Iterator[Self]:
        """Yield a database in a scratch folder that is removed at the end; see `__init__`."""
        with scratch_folder() as scratch:
            database = cls(scratch, ordered=ordered)
            try:
                yield database
            finally:
                database.connection.close()

    def confine(self, files: Iterable[str]) -> None:
        """Deny all access to files and the network except to some files, for good, and lock the settings.

        Call it before SQL that the user wrote; DuckDB raises duckdb.PermissionException for what is denied.

        Args:
            files: files, or patterns, exactly as statements will name them.
        """
        allowed = ", ".join(literal(file) for file in files)
        for setting in (
            f"allowed_paths = [{allowed}]",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            self.connection.execute(f"SET {setting}").fetchall()

    def table(self, name: str) -> Checked:
        """See `Engine.table`."""
        return quoted("table", name)

    def columns(self, sql: str, parameters: Parameters | None = None) -> list[tuple[str, str]]:
        """Return the name and DuckDB type of each column of a query without running it."""
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
        """Write the rows of a query to a Parquet file, in order.

        Args:
            sql: the query.
            path: path of the file.
            parameters: parameters of the query.
            types: DuckDB types of columns to convert; values that do not fit become NULL.
            rows_per_group: number of rows in a row group.
            packed: whether all columns are numbers or have few values. Numbers are then delta-encoded, three
                times as fast as when a dictionary is tried first.
        """
        casts = ", ".join(f'TRY_CAST("{name}" AS {kind}) AS "{name}"' for name, kind in types.items())
        limit = f", DICTIONARY_SIZE_LIMIT {_FEW_VALUES}" if packed else ""
        file = literal(str(path))
        # A temporary file of DuckDB's own would not be among those that `confine` allows.
        statement = (
            f"COPY (SELECT * REPLACE ({casts}) FROM ({to_duckdb(sql)})) TO {file} "  # noqa: S608 - checked
            f"(FORMAT parquet, PARQUET_VERSION v2, COMPRESSION {'uncompressed' if packed else 'snappy'}, "
            f"ROW_GROUP_SIZE {rows_per_group}, RETURN_STATS true, USE_TMP_FILE false{limit})"
        )
        with _duckdb_errors():
            ((_, rows, _, _, statistics, *_),) = self._run_logged(statement, used_parameters(sql, parameters))
        return Exported(rows, {name.strip('"'): values for name, values in (statistics or {}).items()})

    def _run_logged(self, statement: str, parameters: Parameters) -> list[Any]:
        """Return the rows of a statement, and log its progress every few seconds."""

        def run() -> list[Any]:
            return self.connection.execute(statement, parameters or None).fetchall()

        with ThreadPoolExecutor(1) as executor:
            running = executor.submit(run)
            try:
                while True:
                    with contextlib.suppress(TimeoutError):
                        return running.result(timeout=_LOG_EVERY)
                    logger.info("%.0f %% of the source read", max(self.connection.query_progress(), 0.0))
            finally:
                if not running.done():
                    self.connection.interrupt()

    def _relation(self, sql: str, parameters: Parameters | None) -> duckdb.DuckDBPyRelation:
        return self.connection.sql(to_duckdb(sql), params=used_parameters(sql, parameters) or None)


def literal(text: str) -> str:
    """Return a text as a literal of DuckDB's SQL."""
    return "'" + text.replace("'", "''") + "'"


def _batches(reader: "pa.RecordBatchReader") -> "Iterator[pa.RecordBatch]":
    """Yield a reader's batches; turn errors during reading, which Arrow wraps, back into DuckDB's."""
    import pyarrow as pa  # slow to import, and not every query returns Arrow data

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
