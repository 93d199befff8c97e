"""Interactions out of BigQuery, as Parquet or as a table that stays there."""

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from components.engines.bigquery import BigQuery
from components.engines.sql import Checked, quoted, render
from components.extract.names import table_of
from components.extract.query import SQL, Query, Request, timestamp
from components.extract.shards import write_shards
from trainer.errors import InputError

_STAGED_FOR = timedelta(days=14)
_PROBLEMS = {"user_id": "no user id", "item_id": "no item id", "rating": "no finite number as rating"}


def extract_from_bigquery(
    request: Request,
    source: str,
    output: Path,
    *,
    project: str,
    location: str,
    snapshot: str,
    maximum_bytes_billed: int,
    staging_dataset: str,
) -> dict[str, Any]:
    """Run the request's query and write its rows, or keep them in the staging dataset.

    Returns:
        The manifest: of what was written, and where it came from.
    """
    owner, table = table_of(source, request.data_type)
    billed = project or owner
    engine = BigQuery(
        project=billed,
        location=location,
        dataset=staging_dataset,
        prefix="wals_",
        maximum_bytes_billed=maximum_bytes_billed,
    )
    query, pinned = _query(engine, request, table, snapshot)
    if staging_dataset:
        digest = hashlib.sha256(json.dumps([query.sql, query.parameters]).encode()).hexdigest()[:12]
        content = _stage(engine, f"{digest}_interactions", query)
        content["staged"] = {
            "dataset": staging_dataset,
            "table": f"wals_{digest}_interactions",
            "project": billed,
            "location": location,
            "maximum_bytes_billed": maximum_bytes_billed,
        }
    else:
        written = write_shards(output, source, engine.stream(query.sql, query.parameters))
        for field in sorted(written.faulty):
            raise InputError("source", source, f"has rows with {_PROBLEMS[field]}", "filter or mend them")
        content = written.manifest()
    query.check_times(content["rows"], content["rows_without_time"])
    content["source"] = {
        "uri": source,
        "data_type": request.data_type,
        "snapshot": query.parameters["snapshot"] if pinned else "",
        "bytes_billed": engine.cost.bytes_billed,
        "slot_milliseconds": engine.cost.slot_milliseconds,
    }
    return content


def _query(engine: BigQuery, request: Request, table: str, snapshot: str) -> tuple[Query, bool]:
    """Return the query for the interactions, and whether it reads the table as of one moment."""
    selected = request.table(quoted("source", table))
    if request.query:
        schema, pinned = engine.query_schema(selected), False
    else:
        schema, pinned = engine.describe(table)
    if snapshot and not pinned:
        raise InputError(
            "snapshot", snapshot, f"cannot be read of {selected}, no table of its own", "leave it empty"
        )
    if request.is_ratings:
        query = request.ratings(request.columns(schema), schema, selected, snapshot=pinned)
    else:
        wildcard = table if table.endswith("*") else ""
        query = request.events(schema, selected, wildcard=wildcard, snapshot=pinned)
    # Unpinned tables are staged under a name of their own at each reading, so the moment counts there too.
    moment = timestamp("snapshot", snapshot) or engine.now()
    return replace(query, parameters={**query.parameters, "snapshot": moment}), pinned


def _stage(engine: BigQuery, name: str, query: Query) -> dict[str, Any]:
    engine.create(name, query.sql, query.parameters, _STAGED_FOR)
    table: Checked = engine.table(name)
    columns = engine.columns(name)
    with_time = any(column["name"] == "event_time" for column in columns)
    (counts,) = engine.fetch(render(SQL, "faults.sql", interactions=table, with_time=with_time)).to_pylist()
    for field, problem in _PROBLEMS.items():
        if counts[field]:
            raise InputError(
                "source", str(table), f"{counts[field]:,} rows have {problem}", "filter or mend them"
            )
    if not counts["interactions"]:
        raise InputError("source", str(table), "yields no rows", "give a source with interactions")
    return {
        "rows": counts["interactions"],
        "columns": columns,
        "rows_without_time": counts["event_time"],
        "shards": [],
    }
