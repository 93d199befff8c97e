"""`wals upload` to Artifact Registry, Cloud Storage and Kubeflow: the same bytes create no new version."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from google.cloud import storage

from pipeline.display import remote_run
from tests.pipeline.conftest import Wals
from tests.pipeline.kubeflow_server import KubeflowServer
from tests.pipeline.serving import STEPS, task_of
from tests.pipeline.vertex_server import BUCKET, VertexServer


def test_the_same_bytes_are_one_version(wals: Wals, config: Path) -> None:
    first = wals("upload", "--config", config, "--json").json
    second = wals("upload", "--config", config, "--json").json
    assert (first["created"], second["created"]) == (True, False)
    assert first["version"] == second["version"]
    other = wals("upload", "--config", config, "--tag", "9f3", "--json").json
    assert other["created"]
    assert other["version"] != first["version"]
    assert "Already there" in wals("upload", "--config", config).stdout


def test_the_registry_gets_the_compiled_pipeline_by_digest_and_tags(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    uploaded = wals("upload", "--config", vertex_config, "--template-tag", "latest", "--json").json
    (content,) = vertex.templates.values()
    assert uploaded["version"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert uploaded["location"] == f"{vertex.url}/templates/wals-train/{uploaded['version']}"
    assert yaml.load(content, yaml.CSafeLoader)["pipelineInfo"]["name"] == "wals-train"
    assert vertex.tags == {"wals-train/latest": uploaded["version"]}


def test_compile_py_uploads_as_the_command_does(
    wals: Wals, vertex_config: Path, vertex: VertexServer, tmp_path: Path
) -> None:
    script = Path(__file__).parents[3] / "compile.py"
    command = [
        sys.executable,
        script,
        "--upload",
        "--config",
        vertex_config,
        "--template-tag",
        "latest",
        "--json",
    ]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    uploaded = json.loads(result.stdout)
    assert (uploaded.pop("schema"), uploaded.pop("schema_version")) == ("wals.output.upload", 1)
    assert uploaded["created"]
    assert vertex.tags == {"wals-train/latest": uploaded["version"]}
    assert list(tmp_path.glob("build")) == []
    again = wals("upload", "--config", vertex_config, "--json").json
    assert again == {**uploaded, "created": False}


def test_tags_move_to_a_version_that_was_there_before(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    old = wals("upload", "--config", vertex_config, "--template-tag", "prod", "--json").json["version"]
    new = wals("upload", "--config", vertex_config, "--tag", "9f3", "--template-tag", "prod", "--json").json
    assert vertex.tags["wals-train/prod"] == new["version"]
    wals("upload", "--config", vertex_config, "--template-tag", "prod", "--template-tag", "known-good")
    assert vertex.tags == {"wals-train/prod": old, "wals-train/known-good": old}


def without_repository(config: Path) -> None:
    """Remove the template repository, so that templates go to the bucket."""
    lines = config.read_text("utf-8").splitlines(keepends=True)
    config.write_text("".join(line for line in lines if "template_repository" not in line), "utf-8")


def test_the_bucket_gets_one_object_by_version(
    wals: Wals, vertex_config: Path, bucket: storage.Bucket
) -> None:
    without_repository(vertex_config)
    first = wals("upload", "--config", vertex_config, "--json").json
    second = wals("upload", "--config", vertex_config, "--json").json
    assert (first["created"], second["created"]) == (True, False)
    (blob,) = bucket.list_blobs()
    assert first["location"] == f"gs://{BUCKET}/{blob.name}"
    assert (
        blob.name == f"runs/templates/wals-train/{hashlib.sha256(blob.download_as_bytes()).hexdigest()}.yaml"
    )


def uploaded_to(wals: Wals, config: Path) -> str:
    """Upload the pipeline and return where it is, once other images are in the environment."""
    location: str = wals("upload", "--config", config, "--tag", "uploaded", "--json").json["location"]
    return location


def test_what_was_uploaded_to_the_registry_is_what_runs(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    location = uploaded_to(wals, vertex_config)
    assert wals("submit", "--config", vertex_config, "--template", location, "--name", "one").exit_code == 0
    (job,) = vertex.jobs.values()
    assert job["templateUri"] == location
    image = job["pipelineSpec"]["deploymentSpec"]["executors"]["exec-train"]["container"]["image"]
    assert image.endswith("/train:uploaded")
    options = ("--cron", "0 21 * * *", "--config", vertex_config, "--template", location, "--yes")
    assert wals("schedule", "set", "nightly", *options).exit_code == 0
    (schedule,) = vertex.schedules.values()
    assert schedule["createPipelineJobRequest"]["pipelineJob"]["templateUri"] == location


def test_what_was_uploaded_to_a_bucket_is_what_runs(
    wals: Wals, vertex_config: Path, vertex: VertexServer, bucket: storage.Bucket
) -> None:
    without_repository(vertex_config)
    location = uploaded_to(wals, vertex_config)
    assert wals("submit", "--config", vertex_config, "--template", location).exit_code == 0
    (job,) = vertex.jobs.values()
    # Vertex AI knows only templates of Artifact Registry.
    assert "templateUri" not in job
    assert "train:uploaded" in str(job["pipelineSpec"])
    result = wals("submit", "--config", vertex_config, "--template", f"{location}.gone")
    assert result.exit_code == 2
    assert f"{location}.gone" in result.stderr


def test_what_was_uploaded_to_kubeflow_is_what_runs(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_run, "_FIRST_POLL_SECONDS", 0.01)
    location = uploaded_to(wals, kubeflow_config)
    submit = ("submit", "--config", kubeflow_config, "--template", location, "--json", "--wait")
    run = wals(*submit, "-p", "window_end=2026-01-01").json
    (sent,) = kubeflow.runs.values()
    assert "pipeline_spec" not in sent
    assert location.endswith(f"/version/{sent['pipeline_version_reference']['pipeline_version_id']}")
    assert {step["name"] for step in run["steps"] if step["state"] == "succeeded"} == set(STEPS)
    zone = ("--time-zone", "Europe/Berlin")
    options = ("--cron", "0 21 * * *", *zone, "--config", kubeflow_config, "--template", location, "--yes")
    assert wals("schedule", "set", "nightly", *options).exit_code == 0
    (recurring,) = kubeflow.recurring.values()
    # A copy of the spec, because the uploaded version would cache the extraction.
    assert "train:uploaded" in str(recurring["pipeline_spec"])
    assert task_of(recurring["pipeline_spec"], "extract")["cachingOptions"] == {}
    kubeflow.versions.clear()
    assert wals("runs", run["id"], "--config", kubeflow_config, "--json").json["steps"] == []


def test_a_template_that_was_deleted_is_named(
    wals: Wals, config: Path, server: VertexServer | KubeflowServer
) -> None:
    location = uploaded_to(wals, config)
    (server.templates if isinstance(server, VertexServer) else server.versions).clear()
    for command in (("submit",), ("schedule", "set", "nightly", "--cron", "0 21 * * *", "--yes")):
        result = wals(*command, "--config", config, "--template", location)
        assert result.exit_code == 2
        assert location in result.stderr
        assert "does not exist" in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--template", "wals-train"), "'wals-train'"),
        (("--template", "https://europe-west1-kfp.pkg.dev/p/r/wals-train/latest"), "latest"),
        (("--template", "https://h/#/pipelines/details/1"), "details/1"),
    ],
)
def test_an_invalid_location_is_refused(
    wals: Wals, config: Path, arguments: tuple[str, ...], named: str
) -> None:
    result = wals("submit", "--config", config, *arguments)
    assert result.exit_code == 2
    assert named in result.stderr
    assert "wals upload" in result.stderr


def test_what_does_not_fit_a_template_is_refused(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    location = uploaded_to(wals, vertex_config)
    submit = ("submit", "--config", vertex_config, "--template", location)
    assert "tag" in wals(*submit, "--tag", "other").stderr
    (place,) = vertex.templates
    vertex.templates[place] = vertex.templates[place].replace(b"latent_factors:", b"older_factors:")
    assert "latent_factors" in wals(*submit).stderr
    vertex.templates[place] = b"pipelineInfo: {name: another}\nroot: {}\n"
    assert "another" in wals(*submit).stderr
    vertex.templates[place] = b"<html>"
    assert "not a compiled pipeline" in wals(*submit).stderr
    assert vertex.jobs == {}


def test_a_missing_bucket_is_named(wals: Wals, vertex_config: Path, bucket: storage.Bucket) -> None:
    without_repository(vertex_config)
    result = wals("upload", "--config", vertex_config, "--pipeline-root", "gs://no-such-bucket/runs")
    assert result.exit_code == 1
    assert "gs://no-such-bucket" in result.stderr
    assert result.stderr.count("\n") == 1


def test_kubeflow_gets_versions_of_one_pipeline(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer
) -> None:
    for tag in ("1", "2", "1"):
        assert wals("upload", "--config", kubeflow_config, "--tag", tag).exit_code == 0
    assert [pipeline["name"] for pipeline in kubeflow.pipelines.values()] == ["wals-train"]
    assert len(kubeflow.versions) == 2
    for name, content in kubeflow.versions.items():
        assert name == f"sha256-{hashlib.sha256(content).hexdigest()[:16]}"


def test_template_tags_are_refused_where_they_are_not_supported(wals: Wals, kubeflow_config: Path) -> None:
    result = wals("upload", "--config", kubeflow_config, "--template-tag", "latest")
    assert result.exit_code == 2
    assert "latest" in result.stderr


def test_a_repository_that_refuses_is_named(wals: Wals, vertex_config: Path, vertex: VertexServer) -> None:
    result = wals("upload", "--config", vertex_config, "--template-repository", f"{vertex.url}/elsewhere")
    assert result.exit_code == 1
    assert f"{vertex.url}/elsewhere" in result.stderr
    assert result.stderr.count("\n") == 1
