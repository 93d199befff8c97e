"""BigQuery: query jobs with a cost cap, and parallel reads of their results with the Storage Read API."""

import contextlib
import hashlib
import json
import logging
import os
import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pyarrow as pa
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery, bigquery_storage
from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

from components.engines import Parameters
from components.engines.sql import Checked, quoted, unique_columns, used_parameters
from trainer.errors import InputError, WalsError, translated

logger = logging.getLogger(__name__)

DOLLARS_PER_TEBIBYTE = 6.25
"""List price of on-demand analysis in most regions, https://cloud.google.com/bigquery/pricing, 2026-11."""

_STREAMS = 8
_BATCHES_WAITING = 16
_LABELS = {"application": "wals"}
_ARROW_TYPES = {
    "INTEGER": "int64",
    "STRING": "string",
    "FLOAT": "double",
    "TIMESTAMP": "timestamp[us, tz=UTC]",
}
_ROLES = {
    "bigquery.jobs.create": "roles/bigquery.jobUser",
    "bigquery.readsessions.": "roles/bigquery.readSessionUser",
    "bigquery.datasets.get": "roles/bigquery.dataEditor",
    "bigquery.tables.get": "roles/bigquery.dataViewer",
    "bigquery.tables.create": "roles/bigquery.dataEditor",
    "bigquery.tables.update": "roles/bigquery.dataEditor",
    "bigquery.tables.delete": "roles/bigquery.dataEditor",
}
"""The role to grant for each permission that a refusal may name, by the beginning of its name.

The datasets that are looked up are those that tables are created in.
"""

_TYPES = {str: "STRING", int: "INT64", float: "FLOAT64"}

_UTC = [bigquery.ConnectionProperty("time_zone", "UTC")]
"""Without it, a project's own time zone would move dates and text without a zone."""


class TimeTravelError(WalsError):
    """A table cannot be read as of a moment, because it has, or had, row access policies."""


@dataclass(frozen=True)
class Source:
    """What a query reads: a table, a view, a wildcard over tables, or another query.

    Attributes:
        schema: type of each column, including the pseudo-columns of partitioning by time of ingestion.
        has_snapshots: whether it can be read as of a moment.
        ingested_by: unit of its partitioning by time of ingestion: HOUR, DAY, MONTH or YEAR; "" if none.
    """

    schema: dict[str, str]
    has_snapshots: bool = False
    ingested_by: str = ""


@dataclass(frozen=True)
class Layout:
    """What a table that stays must look like.

    Attributes:
        columns: its columns.
        partitioned_by: the DATE column that it has a partition for each day of; "" for none.
        clustered_by: the column that the rows of a partition are sorted by; "" for none.
    """

    columns: tuple[bigquery.SchemaField, ...]
    partitioned_by: str = ""
    clustered_by: str = ""


def digest_of(sql: str, parameters: Parameters | None) -> str:
    """Return what tells a query with its parameters from others, for the name of its table."""
    return hashlib.sha256(json.dumps([sql, parameters]).encode()).hexdigest()[:12]


def source_of(table: bigquery.Table) -> Source:
    """Return what a table's metadata say of it as a source."""
    schema = {field.name: field.field_type for field in table.schema}
    partitioning = table.time_partitioning
    ingested_by = partitioning.type_ if partitioning and not partitioning.field else ""
    if ingested_by:
        schema["_PARTITIONTIME"] = "TIMESTAMP"
    if ingested_by == "DAY":
        schema["_PARTITIONDATE"] = "DATE"
    return Source(schema, table.table_type == "TABLE", ingested_by)


