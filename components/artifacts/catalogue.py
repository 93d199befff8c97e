"""The catalogue artifact (schema ``wals.catalogue`` v1): what is known of the items, and which may be shown.

A folder with those of these files that were given

    items.parquet       item_id, title (string) and category (string), each may be missing but the id
    blocked.parquet     item_id of items that are never recommended
    available.parquet   item_id of the only items that are recommended
    _manifest.json      rows and SHA-256 of each file, by name

Ids are text, whatever the type of the interactions' ids; the model's vocabulary parses them
(`trainer.vocabulary.Vocabulary.parse`). An id
that the model does not know is ignored. Each id occurs once in a file.
"""

from collections.abc import Mapping
from typing import Literal

from trainer.files import Count, Digest, Manifest, Schema

SCHEMA = Schema("wals.catalogue", 1)

Part = Literal["items", "blocked", "available"]


class Table(Manifest):
    """A file of the artifact, ``PART.parquet``."""

    rows: Count
    sha256: Digest


class Catalogue(Manifest):
    """The fields of the manifest; a part that was not given is missing."""

    tables: Mapping[Part, Table]
