"""The registry: a folder of model versions on disk or in a bucket, with a pointer to the champion.

Layout::

    champion.json                       the pointer (schema ``wals.champion`` v1), replaced atomically
    delivering.json                     the version that is being delivered (schema ``wals.claim`` v1)
    versions/VERSION/_manifest.json     schema ``wals.version`` v1, written last
    versions/VERSION/PART               the parts: model/, recommendations/, report.html and others

A version without its manifest is unfinished, and ignored.
"""

from components.registry.manifests import Champion, Part, Promotion, Version, time_of
from components.registry.places import open_store
from components.registry.registry import Registry, open_registry
from components.registry.stores import Store, Stored

__all__ = [
    "Champion",
    "Part",
    "Promotion",
    "Registry",
    "Store",
    "Stored",
    "Version",
    "open_registry",
    "open_store",
    "time_of",
]
