"""Publishing: recommendations, similar items and embeddings as files for other systems."""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.artifacts.published import EMBEDDINGS, RECOMMENDATIONS, SIMILAR_ITEMS, VECTOR_SEARCH_FILE
from components.options import at_most_items
from components.publish.options import PublishOptions
from trainer.catalogue import read_catalogue
from trainer.errors import InputError
from trainer.files import begin_artifact, finish_artifact, identity, make_writable, replacing, sha256
from trainer.model import Model
from trainer.ranking import ranking_as_trained
from trainer.recommender import ranked_table
from trainer.rules import Rules
from trainer.vocabulary import Vocabulary

_ROWS_PER_SHARD = 5_000_000
_FLOATS_PER_SHARD = 50_000_000
_FLOATS_AT_ONCE = 1 << 16

logger = logging.getLogger(__name__)

Metadata = dict[str, dict[str, Any]]


def publish(
    options: PublishOptions,
    *,
    model: Path,
    catalogue: Path,
    recommendations: Path,
    similar_items: Path,
    embeddings: Path,
) -> Metadata:
    """Write what other systems need of a model; `components.artifacts.published` describes the files.

    Items that a user interacted with in training are not recommended to the user. A list is shorter than
    asked only if fewer items remain. Users and items without interactions in training are left out, because
    the model knows nothing about them. Items that the catalogue blocks, or does not have available, are
    neither recommended, nor similar to others, nor in the file for Vector Search.

    Args:
        options: what to publish.
        model: folder of a ``wals.model`` artifact.
        catalogue: folder of a ``wals.catalogue`` artifact.
        recommendations: folder to write.
        similar_items: folder to write.
        embeddings: folder to write.

    Returns:
        The metadata of each of the three: numbers of rows, checksum and schema version.

    Raises:
        InputError: a folder cannot be read or written, the rules leave nothing to recommend, or the GPU
            cannot be used.
    """
    fitted = Model.load(model)
    known = read_catalogue(catalogue)
    categories = known.described(fitted.items)["category"]
    rules = Rules.of(
        fitted.items,
        blocked=known.blocked,
        available=known.available,
        categories=categories,
        max_per_category=options.max_per_category,
        min_score=options.min_score,
    )
    folders = (recommendations, similar_items, embeddings)
    for folder in folders:
        begin_artifact(folder)
    with ranking_as_trained(fitted.config):
        metadata = {
            "recommendations": _write_recommendations(options, fitted, rules, recommendations),
            "similar_items": _write_similar_items(options, fitted, rules, similar_items),
        }
    metadata["embeddings"] = _write_embeddings(fitted, rules, categories.to_pylist(), embeddings)
    listed, similar = metadata["recommendations"], metadata["similar_items"]
    logger.info(
        "%s recommendations for %s users, and %s similar items",
        *(f"{number:,}" for number in (listed["rows"], listed["users"], similar["rows"])),
    )
    return metadata


