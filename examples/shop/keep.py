"""An own step: joins the interactions with the items' metadata, and keeps those of some categories."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from components.artifacts.interactions import SCHEMA, Interactions
from components.extract.shards import write_shards
from trainer.catalogue import read_catalogue
from trainer.errors import InputError
from trainer.files import begin_artifact, check_file, finish_artifact, identity, read_manifest
from trainer.options import Options, group

logger = logging.getLogger(__name__)


class KeepOptions(Options):
    """Which interactions to keep."""

    categories: str = Field(
        default="",
        description="Categories whose interactions are kept, separated by commas; all if omitted.",
        json_schema_extra=group("Filters"),
    )


def keep(options: KeepOptions, *, interactions: Path, catalogue: Path, kept: Path) -> dict[str, Any]:
    """Keep the interactions with items of some categories.

    Args:
        options: which interactions to keep.
        interactions: folder of a ``wals.interactions`` artifact.
        catalogue: folder of a ``wals.catalogue`` artifact, which has the categories.
        kept: folder of the ``wals.interactions`` artifact to write.

    Returns:
        Metadata of the artifact: rows, checksum and schema_version.

    Raises:
        InputError: an input is damaged, or no interaction is left.
    """
    begin_artifact(kept)
    manifest = read_manifest(interactions, SCHEMA, Interactions)
    wanted = [category.strip() for category in options.categories.split(",") if category.strip()]
    items = read_catalogue(catalogue).items
    ids = items["item_id"].filter(pc.is_in(items["category"], pa.array(wanted, pa.string())))
    if wanted and not len(ids):
        raise InputError(
            "categories", options.categories, "are of no item", "give categories of the products"
        )
    written = write_shards(kept, str(interactions), _rows(interactions, manifest, ids if wanted else None))
    content = {**written.manifest(), "source": {"uri": str(interactions), "data_type": "kept"}}
    finish_artifact(kept, SCHEMA, content)
    logger.info("kept %s of %s interactions", f"{written.rows:,}", f"{manifest.rows:,}")
    return {"rows": written.rows, **identity(SCHEMA, content)}


def _rows(
    folder: Path, manifest: Interactions, ids: "pa.ChunkedArray[Any] | None"
) -> Iterator[pa.RecordBatch]:
    """Yield the interactions with some items, or all of them, without holding them all in memory."""
    for shard in manifest.shards:
        check_file(folder / shard.path, shard.sha256)
        with pq.ParquetFile(folder / shard.path) as file:
            for batch in file.iter_batches():
                # Ids of the catalogue are text, whatever they are in the interactions.
                yield (
                    batch if ids is None else batch.filter(pc.is_in(batch["item_id"].cast(pa.string()), ids))
                )
