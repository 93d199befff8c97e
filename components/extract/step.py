"""Extraction: interactions and the catalogue, from files or BigQuery, as artifacts of Parquet files."""

import logging
from pathlib import Path
from typing import Any

from components.artifacts.interactions import SCHEMA
from components.extract.catalogue import extract_catalogue
from components.extract.files import extract_from_files
from components.extract.options import ExtractOptions
from trainer.errors import counted
from trainer.files import begin_artifact, finish_artifact, identity

logger = logging.getLogger(__name__)


def extract(options: ExtractOptions, *, interactions: Path, catalogue: Path) -> dict[str, dict[str, Any]]:
    """Write the interactions of a source, and what is known about the items.

    Args:
        options: what to extract and from where.
        interactions: folder of an artifact of schema ``wals.interactions``.
        catalogue: folder of an artifact of schema ``wals.catalogue``.

    Returns:
        Metadata by artifact. Of the interactions: rows, shards, bytes, checksum (SHA-256 of the manifest) and
        schema_version; for events also events_without_user, for others column_roles, the columns that were
        chosen; for BigQuery also snapshot, bytes_billed and
        slot_milliseconds. Of the catalogue: see `extract_catalogue`.

    Raises:
        InputError: the source, a column or a row of it cannot be used, or the output cannot be written.
        WalsError: BigQuery or a store failed or denied access.
    """
    begin_artifact(interactions)
    begin_artifact(catalogue)
    # First, because it is small, and an error in it should not come after hours.
    described = extract_catalogue(options, catalogue)
    return {"interactions": _extract_interactions(options, interactions), "catalogue": described}


def _extract_interactions(options: ExtractOptions, interactions: Path) -> dict[str, Any]:
    """Write the interactions, and return the artifact's metadata."""
    if options.window_days:
        options = options.with_window()
        logger.info("window from %s to %s", options.window_start, options.window_end)
    if options.source.startswith("bq://"):
        # Google's libraries are slow to import, and files do not need them.
        from components.extract.bigquery import extract_from_bigquery

        content = extract_from_bigquery(options, interactions)
    else:
        content = extract_from_files(options, interactions)
    finish_artifact(interactions, SCHEMA, content)
    columns = content["source"].get("column_roles", "")
    found = f" ({columns})" if columns else ""
    logger.info("%s from %s%s", counted(content["rows"], "interaction"), options.source, found)
    return {
        "rows": content["rows"],
        "shards": len(content["shards"]),
        "bytes": sum((interactions / shard["path"]).stat().st_size for shard in content["shards"]),
        **identity(SCHEMA, content),
        **{
            name: value
            for name, value in {**content, **content["source"]}.items()
            if name
            in ("column_roles", "events_without_user", "snapshot", "bytes_billed", "slot_milliseconds")
        },
    }
