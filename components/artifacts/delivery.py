"""The delivery artifact (schema ``wals.delivery`` v1): where a model went. A manifest alone."""

from collections.abc import Mapping

from trainer.files import Count, Manifest, Schema

SCHEMA = Schema("wals.delivery", 1)


class Delivery(Manifest):
    """The fields of the manifest.

    Attributes:
        version: name of the version; without a registry, a digest of what was delivered.
        registry: address of the registry; "" if none was asked for.
        champion_before: version that served before; "" if there was none.
        destination: BigQuery dataset whose tables have the rows of this version; "" if none.
        rows: rows that were loaded, by table; none if the dataset already had this version.
        vertex_model: version in Vertex AI's Model Registry, ``projects/…/models/ID@NUMBER``; "" if none.
        vertex_endpoint: endpoint in Vertex AI that it is deployed to; "" if none.
        deleted_versions: versions that the registry no longer keeps.
    """

    version: str
    registry: str
    champion_before: str
    destination: str
    rows: Mapping[str, Count]
    vertex_model: str
    vertex_endpoint: str
    deleted_versions: tuple[str, ...]