def _write_recommendations(
    options: PublishOptions, model: Model, rules: Rules, folder: Path
) -> dict[str, Any]:
    top_k = at_most_items("top_k", options.top_k, len(model.items))
    users = np.flatnonzero(np.diff(model.seen.indptr))

    def lists(block: NDArray[np.int64]) -> pa.Table:
        ranked = model.recommend(block, top_k, rules=rules)
        return ranked_table({"user_id": model.users.ids.take(block)}, {"item_id": model.items.ids}, *ranked)

    shards = _write_shards(folder, "part", users, _ROWS_PER_SHARD // top_k, lists)
    counts = {"rows": _rows(shards), "users": len(users), "top_k": top_k}
    if not counts["rows"]:
        problem = "is left by the rules and the items that users have seen"
        raise InputError("recommendations", 0, f"none {problem}", "check min_score and the catalogue")
    content = {**counts, "shards": shards}
    finish_artifact(folder, RECOMMENDATIONS, content)
    return {**counts, **identity(RECOMMENDATIONS, content)}


def _write_similar_items(options: PublishOptions, model: Model, rules: Rules, folder: Path) -> dict[str, Any]:
    similar_k = at_most_items("similar_k", options.similar_k, len(model.items))
    items = _with_factors(model.item_factors)

    def lists(block: NDArray[np.int64]) -> pa.Table:
        ranked = model.similar_items(block, similar_k, rules=rules)
        owners, listed = {"item_id": model.items.ids.take(block)}, {"similar_item_id": model.items.ids}
        return ranked_table(owners, listed, *ranked)

    shards = _write_shards(folder, "part", items, _ROWS_PER_SHARD // similar_k, lists)
    counts = {"rows": _rows(shards), "items": len(items), "similar_k": similar_k}
    content = {**counts, "shards": shards}
    finish_artifact(folder, SIMILAR_ITEMS, content)
    return {**counts, **identity(SIMILAR_ITEMS, content)}


def _write_embeddings(
    model: Model, rules: Rules, categories: list[str | None], folder: Path
) -> dict[str, Any]:
    d = model.config.latent_factors
    sides = {
        "users": _Side(model.users, model.user_factors),
        "items": _Side(model.items, model.item_factors),
    }
    shards: list[dict[str, Any]] = []
    counts = {"latent_factors": d}
    for name, side in sides.items():
        indices = _with_factors(side.factors)
        shards += _write_shards(folder, name, indices, _FLOATS_PER_SHARD // d, side.table)
        counts[name] = len(indices)
    items = _with_factors(model.item_factors)
    if rules.eligible is not None:
        items = np.intersect1d(items, rules.eligible, assume_unique=True)
    path = folder / VECTOR_SEARCH_FILE
    make_writable(path.parent)
    with replacing(path) as temporary:
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(_datapoints(sides["items"], items, categories))
        digest = sha256(temporary)
    vector_search = {"path": VECTOR_SEARCH_FILE, "rows": len(items), "sha256": digest}
    content = {**counts, "shards": shards, "vector_search": vector_search}
    finish_artifact(folder, EMBEDDINGS, content)
    return {**counts, **identity(EMBEDDINGS, content)}


@dataclass(frozen=True)
class _Side:
    """The users or the items.

    Attributes:
        vocabulary: their ids.
        factors: (n, d) float32.
    """

    vocabulary: Vocabulary
    factors: NDArray[np.float32]

    def table(self, indices: NDArray[np.int64]) -> pa.Table:
        d = self.factors.shape[1]
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(self.factors[indices].reshape(-1)), d)
        return pa.table({"id": self.vocabulary.ids.take(indices), "embedding": embedding})


def _with_factors(factors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the indices of the rows that the model knows something about: others have no direction."""
    known = np.empty(len(factors), bool)
    rows = max(1, _FLOATS_AT_ONCE // factors.shape[1])
    for start in range(0, len(factors), rows):
        known[start : start + rows] = factors[start : start + rows].any(axis=1)
    return np.flatnonzero(known)


def _datapoints(side: _Side, indices: NDArray[np.int64], categories: list[str | None]) -> Iterator[str]:
    """Yield the lines of items for Vector Search."""
    d = side.factors.shape[1]
    rows = max(1, _FLOATS_AT_ONCE // d)
    for start in range(0, len(indices), rows):
        block = indices[start : start + rows]
        # Arrow writes the shortest digits that are the same float32; Python's would be those of a double.
        numbers: list[Any] = pa.array(side.factors[block].reshape(-1)).cast(pa.string()).to_pylist()
        for place, (index, item) in enumerate(zip(block, side.vocabulary.take(block), strict=True)):
            embedding = ", ".join(numbers[place * d : (place + 1) * d])
            category = categories[index]
            tags = (
                {}
                if category is None
                else {
                    "restricts": [{"namespace": "category", "allow": [category]}],
                    "crowding_tag": category,
                }
            )
            described = json.dumps({"id": str(item), **tags}, ensure_ascii=False)
            yield f'{described[:-1]}, "embedding": [{embedding}]}}\n'


def _write_shards(
    folder: Path,
    prefix: str,
    indices: NDArray[np.int64],
    block: int,
    table_of: Callable[[NDArray[np.int64]], pa.Table],
) -> list[dict[str, Any]]:
    """Write the tables of blocks of users or items, at least one; return what the manifest says of them."""
    block = max(1, block)
    shards: list[dict[str, Any]] = []
    for start in range(0, max(1, len(indices)), block):
        table = table_of(indices[start : start + block])
        path = folder / f"{prefix}-{len(shards):05d}.parquet"
        with replacing(path) as temporary:
            # Scores and factors hardly repeat: looking for repetitions takes time and room.
            repeating: Any = [field.name for field in table.schema if pa.types.is_integer(field.type)]
            pq.write_table(table, temporary, compression="zstd", use_dictionary=repeating)
            digest = sha256(temporary)
        shards.append({"path": path.name, "rows": table.num_rows, "sha256": digest})
        done = min(start + block, len(indices))
        logger.info("%s: wrote %s of %s", folder.name, f"{done:,}", f"{len(indices):,}")
    return shards


def _rows(shards: list[dict[str, Any]]) -> int:
    return sum(shard["rows"] for shard in shards)
