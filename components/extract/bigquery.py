"""Extraction from BigQuery, into Parquet files or a table that stays in BigQuery."""

import logging
import secrets
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from components.engines.bigquery import BigQuery, Source, TimeTravelError, digest_of
from components.engines.sql import Checked, checked_query, quoted, render, subquery
from components.extract.names import table_of
from components.extract.options import ExtractOptions
from components.extract.query import SQL, Query, Request, logged
from components.extract.shards import write_shards
from components.times import timestamp
from trainer.errors import InputError, counted

logger = logging.getLogger(__name__)

_STAGED_FOR = timedelta(days=14)
_TRIED_FOR = timedelta(hours=1)
_PROBLEMS = {"user_id": "no user id", "item_id": "no item id", "rating": "no finite rating"}


def extract_from_bigquery(options: ExtractOptions, output: Path) -> dict[str, Any]:
    """Query BigQuery and write the rows, or keep them in the staging dataset.

    Args:
        options: options with a source in BigQuery; see `ExtractOptions.with_window`.
        output: folder of an artifact prepared by `begin_artifact`.

    Returns:
        The manifest: what was written, and where it came from.
    """
    engine, table = _engine(options)
    request = Request(options)
    selected, source = _described(engine, request, table)
    columns = logged(request.columns(source.schema)) if request.is_ratings else {}
    if options.staging_dataset:
        engine.check_dataset()
    # The name of a staged table depends on the parameters, so with the moment each extraction gets its own.
    moment = timestamp(options.snapshot) or engine.now()

    def read(*, pinned: bool) -> dict[str, Any]:
        query = _query(request, source, selected, table, pinned=pinned)
        query = replace(query, parameters={**query.parameters, "snapshot": moment})
        content = _read(engine, options, query, output)
        content["source"] = {
            **options.described_source(),
            **columns,
            "snapshot": moment if pinned else "",
            **engine.cost(),
        }
        return content

    try:
        return read(pinned=source.has_snapshots)
    except TimeTravelError as error:
        if options.snapshot:
            raise InputError(
                "snapshot",
                options.snapshot,
                f"is not supported for {selected}, which has, or had, row access policies",
                "omit it, or ask for bigquery.rowAccessPolicies.overrideTimeTravelRestrictions",
            ) from error
        logger.warning(
            "%s has or had row access policies, so it is read in its current state, without a snapshot",
            selected,
        )
        return read(pinned=False)


def look_at(options: ExtractOptions) -> str:
    """Check a source in BigQuery without reading its rows, and return its columns and its cost in words.

    Args:
        options: options as for `extract_from_bigquery`, which also names the errors.
    """
    engine, table = _engine(options)
    request = Request(options)
    selected, source = _described(engine, request, table)
    moment = timestamp(options.snapshot) or engine.now()

    def bytes_of(*, pinned: bool) -> int:
        query = _query(request, source, selected, table, pinned=pinned)
        return engine.estimate(query.sql, {**query.parameters, "snapshot": moment})

    try:
        cost = bytes_of(pinned=source.has_snapshots)
    except TimeTravelError:
        cost = bytes_of(pinned=False)
    columns = f"columns {request.columns(source.schema)}; " if request.is_ratings else ""
    return f"{columns}the query would read {cost:,} bytes"


def try_staging(options: ExtractOptions) -> None:
    """Create a table in the staging dataset, in the source's location, and delete it.

    Raises:
        InputError: the dataset does not exist, or is in another location.
        WalsError: BigQuery failed or denied access.
    """
    engine, table = _engine(options)
    _described(engine, Request(options), table)
    engine.check_dataset()
    name = f"probe_{secrets.token_hex(6)}"
    engine.create(name, "SELECT 1 AS probe", lifetime=_TRIED_FOR)
    engine.drop(name)


def _engine(options: ExtractOptions) -> tuple[BigQuery, str]:
    """Return the engine of an extraction, and the table of its source."""
    source_project, table = table_of(options.source, options.data_type)
    engine = BigQuery(
        project=options.project or source_project,
        location=options.location,
        dataset=options.staging_dataset,
        prefix="wals_",
        maximum_bytes_billed=options.maximum_bytes_billed,
    )
    return engine, table


def _described(engine: BigQuery, request: Request, table: str) -> tuple[Checked, Source]:
    """Return what to select from, and what is known about it."""
    options = request.options
    if options.query:
        # BigQuery checks the user's query by itself, where no parenthesis of ours can be closed from inside.
        query = checked_query("query", options.query, translated=False)
        selected, source = subquery(query), engine.describe_query(query)
    else:
        selected, source = quoted("source", table), engine.describe(table)
    if options.snapshot and not source.has_snapshots:
        raise InputError(
            "snapshot",
            options.snapshot,
            f"is not supported for {selected}, which is not a plain table",
            "omit it",
        )
    return selected, source


def _query(request: Request, source: Source, selected: Checked, table: str, *, pinned: bool) -> Query:
    """Return the query for the interactions."""
    if request.is_ratings:
        columns = request.columns(source.schema)
        return request.ratings(
            columns,
            source.schema,
            selected,
            snapshot=pinned,
            stored_time=source.schema.get(columns.timestamp, ""),
            ingested_by=source.ingested_by,
        )
    return request.events(
        source.schema,
        selected,
        wildcard=table if table.endswith("*") else "",
        snapshot=pinned,
        ingested_by=source.ingested_by,
    )


def _read(engine: BigQuery, options: ExtractOptions, query: Query, output: Path) -> dict[str, Any]:
    """Write the rows, or keep them in the staging dataset; return that part of the manifest."""
    without_user = {}
    if query.without_user:
        (counted,) = engine.fetch(query.without_user, query.parameters).to_pylist()
        without_user = query.check_users(counted["events"])
    if options.staging_dataset:
        digest = digest_of(query.sql, query.parameters)
        content = _stage(engine, f"{digest}_interactions", query)
        content["staged"] = {
            "dataset": options.staging_dataset,
            "table": f"wals_{digest}_interactions",
            "project": engine.project,
            "location": engine.location,
            "maximum_bytes_billed": options.maximum_bytes_billed,
        }
    else:
        written = write_shards(output, options.source, engine.stream(query.sql, query.parameters))
        if written.faulty:
            problem = _PROBLEMS[min(written.faulty)]
            raise InputError("source", options.source, f"has rows with {problem}", "filter or fix them")
        content = written.manifest()
    query.check_times(content["rows"], content["rows_without_time"])
    return {**content, **without_user}


def _stage(engine: BigQuery, name: str, query: Query) -> dict[str, Any]:
    engine.create(name, query.sql, query.parameters, _STAGED_FOR)
    table: Checked = engine.table(name)
    columns = engine.columns(name)
    with_time = any(column["name"] == "event_time" for column in columns)
    (counts,) = engine.fetch(render(SQL, "faults.sql", interactions=table, with_time=with_time)).to_pylist()
    for field, problem in _PROBLEMS.items():
        if counts[field]:
            raise InputError(
                "source",
                str(table),
                f"has {counted(counts[field], 'row')} with {problem}",
                "filter or fix them",
            )
    if not counts["interactions"]:
        raise InputError("source", str(table), "yields no rows", "give a source with interactions")
    return {
        "rows": counts["interactions"],
        "columns": columns,
        "rows_without_time": counts["event_time"],
        "shards": [],
    }
