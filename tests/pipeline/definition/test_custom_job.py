"""Custom jobs, created by Google's own package (google-cloud-pipeline-components)."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from components.images import image
from pipeline.definition.targets import VERTEX
from tests.pipeline.conftest import compile_py

GOLDEN = Path(__file__).parent / "golden"


def compiled(folder: Path, pipeline: str, settings: Path) -> dict[str, Any]:
    """Return the spec for Vertex AI that compiling with a file of settings gives."""
    arguments = ("--pipeline", pipeline, "--target", "vertex", "--output-dir", folder)
    assert compile_py(*arguments, "--settings", settings) == 0
    # One document: the client of Vertex AI refuses more.
    (document,) = yaml.load_all((folder / f"{pipeline}.vertex.yaml").read_text("utf-8"), yaml.CSafeLoader)
    assert isinstance(document, dict)
    return document


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("vertex")
    spec = compiled(folder, "wals-train", GOLDEN / "custom-job" / "settings.yaml")
    # A change is a visible diff; `make golden` renews the file.
    name = "wals-train.vertex.yaml"
    assert (folder / name).read_bytes() == (GOLDEN / "custom-job" / name).read_bytes()
    return spec


@pytest.fixture(scope="module")
def defaults(spec: dict[str, Any]) -> dict[str, Any]:
    """Default values of the custom job's parameters, by name."""
    parameters = spec["components"]["comp-train"]["inputDefinitions"]["parameters"]
    return {name: given["defaultValue"] for name, given in parameters.items() if "defaultValue" in given}


def test_the_job_has_what_the_settings_say(defaults: dict[str, Any]) -> None:
    pool, others = defaults["worker_pool_specs"]
    assert pool["machine_spec"] == {
        "machine_type": "g2-standard-16",
        "accelerator_type": "NVIDIA_L4",
        "accelerator_count": 1,
    }
    assert pool["disk_spec"] == {"boot_disk_type": "pd-standard", "boot_disk_size_gb": 200}
    assert (pool["replica_count"], others["replica_count"]) == (1, 2)
    assert {**others, "replica_count": 1} == pool
    assert defaults["strategy"] == "SPOT"
    assert defaults["timeout"] == "86400s"
    assert defaults["service_account"] == "wals@project.iam.gserviceaccount.com"
    assert defaults["network"] == "projects/123/global/networks/private"
    assert defaults["encryption_spec_key_name"] == "projects/p/locations/l/keyRings/r/cryptoKeys/k"
    assert defaults["labels"] == {"team": "recommendations"}


def test_the_job_runs_the_step_in_its_own_image(defaults: dict[str, Any]) -> None:
    container = defaults["worker_pool_specs"][0]["container_spec"]
    assert container["image_uri"] == image("train")
    assert "components.train.step" in "".join(container["command"])
    assert container["args"][-1] == "train"


def test_the_pipeline_around_it_is_the_same(spec: dict[str, Any]) -> None:
    plain = yaml.safe_load((GOLDEN / "wals-train.vertex.yaml").read_text("utf-8"))
    task, plain_task = (document["root"]["dag"]["tasks"]["train"] for document in (spec, plain))
    assert task["inputs"] == plain_task["inputs"]
    assert task["dependentTasks"] == plain_task["dependentTasks"]
    assert task["retryPolicy"]["maxRetryCount"] == 2
    assert "enableCache" not in task["cachingOptions"]
    outputs, plain_outputs = (
        document["components"]["comp-train"]["outputDefinitions"]["artifacts"] for document in (spec, plain)
    )
    assert outputs == plain_outputs
    for step in ("extract", "prepare", "evaluate", "publish"):
        assert (
            spec["deploymentSpec"]["executors"][f"exec-{step}"]
            == plain["deploymentSpec"]["executors"][f"exec-{step}"]
        )


@pytest.mark.parametrize(
    ("pipeline", "step"),
    [
        *(("wals-train", step) for step in ("prepare", "train", "evaluate", "publish")),
        *(("wals-tune", step) for step in VERTEX.steps if step != "extract"),
        *(("wals-probe", step) for step in ("prepare", "train", "trial")),
    ],
)
def test_every_step_may_be_a_job(pipeline: str, step: str, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(
        f"{step}: {{custom_job: {{machine_type: n1-standard-8}}}}", "utf-8"
    )
    spec = compiled(tmp_path, pipeline, tmp_path / "settings.yaml")
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    parameters = {
        name.removeprefix("comp-"): component.get("inputDefinitions", {}).get("parameters", {})
        for name, component in spec["components"].items()
    }
    jobs = {name: given for name, given in parameters.items() if "worker_pool_specs" in given}
    assert {re.sub(r"-\d$", "", name) for name in jobs} == {step}
    for given in jobs.values():
        (pool,) = given["worker_pool_specs"]["defaultValue"]
        assert pool["machine_spec"].get("accelerator_type", "") == VERTEX.steps[step].accelerator
    text = json.dumps(spec)
    # Vertex AI does not resolve these.
    assert "IfPresent" not in text
    assert "null" not in text


@pytest.mark.parametrize("pipeline", ["wals-train", "wals-tune"])
def test_inputs_that_would_override_the_jobs_own_are_refused(
    pipeline: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Google's package merges the inputs by name: the job's project would be the extraction's empty one."""
    (tmp_path / "settings.yaml").write_text("extract: {custom_job: {machine_type: n1-standard-8}}", "utf-8")
    arguments = ("--pipeline", pipeline, "--target", "vertex", "--output-dir", tmp_path)
    assert compile_py(*arguments, "--settings", f"{tmp_path}/settings.yaml") == 2
    error = capsys.readouterr().err
    assert error.startswith("compile.py: error: extract.custom_job")
    assert "inputs location, project" in error
    assert error.count("\n") == 1
