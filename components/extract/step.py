"""Extraction: interactions from files or BigQuery, as an artifact of sharded Parquet."""

import dataclasses
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from components.extract.interactions import SCHEMA, SCHEMA_VERSION
from components.extract.local import extract_from_files
from components.extract.names import name_problems, table_of
from components.extract.query import Request, timestamp
from components.extract.storage import STORES
from trainer.errors import InputError, problems_of
from trainer.files import begin_artifact, finish_artifact, identity

logger = logging.getLogger(__name__)


def extract(
    *,
    source: str,
    output: Path,
    data_type: str = "ratings",
    user_column: str = "",
    item_column: str = "",
    rating_column: str = "",
    timestamp_column: str = "",
    delimiter: str = "",
    has_header: bool = True,
    window_start: str = "",
    window_end: str = "",
    window_days: int = 0,
    row_filter: str = "",
    query: str = "",
    item_key: str = "",
    event_name: str = "page_view",
    event_rating: str = "count",
    project: str = "",
    location: str = "",
    snapshot: str = "",
    maximum_bytes_billed: int = 0,
    staging_dataset: str = "",
) -> dict[str, Any]:
    """Write the interactions of a source as an artifact of schema ``wals.interactions``.

    Args:
        source: a CSV or Parquet file, a folder of them or a glob pattern, also on Cloud Storage (``gs://``)
            or in a store that speaks S3 (``s3://``, ``minio://``); or a BigQuery table,
            ``bq://project.dataset.table``.
        output: folder of the artifact.
        data_type: what the source is; names the SQL that reads it. ``ratings``: a row is a rating.
            ``user_ratings``: the same, and its table may be left out (``bq://project``) where it is
            ``staging.recommendation_training``. ``query``: ``query`` yields the ratings. ``web_views``:
            Google Analytics 360 sessions. ``ga4``: the Google Analytics 4 export.
        user_column: of the user ids; "" to find it by its usual names.
        item_column: of the item ids; "" likewise.
        rating_column: of the ratings; "" likewise.
        timestamp_column: of the times; "" likewise, and it may be absent.
        delimiter: between the fields of text files; "" to find it out.
        has_header: whether text files begin with the names of the columns.
        window_start: interactions before this time (ISO 8601, UTC) are left out; "" for no bound.
        window_end: interactions from this time on are left out; "" for no bound.
        window_days: take the last days before window_end, or where that is empty before the snapshot, or
            else before now; 0 for no such bound. Does not go with window_start.
        row_filter: SQL condition on the source's columns; rows that do not meet it are left out.
        query: a SELECT in BigQuery SQL, for data_type ``query``; files are its table ``source``.
        item_key: what names the item of an event: for ``ga4`` the key of an event parameter, for
            ``web_views`` the index of a custom dimension.
        event_name: the events to count, for ``ga4``.
        event_rating: for ``ga4``, ``count`` of the events or seconds of ``engagement``.
        project: that runs and pays for BigQuery; "" for the project of the source.
        location: of the BigQuery data, such as ``EU``; "" to let BigQuery find it out.
        snapshot: read the table as it was at this time (ISO 8601, UTC; at most 7 days ago); "" for now.
        maximum_bytes_billed: fail, before it costs anything, if a query would read more; 0 for no bound.
        staging_dataset: ``project.dataset``; keep the interactions in a table there, for preparation to run
            in BigQuery too, where they are too many for one machine. "" to write them as Parquet.

    Returns:
        Of the artifact: rows, shards, bytes, checksum (SHA-256 of the manifest) and schema_version; of
        BigQuery also snapshot, bytes_billed and slot_milliseconds.

    Raises:
        InputError: the source, a column or a row of it cannot be used, or the output cannot be written.
        WalsError: BigQuery failed or refused.
    """
    begin_artifact(output)
    request = Request(
        data_type=data_type,
        user_column=user_column,
        item_column=item_column,
        rating_column=rating_column,
        timestamp_column=timestamp_column,
        window_start=window_start,
        window_end=window_end,
        window_days=window_days,
        row_filter=row_filter,
        query=query,
        item_key=item_key,
        event_name=event_name,
        event_rating=event_rating,
    )
    for problem in _problems(
        request, source, project, location, snapshot, maximum_bytes_billed, staging_dataset
    ):
        raise problem
    request = request.with_window(snapshot)
    if window_days:
        logger.info("window from %s to %s", request.window_start, request.window_end)
    if source.startswith("bq://"):
        # Google's libraries are slow to import, and files have no use for them.
        from components.extract.warehouse import extract_from_bigquery

        content = extract_from_bigquery(
            request,
            source,
            output,
            project=project,
            location=location,
            snapshot=snapshot,
            maximum_bytes_billed=maximum_bytes_billed,
            staging_dataset=staging_dataset,
        )
    else:
        content = extract_from_files(request, source, output, delimiter=delimiter, has_header=has_header)
    if content["rows_without_time"]:
        logger.warning("%s interactions have no time that can be read", f"{content['rows_without_time']:,}")
    finish_artifact(output, SCHEMA, SCHEMA_VERSION, content)
    logger.info("%s interactions from %s", f"{content['rows']:,}", source)
    return {
        "rows": content["rows"],
        "shards": len(content["shards"]),
        "bytes": sum((output / shard["path"]).stat().st_size for shard in content["shards"]),
        **identity(output, SCHEMA_VERSION),
        **{
            name: value
            for name, value in content["source"].items()
            if name in ("snapshot", "bytes_billed", "slot_milliseconds")
        },
    }


def option_problems(**options: Any) -> Iterator[InputError]:
    """Yield what `extract` would refuse of its arguments without the output, before it looks at data."""
    request = Request(**{field.name: options[field.name] for field in dataclasses.fields(Request)})
    names = ("source", "project", "location", "snapshot", "maximum_bytes_billed", "staging_dataset")
    return _problems(request, *(options[name] for name in names))


def _problems(
    request: Request,
    source: str,
    project: str,
    location: str,
    snapshot: str,
    maximum_bytes_billed: int,
    staging_dataset: str,
) -> Iterator[InputError]:
    yield from request.problems()
    yield from problems_of(partial(timestamp, "snapshot", snapshot))
    if maximum_bytes_billed < 0:
        yield InputError("maximum_bytes_billed", maximum_bytes_billed, "is negative", "give bytes, or 0")
    yield from name_problems(project=project, location=location, staging_dataset=staging_dataset)
    scheme, separator, path = source.rpartition("://")
    if scheme == "bq":
        yield from problems_of(partial(table_of, source, request.data_type))
        return
    if not source.strip() or (separator and (scheme not in STORES or not path.strip("/"))):
        yield InputError(
            "source",
            source,
            "is no place of interactions",
            "give files, or an address with gs://, s3:// or bq://",
        )
        return
    for field, value in (("snapshot", snapshot), ("staging_dataset", staging_dataset)):
        if value:
            yield InputError(field, value, "is for BigQuery sources", "leave it empty")
