"""The engines that run the steps' SQL: BigQuery, and DuckDB inside the process. Both take BigQuery SQL."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from components.engines.sql import Checked

if TYPE_CHECKING:
    import pyarrow as pa

Parameters = Mapping[str, Any]
"""Values of the ``@name`` parameters of a query: str, int or float."""


class Engine(Protocol):
    """Runs BigQuery SQL over tables with short names.

    Attributes:
        in_process: whether the rows are in this process, so that reading them costs neither money nor a
            transfer.
    """

    in_process: bool

    def table(self, name: str) -> Checked:
        """Return the quoted name of the table ``name`` for SQL."""
        ...

    def create(self, name: str, sql: str, parameters: Parameters | None = None) -> None:
        """Create or replace the table ``name`` with the rows of a query."""
        ...

    def fetch(self, sql: str, parameters: Parameters | None = None) -> "pa.Table":
        """Return the rows of a query, which must fit in memory, in no particular order."""
        ...

    def stream(self, sql: str, parameters: Parameters | None = None) -> "Iterator[pa.RecordBatch]":
        """Yield the rows of a query as record batches."""
        ...

    def cost(self) -> dict[str, int]:
        """Return what the queries so far have used: bytes_billed and slot_milliseconds, or nothing."""
        ...
