"""Interactions out of BigQuery, as Parquet or as a table that stays there."""

import hashlib
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from components.engines.bigquery import BigQuery
from components.engines.sql import Checked, quoted, render
from components.extract.query import SQL, Request, timestamp
from components.extract.shards import write_shards
from trainer.errors import InputError

_STAGED_FOR = timedelta(days=14)
_DEFAULT_TABLE = "staging.recommendation_training"
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
    table = table_of(source, request.data_type)
    billed = project or table.split(".")[0]
    engine = BigQuery(
        project=billed,
        location=location,
        dataset=staging_dataset,
        prefix="wals_",
        maximum_bytes_billed=maximum_bytes_billed,
    )
    sql, parameters = _query(engine, request, table, snapshot)
    if staging_dataset:
        digest = hashlib.sha256(json.dumps([sql, parameters]).encode()).hexdigest()[:12]
        content = _stage(engine, f"{digest}_interactions", sql, parameters)
        content["staged"] = {
            "dataset": staging_dataset,
            "table": f"wals_{digest}_interactions",
            "project": billed,
            "location": location,
            "maximum_bytes_billed": maximum_bytes_billed,
        }
    else:
        written = write_shards(output, engine.stream(sql, parameters))
        for field in sorted(written.faulty):
            raise InputError("source", source, f"has rows with {_PROBLEMS[field]}", "filter or mend them")
        content = written.manifest()
    content["source"] = {
        "uri": source,
        "data_type": request.data_type,
        "snapshot": parameters["snapshot"],
        "bytes_billed": engine.cost.bytes_billed,
        "slot_milliseconds": engine.cost.slot_milliseconds,
    }
    return content


def table_of(source: str, data_type: str) -> str:
    """Return the ``project.dataset.table`` of a ``bq://`` source, or the project of a query's.

    Raises:
        InputError: the source is of another form.
    """
    name = source.removeprefix("bq://")
    if data_type == "user_ratings" and "." not in name:
        name = f"{name}.{_DEFAULT_TABLE}"
    parts = 1 if data_type == "query" else 3
    if not re.fullmatch(rf"[a-z][a-z0-9:.-]*[a-z0-9](\.[\w-]+){{{parts - 1}}}\*?", name):
        form = "bq://PROJECT" if data_type == "query" else "bq://PROJECT.DATASET.TABLE"
        raise InputError("source", source, "is no BigQuery table", f"give {form}")
    return name


def _query(engine: BigQuery, request: Request, table: str, snapshot: str) -> tuple[str, dict[str, str]]:
    selected = request.table(quoted("source", table))
    is_wildcard = table.endswith("*")
    if request.query:
        schema, pinned = engine.query_schema(f"SELECT * FROM {selected}"), False  # noqa: S608 - checked
    else:
        schema, pinned = engine.describe(table)
    if snapshot and not pinned:
        raise InputError(
            "snapshot", snapshot, f"cannot be read of {selected}, no table of its own", "leave it empty"
        )
    parameters = {**request.parameters(), "snapshot": timestamp("snapshot", snapshot) or engine.now()}
    if request.is_ratings:
        return request.ratings_sql(request.columns(schema), schema, selected, snapshot=pinned), parameters
    return request.events_sql(schema, selected, snapshot=pinned, suffixes=is_wildcard), parameters


def _stage(engine: BigQuery, name: str, sql: str, parameters: dict[str, str]) -> dict[str, Any]:
    engine.create(name, sql, parameters, _STAGED_FOR)
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
