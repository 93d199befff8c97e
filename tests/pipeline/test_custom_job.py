"""Custom jobs, made by Google's own package (google-cloud-pipeline-components)."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.images import image
from pipeline.cli import run_command
from pipeline.commands.compile import command

SETTINGS = """
train:
  accelerator: NVIDIA_L4
  accelerators: 1
  retries: 2
  cache: false
  custom_job:
    machine_type: g2-standard-16
    boot_disk_type: pd-standard
    boot_disk_gb: 200
    spot: true
    timeout_seconds: 86400
    service_account: wals@project.iam.gserviceaccount.com
    network: projects/123/global/networks/private
    encryption_key: projects/p/locations/l/keyRings/r/cryptoKeys/k
    labels: {team: recommendations}
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("vertex")
    (folder / "settings.yaml").write_text(SETTINGS, "utf-8")
    arguments = ["--pipeline", "wals-train", "--target", "vertex", "--output-dir", str(folder)]
    assert run_command(command, [*arguments, "--settings", f"{folder}/settings.yaml"], "compile.py") == 0
    # One document: the client of Vertex AI refuses more.
    (document,) = yaml.safe_load_all((folder / "wals-train.vertex.yaml").read_text("utf-8"))
    assert isinstance(document, dict)
    return document


@pytest.fixture(scope="module")
def defaults(spec: dict[str, Any]) -> dict[str, Any]:
    """Default values of the custom job's parameters, by name."""
    parameters = spec["components"]["comp-train"]["inputDefinitions"]["parameters"]
    return {name: given["defaultValue"] for name, given in parameters.items() if "defaultValue" in given}


def test_the_job_has_what_the_settings_say(defaults: dict[str, Any]) -> None:
    (pool,) = defaults["worker_pool_specs"]
    assert pool["machine_spec"] == {
        "machine_type": "g2-standard-16",
        "accelerator_type": "NVIDIA_L4",
        "accelerator_count": 1,
    }
    assert pool["disk_spec"] == {"boot_disk_type": "pd-standard", "boot_disk_size_gb": 200}
    assert pool["replica_count"] == 1
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
    golden = Path(__file__).parents[1] / "pipeline" / "golden" / "wals-train.vertex.yaml"
    plain = yaml.safe_load(golden.read_text("utf-8"))
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


def test_nothing_that_vertex_does_not_resolve_is_left(spec: dict[str, Any]) -> None:
    text = json.dumps(spec)
    assert "IfPresent" not in text
    assert "null" not in text
