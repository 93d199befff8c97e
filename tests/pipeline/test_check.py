"""`wals check`: every problem at once; and what each command refuses of an environment."""

import json
from pathlib import Path

import pytest

from tests.pipeline.conftest import Wals
from tests.pipeline.kubeflow_server import KubeflowServer
from tests.pipeline.vertex_server import PROJECT, VertexServer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def vertex_google(vertex: VertexServer, monkeypatch: pytest.MonkeyPatch) -> VertexServer:
    """The local server in the place of Cloud Storage and BigQuery, too."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", vertex.url)
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", vertex.url)
    return vertex


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_the_examples_have_no_problems(wals: Wals, name: str) -> None:
    result = wals("check", "--config", ROOT / "config" / f"{name}.yaml", "--offline")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "No problems\n"


def test_all_is_well_where_all_is_there(wals: Wals, vertex_config: Path, vertex_google: VertexServer) -> None:
    result = wals("check", "--config", vertex_config)
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"GET /bigquery/v2/projects/{PROJECT}/datasets/shop/tables/ratings" in vertex_google.calls


def test_every_problem_is_told_at_once_a_line_each(wals: Wals, tmp_path: Path) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text(
        """
platform: {target: vertex, project: Test Project, region: europe, pipeline_rot: gs://b/r}
parameters: {latent_factors: many, regularisation: 1.0}
""",
        "utf-8",
    )
    result = wals("check", "--config", config, "--cron", "0 0 21 * * *", "--time-zone", "Mars/Base")
    assert result.exit_code == 2
    for named in ("Test Project", "'europe'", "pipeline_root", "6 fields", "Mars/Base"):
        assert named in result.stderr
    assert "platform.pipeline_rot 'gs://b/r': is not known; did you mean pipeline_root?" in result.stderr
    assert result.stdout == f"{len(result.stderr.splitlines())} problems\n"


def test_every_parameter_is_held_against_the_signature(wals: Wals, vertex_config: Path) -> None:
    arguments = (
        "-p",
        "num_iters=ten",
        "-p",
        "regularisation=1",
        "-p",
        "has_header=perhaps",
        "-p",
        "alpha=nan",
    )
    text = vertex_config.read_text("utf-8").replace("latent_factors: 16", "latent_factors: '16'")
    vertex_config.write_text(text.replace("source:", "sauce:"), "utf-8")
    result = wals("check", "--config", vertex_config, "--offline", *arguments, "--json")
    assert result.exit_code == 2
    told = {problem.split(" ")[0]: problem for problem in result.json["problems"]}
    assert set(told) == {
        *("num_iters", "regularisation", "has_header", "alpha", "latent_factors", "sauce", "source")
    }
    assert "is not a whole number" in told["latent_factors"]
    assert "did you mean regularization?" in told["regularisation"]
    assert "is missing" in told["source"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("-p", "latent_factors=0"), "latent_factors"),
        (("-p", "latent_factors"), "has no ="),
        (("-p", "top_k=0"), "top_k"),
        (("--name", "Monday"), "Monday"),
        (("--region", "europe"), "region"),
        (("--pipeline-root", "bucket"), "pipeline_root"),
        (("--images", "none.json"), "none.json"),
        (("--config", "none.yaml"), "none.yaml"),
    ],
)
def test_submit_refuses_what_check_tells_of(
    wals: Wals, vertex_config: Path, vertex: VertexServer, arguments: tuple[str, ...], named: str
) -> None:
    for command in (("check", "--offline"), ("submit",)):
        result = wals(*command, "--config", vertex_config, *arguments)
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1, result.stderr
        assert named in result.stderr
    assert vertex.jobs == {}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("platform: [", "YAML"),
        ("- platform", "mapping"),
        ("platform: {target: azure}", "azure"),
        ("parameters: {}", "target"),
        ("platform: {target: kubeflow}", "host"),
        ("platform: {target: kubeflow, host: localhost}", "localhost"),
        ("{platform: {target: kubeflow, host: 'http://h'}, image: {}}", "image"),
    ],
)
def test_a_config_that_cannot_be_used_is_one_line(
    wals: Wals, tmp_path: Path, content: str, named: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(content, "utf-8")
    result = wals("runs", "--config", config)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert named in result.stderr


def test_a_bucket_and_a_table_are_looked_for(
    wals: Wals, vertex_config: Path, vertex_google: VertexServer
) -> None:
    result = wals(
        *("check", "--config", vertex_config, "--pipeline-root", "gs://no-such-bucket/runs"),
        *("-p", f"source=bq://{PROJECT}.shop.nothing"),
    )
    assert result.exit_code == 2
    assert "gs://no-such-bucket/runs" in result.stderr
    assert "shop.nothing" in result.stderr
    assert result.stdout == "2 problems\n"


def test_a_bucket_that_is_closed_names_the_rights(
    wals: Wals, vertex_config: Path, vertex_google: VertexServer
) -> None:
    vertex_google.bucket_rights = ["storage.objects.get"]
    result = wals("check", "--config", vertex_config)
    assert result.exit_code == 2
    assert "storage.objects.create" in result.stderr
    assert "storage.objects.get," not in result.stderr


def test_what_could_not_be_looked_for_is_said(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer
) -> None:
    kubeflow.version = "2.0.0"
    result = wals("check", "--config", kubeflow_config)
    assert result.exit_code == 0
    assert "Not looked for on kubeflow" in result.stderr
    assert "2.0.0" in result.stderr


def test_digests_take_the_place_of_tags(wals: Wals, vertex_config: Path, tmp_path: Path) -> None:
    steps = ("extract", "prepare", "train", "evaluate", "publish")
    pinned = {step: f"eu/wals/{step}@sha256:{'0' * 64}" for step in steps}
    images = tmp_path / "images.json"
    content = {
        "schema": "wals.images",
        "schema_version": 1,
        "images": pinned,
        "accelerators": {"train": "gpu"},
    }
    images.write_text(json.dumps(content), "utf-8")
    request = wals("submit", "--config", vertex_config, "--images", images, "--dry-run").json
    executors = request["pipelineJob"]["pipelineSpec"]["deploymentSpec"]["executors"]
    assert executors["exec-train"]["container"]["image"] == pinned["train"]
    mixed = wals("submit", "--config", vertex_config, "--images", images, "--tag", "9f3", "--dry-run")
    assert mixed.exit_code == 2
    assert "leaves no room for a prefix or a tag" in mixed.stderr