class BigQuery:
    """Runs query jobs and reads their results; an `Engine`.

    Attributes:
        project: project that runs and pays for the queries.
        location: location in which they run; "" if BigQuery chooses it.
    """

    in_process = False

    def __init__(
        self, *, project: str, location: str, dataset: str, prefix: str, maximum_bytes_billed: int
    ) -> None:
        """Connect to BigQuery.

        With ``BIGQUERY_EMULATOR_HOST`` (REST, a URL) and ``BIGQUERY_STORAGE_EMULATOR_HOST`` (gRPC,
        ``host:port``) in the environment it connects to an emulator, without credentials.

        Args:
            project: project that runs and pays for the queries. Without it, Vertex AI's own would be used.
            location: location of the data, such as "EU"; that of what `describe` finds if "".
            dataset: ``project.dataset`` for the tables of `create`; "" if none are created.
            prefix: prefix of those tables' names.
            maximum_bytes_billed: refuse queries that would read more; 0 is unlimited.

        Raises:
            WalsError: there are no credentials.
        """
        self._bytes_billed = self._slot_milliseconds = 0
        self._dataset = dataset
        self._prefix = prefix
        self._adopted: dict[str, str] = {}
        self._maximum_bytes_billed = maximum_bytes_billed
        self.project = project
        self.location = location
        emulated = "BIGQUERY_EMULATOR_HOST" in os.environ
        with _bigquery_errors(project):
            self._client = bigquery.Client(
                project=project,
                credentials=AnonymousCredentials() if emulated else None,  # type: ignore[no-untyped-call]
            )
            if emulated:
                channel = grpc.insecure_channel(os.environ["BIGQUERY_STORAGE_EMULATOR_HOST"])
                self._reader = bigquery_storage.BigQueryReadClient(  # type: ignore[no-untyped-call]
                    transport=BigQueryReadGrpcTransport(channel=channel)
                )
            else:
                self._reader = bigquery_storage.BigQueryReadClient()  # type: ignore[no-untyped-call]

    def describe(self, table: str) -> Source:
        """Return what is known about ``project.dataset.table``, and run all later queries in its location.

        Raises:
            InputError: the table does not exist.
            WalsError: the table cannot be read.
        """
        if table.endswith("*"):
            return self.describe_query(f"SELECT * FROM {quoted('source', table)}")  # noqa: S608
        with _bigquery_errors(table):
            metadata = self._client.get_table(table)
        self._settle(metadata.location)
        return source_of(metadata)

    def describe_query(self, sql: str) -> Source:
        """Return what is known about a query without running it; see `describe`.

        Raises:
            InputError: it is not a single SELECT.
            WalsError: BigQuery refused or failed.
        """
        with _bigquery_errors("query"):
            job = self._query(sql, self._config(sql, None, dry_run=True))
        if job.statement_type != "SELECT":
            raise InputError(
                "query",
                sql,
                f"is not a SELECT ({job.statement_type})",
                "give a query that yields the interactions",
            )
        self._settle(job.location)
        fields = ((field.name, field.field_type) for field in job.schema or ())
        return Source(unique_columns("query", sql, fields))

    def check_dataset(self, field: str = "staging_dataset") -> None:
        """Check the dataset for tables, and run all later jobs in its location.

        Args:
            field: the parameter that the dataset came from, for the errors.

        Raises:
            InputError: it does not exist, or is in another location than that of a source described before.
            WalsError: it cannot be read.
        """

        def missing(_: Exception) -> InputError:
            return InputError(field, self._dataset, "does not exist", "create it, or give another dataset")

        with _bigquery_errors(self._dataset), translated((exceptions.NotFound, missing)):
            location = self._client.get_dataset(self._dataset).location or ""
        if self.location and location.lower() != self.location.lower():
            raise InputError(
                field,
                self._dataset,
                f"is in {location}, and the source in {self.location}",
                "give a dataset in the source's location",
            )
        if not self.location:
            self._settle(location)

    def columns(self, name: str) -> list[dict[str, str]]:
        """Return the name and Arrow type of each column of the table ``name`` that `create` created."""
        with _bigquery_errors(self._path(name)):
            schema = self._client.get_table(self._path(name)).schema
        return [{"name": field.name, "type": _ARROW_TYPES[field.field_type]} for field in schema]

    def now(self) -> str:
        """Return the time on BigQuery's clock, in a form that it casts to a timestamp."""
        (row,) = self.fetch("SELECT CURRENT_TIMESTAMP() AS now").to_pylist()
        return str(row["now"].isoformat(" ", "microseconds"))

    def estimate(self, sql: str, parameters: Parameters | None = None) -> int:
        """Return the bytes that a query would read without running it."""
        with _bigquery_errors("query"):
            job = self._query(sql, self._config(sql, parameters, dry_run=True))
        return job.total_bytes_processed or 0

    def table(self, name: str) -> Checked:
        """See `Engine.table`."""
        return quoted("table", self._path(name))

    def create(
        self,
        name: str,
        sql: str,
        parameters: Parameters | None = None,
        lifetime: timedelta = timedelta(days=1),
    ) -> None:
        """See `Engine.create`; the table is deleted after its lifetime."""
        with _bigquery_errors(self._path(name)):
            config = self._config(sql, parameters)
            config.destination = self._path(name)
            config.write_disposition = bigquery.WriteDisposition.WRITE_TRUNCATE
            self._run(sql, config)
            table = self._client.get_table(self._path(name))
            table.expires = datetime.now(UTC) + lifetime
            self._client.update_table(table, ["expires"])

    def load(
        self,
        name: str,
        file: Path,
        columns: Sequence[bigquery.SchemaField],
        lifetime: timedelta = timedelta(days=1),
    ) -> int:
        """Create or replace the table ``name`` with the rows of a Parquet file, and return their number.

        Args:
            name: name of the table.
            file: path of the file.
            columns: its columns, by the names in the file.
            lifetime: time after which the table is deleted.

        Raises:
            InputError: BigQuery cannot read the file.
            WalsError: BigQuery refused or failed.
        """
        path = self._path(name)
        table = bigquery.Table(path, columns)
        table.labels = _LABELS
        table.expires = datetime.now(UTC) + lifetime
        lists = bigquery.ParquetOptions()  # type: ignore[no-untyped-call]
        lists.enable_list_inference = True
        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET,
            parquet_options=lists,
            schema=columns,
            create_disposition=bigquery.CreateDisposition.CREATE_NEVER,
            write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
            labels=_LABELS,
        )
        with _bigquery_errors(path), file.open("rb") as content:
            # Before, because a load job cannot make a table that expires.
            self._client.create_table(table, exists_ok=True)
            job = self._client.load_table_from_file(
                content, path, job_config=config, location=self.location or None
            )
            job.result()
        return int(job.output_rows or 0)

    def ensure(self, name: str, layout: Layout, field: str) -> int:
        """Create the table ``name``, unless there is one with this layout, and return its number of rows.

        Args:
            name: name of the table.
            layout: what it must look like.
            field: the parameter that the dataset came from, for the error.

        Raises:
            InputError: there is a table, or a view, that looks different.
            WalsError: BigQuery refused or failed.
        """
        path = self._path(name)
        table = bigquery.Table(path, layout.columns)
        table.labels = _LABELS
        if layout.partitioned_by:
            table.time_partitioning = bigquery.TimePartitioning(field=layout.partitioned_by)
        if layout.clustered_by:
            table.clustering_fields = [layout.clustered_by]
        with _bigquery_errors(path):
            found = self._client.create_table(table, exists_ok=True)
        if difference := _difference(found, layout):
            remedy = "drop or rename it, or give another dataset"
            raise InputError(field, path, f"exists but {difference}", remedy)
        return int(found.num_rows or 0)

    def keep(self, name: str, days: int) -> None:
        """Keep the table ``name`` for good, and each of its partitions for a number of days.

        Args:
            name: name of a table; without partitions, the number of days has no effect.
            days: number of days; 0 for good.

        Raises:
            WalsError: BigQuery refused or failed.
        """
        expiration = timedelta(days=days) // timedelta(milliseconds=1) or None
        with _bigquery_errors(self._path(name)):
            table = self._client.get_table(self._path(name))
            partitioning = table.time_partitioning
            # Both may come from defaults of the dataset.
            changes = ["expires"] if table.expires else []
            table.expires = None
            if partitioning and partitioning.expiration_ms != expiration:
                partitioning.expiration_ms = expiration
                table.time_partitioning = partitioning
                changes.append("time_partitioning")
            if changes:
                self._client.update_table(table, changes)

    def run_script(self, what: str, sql: str, parameters: Parameters | None = None) -> None:
        """Run several statements as one job. BigQuery cannot estimate its cost.

        Args:
            what: what it does, for the error: "swap tables".
            sql: the statements.
            parameters: values of the parameters of all statements.

        Raises:
            WalsError: a statement failed.
        """

        def failed(error: exceptions.GoogleAPIError) -> WalsError:
            return WalsError(f"BigQuery could not {what}: {_message(error)}")

        with _bigquery_errors(what), translated(((exceptions.BadRequest, exceptions.NotFound), failed)):
            job = self._query(sql, self._config(sql, parameters))
            job.result()
        self._bytes_billed += job.total_bytes_billed or 0
        self._slot_milliseconds += job.slot_millis or 0

    def drop(self, name: str) -> None:
        """Delete the table ``name``, if it exists."""
        with _bigquery_errors(self._path(name)):
            self._client.delete_table(self._path(name), not_found_ok=True)

    def fetch(self, sql: str, parameters: Parameters | None = None) -> pa.Table:
        """See `Engine.fetch`."""
        session = self._session(sql, parameters)
        return pa.Table.from_batches(self._read(session), _schema(session))

    def stream(self, sql: str, parameters: Parameters | None = None) -> Iterator[pa.RecordBatch]:
        """See `Engine.stream`. The rows come in no particular order, from several streams at once.

        They are written to a table of the dataset first, if there is one: without a destination BigQuery
        refuses results of more than 10 GB.
        """
        if not self._dataset:
            yield from self._read(self._session(sql, parameters))
            return
        name = f"rows_{digest_of(sql, parameters)}"
        self.create(name, sql, parameters)
        path = bigquery.TableReference.from_string(self._path(name))
        yield from self._read(self._table_session(path))

    def cost(self) -> dict[str, int]:
        """See `Engine.cost`."""
        return {"bytes_billed": self._bytes_billed, "slot_milliseconds": self._slot_milliseconds}

    def adopt(self, name: str, table: str) -> None:
        """Refer to an existing table of the dataset as ``name``."""
        self._adopted[name] = table

    def _path(self, name: str) -> str:
        return f"{self._dataset}.{self._adopted.get(name, self._prefix + name)}"

    def _settle(self, location: str | None) -> None:
        """Run all later queries in a location, unless one has been given."""
        self.location = self.location or location or ""
        logger.info("BigQuery jobs run in %s, and %s pays for them", self.location, self.project)

    def _query(self, sql: str, config: bigquery.QueryJobConfig) -> bigquery.QueryJob:
        return self._client.query(sql, config, location=self.location or None)

    def _config(
        self, sql: str, parameters: Parameters | None, *, dry_run: bool = False
    ) -> bigquery.QueryJobConfig:
        return bigquery.QueryJobConfig(
            query_parameters=[
                bigquery.ScalarQueryParameter(name, _TYPES[type(value)], value)
                for name, value in used_parameters(sql, parameters).items()
            ],
            connection_properties=_UTC,
            labels=_LABELS,
            dry_run=dry_run,
            use_query_cache=not dry_run,
        )

    def _run(self, sql: str, config: bigquery.QueryJobConfig) -> bigquery.QueryJob:
        self._check_cost(sql, config)
        job = self._query(sql, config)
        job.result(page_size=1)
        self._bytes_billed += job.total_bytes_billed or 0
        self._slot_milliseconds += job.slot_millis or 0
        return job

    def _check_cost(self, sql: str, config: bigquery.QueryJobConfig) -> None:
        """Refuse a query before it costs anything; BigQuery enforces the limit if the estimate is wrong."""
        dry = bigquery.QueryJobConfig(
            query_parameters=config.query_parameters,
            connection_properties=_UTC,
            dry_run=True,
            use_query_cache=False,
        )
        estimate = self._query(sql, dry).total_bytes_processed or 0
        price = estimate / 2**40 * DOLLARS_PER_TEBIBYTE
        if estimate:
            logger.info("query reads %s bytes (about $%.2f on demand)", f"{estimate:,}", price)
        if not self._maximum_bytes_billed:
            return
        if estimate > self._maximum_bytes_billed:
            raise InputError(
                "maximum_bytes_billed",
                self._maximum_bytes_billed,
                f"the query would read {estimate:,} bytes (about ${price:.2f})",
                "raise it or narrow the query",
            )
        config.maximum_bytes_billed = self._maximum_bytes_billed

    def _session(self, sql: str, parameters: Parameters | None) -> Any:
        with _bigquery_errors("query"):
            job = self._run(sql, self._config(sql, parameters))
        return self._table_session(job.destination)

    def _table_session(self, table: bigquery.TableReference) -> Any:
        with _bigquery_errors("query"):
            return self._reader.create_read_session(
                parent=f"projects/{self.project}",
                read_session=bigquery_storage.ReadSession(
                    table=table.to_bqstorage(), data_format=bigquery_storage.DataFormat.ARROW
                ),
                max_stream_count=_STREAMS,
            )

    def _read(self, session: Any) -> Iterator[pa.RecordBatch]:
        """Read all streams of a session at once.

        The client resumes a broken stream after the last row received, so that no row is lost or repeated.
        """
        schema = _schema(session)
        batches: queue.Queue[pa.RecordBatch | None] = queue.Queue(_BATCHES_WAITING)
        stopped = False

        def read(name: str) -> None:
            try:
                for message in self._reader.read_rows(name):  # type: ignore[no-untyped-call]
                    if stopped:
                        return
                    content = message.arrow_record_batch.serialized_record_batch
                    batches.put(pa.ipc.read_record_batch(pa.py_buffer(content), schema))
            finally:
                batches.put(None)

        with _bigquery_errors("query"), ThreadPoolExecutor(_STREAMS) as executor:
            reads = [executor.submit(read, stream.name) for stream in session.streams]
            try:
                running = len(reads)
                while running:
                    batch = batches.get()
                    if batch is None:
                        running -= 1
                    elif batch.num_rows:
                        yield batch
                for finished in reads:
                    finished.result()
            finally:
                stopped = True
                while not all(future.done() for future in reads):
                    with contextlib.suppress(queue.Empty):
                        batches.get(timeout=0.1)


