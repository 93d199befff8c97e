"""What is published of a model: three artifacts in sharded Parquet, whose ids have the vocabulary's types.

``wals.recommendations`` v1: the best items of each user

    part-00000.parquet…    user_id, item_id, score (float32), rank (int32, from 1)

``wals.similar_items`` v1: the nearest items of each item by cosine similarity of their factors

    part-00000.parquet…    item_id, similar_item_id, score (float32, the cosine), rank (int32, from 1)

``wals.embeddings`` v1: the factors; the inner product of a user's and an item's is the predicted score

    users-00000.parquet…         id, embedding (list of float32, all of the same length)
    items-00000.parquet…         likewise
    vector_search/items.json     for Vertex AI Vector Search: a JSON object in each line, with id (text),
                                 embedding and, where the category is known, restricts and crowding_tag

Rows are ordered by the index of the user or item, and then by rank. Each folder has a ``_manifest.json`` with
the rows and the SHA-256 of each file.
"""

from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints

from trainer.errors import InputError
from trainer.files import Count, Digest, Manifest, Schema, read_manifest

RECOMMENDATIONS = Schema("wals.recommendations", 1)
SIMILAR_ITEMS = Schema("wals.similar_items", 1)
EMBEDDINGS = Schema("wals.embeddings", 1)

VECTOR_SEARCH_FILE = "vector_search/items.json"
"""In a folder of its own: Vertex AI reads every JSON file of the folder that it is given."""


class Shard(Manifest):
    """A Parquet file of an artifact.

    Attributes:
        path: its name.
        rows: number of rows.
        sha256: digest of its bytes.
    """

    path: Annotated[str, StringConstraints(pattern=r"^(part|users|items)-\d{5}\.parquet$")]
    rows: Count
    sha256: Digest


class _Published(Manifest):
    shards: tuple[Shard, ...]


def read_shards(folder: Path, schema: Schema, prefix: str = "part") -> list[Shard]:
    """Return the shards of a published artifact, in order.

    Args:
        folder: folder of the artifact.
        schema: schema that it must have.
        prefix: prefix of the shards' names: ``users`` or ``items`` in embeddings.

    Raises:
        InputError: it is not a complete artifact of this schema, or has no shard with this prefix.
    """
    shards = read_manifest(folder, schema, _Published).shards
    found = [shard for shard in shards if shard.path.startswith(f"{prefix}-")]
    if not found:
        remedy = "run the step that wrote its folder again"
        raise InputError(schema.name, str(folder), f"has no shards {prefix}-*.parquet", remedy)
    return found
