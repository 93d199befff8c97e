"""Delivery to a registry and to BigQuery together."""

import pytest

from components.deliver.options import DeliverOptions
from components.deliver.serving import rollback
from components.publish.options import PublishOptions
from components.publish.step import publish
from tests.components.deliver.conftest import write_artifacts
from trainer.catalogue import SCHEMA as CATALOGUE_SCHEMA
from trainer.files import begin_artifact, finish_artifact

pytestmark = pytest.mark.slow


def published(folder, seed, champion):
    """Write artifacts whose tables are those of the model."""
    artifacts = write_artifacts(folder, seed, champion=champion, with_saved_model=False)
    catalogue = folder / "catalogue"
    begin_artifact(catalogue)
    finish_artifact(catalogue, CATALOGUE_SCHEMA, {"tables": {}})
    names = ("recommendations", "similar_items", "embeddings")
    for name in names:
        (getattr(artifacts, name) / "part-00000.parquet").unlink()
    folders = {name: getattr(artifacts, name) for name in names}
    publish(PublishOptions(top_k=1, similar_k=1), model=artifacts.model, catalogue=catalogue, **folders)
    return artifacts


def test_the_tables_follow_the_champion_forth_and_back(warehouse, tmp_path):
    places = {"registry": str(tmp_path / "registry"), "destination": f"bq://{warehouse.dataset}"}

    def served():
        sql = f"SELECT version FROM `{warehouse.dataset}.deliveries` ORDER BY delivered DESC LIMIT 1"
        ((version,),) = [tuple(row) for row in warehouse.client.query(sql).result()]
        return version

    first = published(tmp_path / "first", 0, None).deliver(**places)["version"]
    assert served() == first
    second = published(tmp_path / "second", 1, first).deliver(**places)["version"]
    assert served() == second
    assert rollback(DeliverOptions(**places)).champion.version == first
    assert served() == first