def _schema(session: bigquery_storage.ReadSession) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema))


def _difference(table: bigquery.Table, layout: Layout) -> str:
    """Return how a table differs from its layout, "" if it does not."""
    if table.table_type not in (None, "TABLE"):
        return f"is a {table.table_type.lower()}"
    found, wanted = _columns(table.schema), _columns(layout.columns)
    if found != wanted:
        return f"has the columns {', '.join(sorted(found))} instead of {', '.join(sorted(wanted))}"
    by = table.time_partitioning.field or "" if table.time_partitioning else ""
    if by != layout.partitioned_by:
        return f"is partitioned by {by or 'nothing'} instead of {layout.partitioned_by or 'nothing'}"
    return ""


def _columns(schema: Sequence[bigquery.SchemaField]) -> set[str]:
    """Return name and type of each column."""
    return {
        f"{field.name} ARRAY<{field.field_type}>"
        if field.mode == "REPEATED"
        else f"{field.name} {field.field_type}"
        for field in schema
    }


def _bigquery_errors(what: str) -> contextlib.AbstractContextManager[None]:
    """Return a context that turns BigQuery's errors into one line about ``what``, a table or a query."""
    return translated(
        (
            exceptions.NotFound,
            lambda _: InputError("BigQuery", what, "does not exist (or not in this location)", "check both"),
        ),
        (exceptions.BadRequest, lambda error: InputError("BigQuery", what, _message(error), _remedy(error))),
        (exceptions.Forbidden, lambda error: _refusal(what, error)),
        (
            (exceptions.GoogleAPIError, GoogleAuthError),
            lambda error: WalsError(f"BigQuery failed on {what}: {_message(error)}"),
        ),
    )


def _remedy(error: exceptions.BadRequest) -> str:
    if "partition elimination" in _message(error):
        return "give a window over such a column, or a row_filter on it"
    return "fix the query or its parameters"


def _refusal(what: str, error: exceptions.Forbidden) -> WalsError:
    message = _message(error)
    # Neither has an error code of its own.
    if "Time travel" in message and "row access polic" in message:
        return TimeTravelError(f"BigQuery refuses {what}: {message}")
    if "Response too large" in message:
        return InputError(
            "BigQuery",
            what,
            "returns more than 10 GB, which requires a table for the result",
            "give a staging_dataset, or narrow the query",
        )
    roles = [role for permission, role in _ROLES.items() if permission in message]
    remedy = f"; grant {roles[0]} to the account that the step runs as" if roles else ""
    return WalsError(f"BigQuery refuses {what}: {message}{remedy}")


def _message(error: Exception) -> str:
    return str(getattr(error, "message", None) or error)
