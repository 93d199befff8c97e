"""Extraction from BigQuery, into Parquet files or a table that stays in BigQuery."""

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from components.engines.bigquery import BigQuery
from components.engines.sql import Checked, checked_query, quoted, render, subquery
from components.extract.names import table_of
from components.extract.options import ExtractOptions
from components.extract.query import SQL, Query, Request
from components.extract.shards import write_shards
from components.times import timestamp
from trainer.errors import InputError

_STAGED_FOR = timedelta(days=14)
_PROBLEMS = {"user_id": "no user id", "item_id": "no item id", "rating": "no finite rating"}


def extract_from_bigquery(options: ExtractOptions, output: Path) -> dict[str, Any]:
    """Query BigQuery and write the rows, or keep them in the staging dataset.

    Args:
        options: options with a source in BigQuery; see `ExtractOptions.with_window`.
        output: folder of an artifact prepared by `begin_artifact`.

    Returns:
        The manifest: what was written, and where it came from.
    """
    source_project, table = table_of(options.source, options.data_type)
    project = options.project or source_project
    staging_dataset = options.staging_dataset
    engine = BigQuery(
        project=project,
        location=options.location,
        dataset=staging_dataset,
        prefix="wals_",
        maximum_bytes_billed=options.maximum_bytes_billed,
    )
    query, pinned = _query(engine, Request(options), table)
    if staging_dataset:
        digest = hashlib.sha256(json.dumps([query.sql, query.parameters]).encode()).hexdigest()[:12]
        content = _stage(engine, f"{digest}_interactions", query)
        content["staged"] = {
            "dataset": staging_dataset,
            "table": f"wals_{digest}_interactions",
            "project": project,
            "location": options.location,
            "maximum_bytes_billed": options.maximum_bytes_billed,
        }
    else:
        written = write_shards(output, options.source, engine.stream(query.sql, query.parameters))
        if written.faulty:
            problem = _PROBLEMS[min(written.faulty)]
            raise InputError("source", options.source, f"has rows with {problem}", "filter or fix them")
        content = written.manifest()
    query.check_times(content["rows"], content["rows_without_time"])
    content["source"] = {
        "uri": options.source,
        "data_type": options.data_type,
        "snapshot": query.parameters["snapshot"] if pinned else "",
        **engine.cost(),
    }
    return content


def _query(engine: BigQuery, request: Request, table: str) -> tuple[Query, bool]:
    """Return the query for the interactions, and whether it reads the table as of one moment."""
    snapshot = request.options.snapshot
    if request.options.query:
        selected, schema = _checked_by(engine, request.options.query)
        pinned = False
    else:
        selected = quoted("source", table)
        schema, pinned = engine.describe(table)
    if snapshot and not pinned:
        raise InputError(
            "snapshot", snapshot, f"is not supported for {selected}, which is not a plain table", "omit it"
        )
    if request.is_ratings:
        query = request.ratings(request.columns(schema), schema, selected, snapshot=pinned)
    else:
        wildcard = table if table.endswith("*") else ""
        query = request.events(schema, selected, wildcard=wildcard, snapshot=pinned)
    # The name of a staged table depends on the parameters, so with the moment each extraction gets its own.
    moment = timestamp(snapshot) or engine.now()
    return replace(query, parameters={**query.parameters, "snapshot": moment}), pinned


def _checked_by(engine: BigQuery, text: str) -> tuple[Checked, dict[str, str]]:
    """Return the user's query, to select from, and its columns; see `checked_query`.

    BigQuery checks it by itself, where no parenthesis of ours can be closed from inside.
    """
    query = checked_query("query", text, translated=False)
    return subquery(query), engine.query_schema(query)


def _stage(engine: BigQuery, name: str, query: Query) -> dict[str, Any]:
    engine.create(name, query.sql, query.parameters, _STAGED_FOR)
    table: Checked = engine.table(name)
    columns = engine.columns(name)
    with_time = any(column["name"] == "event_time" for column in columns)
    (counts,) = engine.fetch(render(SQL, "faults.sql", interactions=table, with_time=with_time)).to_pylist()
    for field, problem in _PROBLEMS.items():
        if counts[field]:
            raise InputError(
                "source", str(table), f"{counts[field]:,} rows have {problem}", "filter or fix them"
            )
    if not counts["interactions"]:
        raise InputError("source", str(table), "yields no rows", "give a source with interactions")
    return {
        "rows": counts["interactions"],
        "columns": columns,
        "rows_without_time": counts["event_time"],
        "shards": [],
    }
