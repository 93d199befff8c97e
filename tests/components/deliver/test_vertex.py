"""Delivery to Vertex AI's Model Registry, from a registry in Cloud Storage."""

import pytest

from components.deliver import vertex_rest
from components.deliver.options import DeliverOptions
from components.deliver.serving import rollback
from components.registry import open_registry
from tests.components.deliver.conftest import write_artifacts
from tests.components.deliver.model_server import MODEL
from trainer.errors import InputError, WalsError

ADDRESS = "gs://bucket/models"
PLACES = {"registry": ADDRESS, "vertex_model": MODEL}


def test_a_delivery_is_a_version_with_its_metrics_and_the_alias(server, artifacts):
    metadata = artifacts.deliver(**PLACES)
    (version,) = server.versions
    folder = f"{ADDRESS}/versions/{metadata['version']}"
    assert metadata["vertex_model"] == f"{MODEL}@1"
    assert version["artifactUri"] == f"{folder}/saved_model"
    assert version["labels"] == {"application": "wals", "wals_version": metadata["version"].lower()}
    assert version["versionDescription"] == f"It is better. Model card: {folder}/model_card.json"
    assert version["containerSpec"]["imageUri"].startswith(
        "europe-docker.pkg.dev/vertex-ai/prediction/tf2-cpu"
    )
    assert server.evaluations["1"][0]["metrics"] == {"ndcg_at_20": 0.25}
    assert server.aliases() == {"default": "1", "champion": "1"}


def test_a_repeated_delivery_uploads_nothing(server, artifacts):
    metadata = artifacts.deliver(**PLACES)
    assert artifacts.deliver(**PLACES) == metadata
    assert len(server.versions) == len(server.evaluations["1"]) == 1


def test_the_alias_follows_the_champion_forth_and_back(server, artifacts, tmp_path):
    first = artifacts.deliver(**PLACES)["version"]
    write_artifacts(tmp_path / "next", 1, champion=first).deliver(**PLACES)
    assert server.aliases() == {"default": "1", "champion": "2"}
    served = rollback(DeliverOptions(**PLACES))
    assert (served.champion.version, served.vertex_model) == (first, f"{MODEL}@1")
    assert server.aliases() == {"default": "1", "champion": "1"}
    assert len(server.versions) == 2


@pytest.mark.parametrize(
    ("end", "status", "line"),
    [
        (":listVersions", 403, "denies you access; ask for roles/aiplatform.user"),
        (":upload", 400, "Vertex AI answers 400 to .*models:upload: Permission"),
        (":upload", 401, "denies you access"),
        ("/evaluations:import", 500, "Vertex AI answers 500 to"),
    ],
)
def test_a_refusal_leaves_the_champion_and_a_repetition_completes_the_delivery(
    server, artifacts, tmp_path, end, status, line
):
    first = artifacts.deliver(**PLACES)["version"]
    following = write_artifacts(tmp_path / "next", 1, champion=first)
    server.refusals[end] = status
    with pytest.raises(WalsError, match=line) as caught:
        following.deliver(**PLACES)
    assert "\n" not in str(caught.value)
    assert open_registry(ADDRESS).serving().version == first
    assert server.aliases()["champion"] == "1"
    server.refusals.clear()
    version = following.deliver(**PLACES)["version"]
    assert open_registry(ADDRESS).serving().version == version
    assert (server.aliases()["champion"], len(server.versions)) == ("2", 2)


def test_metrics_that_vertex_does_not_take_stop_no_delivery(server, artifacts, caplog):
    server.refusals["/evaluations:import"] = 400
    version = artifacts.deliver(**PLACES)["version"]
    assert open_registry(ADDRESS).serving().version == version
    assert "Vertex AI did not take the metrics" in caplog.text


def test_a_model_that_vertex_cannot_load(server, artifacts):
    server.upload_error = "Model server container cannot load the SavedModel."
    with pytest.raises(WalsError, match=r"Vertex AI refused the SavedModel of .*: Model server container"):
        artifacts.deliver(**PLACES)
    assert open_registry(ADDRESS).champion() is None


def test_an_address_that_does_not_answer(artifacts, bucket, monkeypatch):
    monkeypatch.setattr(vertex_rest, "_REPEATED", 0)
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM", "http://127.0.0.1:9")
    with pytest.raises(WalsError, match="Vertex AI cannot be used"):
        artifacts.deliver(**PLACES)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"registry": "registry", "vertex_model": MODEL}, "requires a registry in Cloud Storage"),
        ({"registry": ADDRESS, "vertex_model": "shop"}, "is not the name of a model in Vertex AI"),
        ({"registry": ADDRESS, "vertex_model": f"{MODEL}@1"}, "is not the name of a model in Vertex AI"),
        ({"registry": ADDRESS, "keep_versions": 0}, "keep_versions 0: is below 1"),
    ],
)
def test_options_that_cannot_be_used(options, line):
    with pytest.raises(InputError, match=line):
        DeliverOptions(**options)


def test_a_version_without_a_saved_model(bucket, tmp_path):
    artifacts = write_artifacts(tmp_path / "run", with_saved_model=False)
    with pytest.raises(InputError, match="requires a SavedModel; set export_saved_model to true"):
        artifacts.deliver(**PLACES)
    assert open_registry(ADDRESS).versions() == []
