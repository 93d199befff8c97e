"""Publishing: the top-k items of every user, as Parquet files for other systems."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.options import at_most_items
from components.publish.options import PublishOptions
from trainer.files import Schema, begin_artifact, finish_artifact, identity, replacing, sha256
from trainer.model import Model

SCHEMA = Schema("wals.recommendations", 1)
_ROWS_PER_SHARD = 5_000_000

logger = logging.getLogger(__name__)


def publish(options: PublishOptions, *, model: Path, recommendations: Path) -> dict[str, Any]:
    """Write ``top_k`` recommendations for each user of a model.

    The artifact (``wals.recommendations`` v1) is sharded Parquet with the columns ``user_id``, ``item_id``
    (of the vocabulary's types), ``score`` (float32) and ``rank`` (int32, from 1), ordered by the user's
    index and then by rank. Items that the user interacted with in training are left out; a user with fewer
    remaining items gets fewer rows. Users without training interactions get none, because the model knows
    nothing about them.

    Args:
        options: what to publish.
        model: folder of a ``wals.model`` artifact.
        recommendations: folder to write.

    Returns:
        The artifact's metadata: rows, users (those with recommendations), top_k, checksum and schema version.

    Raises:
        InputError: a folder cannot be read or written.
    """
    fitted = Model.load(model)
    top_k = at_most_items("top_k", options.top_k, len(fitted.items))
    begin_artifact(recommendations)
    known = np.flatnonzero(np.diff(fitted.seen.indptr))
    block = max(1, _ROWS_PER_SHARD // top_k)
    shards: list[dict[str, Any]] = []
    for start in range(0, len(known), block):
        table = _recommend(fitted, known[start : start + block], top_k)
        path = recommendations / f"part-{len(shards):05d}.parquet"
        with replacing(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")
            digest = sha256(temporary)
        shards.append({"path": path.name, "rows": table.num_rows, "sha256": digest})
        logger.info("published %d of %d users", min(start + block, len(known)), len(known))
    counts = {"rows": sum(shard["rows"] for shard in shards), "users": len(known), "top_k": top_k}
    content = {**counts, "shards": shards}
    finish_artifact(recommendations, SCHEMA, content)
    return {**counts, **identity(SCHEMA, content)}


def _recommend(model: Model, users: NDArray[np.int64], top_k: int) -> pa.Table:
    items, scores = model.recommend(users, top_k)
    is_item = items >= 0
    ranks = np.broadcast_to(np.arange(1, items.shape[1] + 1, dtype=np.int32), items.shape)
    return pa.table(
        {
            "user_id": model.users.ids.take(np.repeat(users, is_item.sum(axis=1))),
            "item_id": model.items.ids.take(items[is_item]),
            "score": pa.array(scores[is_item]),
            "rank": pa.array(ranks[is_item]),
        }
    )
