"""`wals train-job kubernetes`, against the types of Kubeflow Trainer's API."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeflow_trainer_api.models.trainer_v1alpha1_train_job import TrainerV1alpha1TrainJob
from kubeflow_trainer_api.models.trainer_v1alpha1_training_runtime import TrainerV1alpha1TrainingRuntime

from pipeline.platforms.kubeflow.train_job import GROUP, MOUNT
from tests.pipeline.conftest import Wals
from trainer.distributed.cluster import INDEX, VARIABLES, cluster_of_environment
from trainer.job.flags import make_parser

ROOT = Path(__file__).parents[3]
DATA = ("--train-file", f"{MOUNT}/ratings.csv", "--data-type", "user_ratings", "--checkpoint_every", 1)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    settings = {
        "train": {
            "cpu": 4,
            "memory": "16Gi",
            "accelerator": "nvidia.com/gpu",
            "accelerators": 1,
            "secrets": {"TOKEN": "store/token"},
        }
    }
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings), "utf-8")
    platform = {
        "target": "kubeflow",
        "host": "http://localhost:8080",
        "namespace": "team",
        "service_account": "trainer",
    }
    environment = {
        "platform": platform,
        "images": {"prefix": "registry.example/wals", "tag": "1.0"},
        "settings": str(tmp_path / "settings.yaml"),
    }
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump(environment), "utf-8")
    return path


def printed(wals: Wals, config: Path, *arguments: object) -> tuple[dict[str, Any], dict[str, Any]]:
    result = wals("train-job", "kubernetes", "--config", config, *arguments)
    assert result.exit_code == 0, result.stderr
    runtime, job = yaml.safe_load_all(result.stdout)
    return runtime, job


def test_the_manifest_is_one_of_kubeflow_trainer(wals: Wals, config: Path) -> None:
    runtime, job = printed(wals, config, "--workers", 3, "--claim", "ratings", *DATA)
    for kind, manifest in ((TrainerV1alpha1TrainingRuntime, runtime), (TrainerV1alpha1TrainJob, job)):
        # What the types do not know is lost.
        assert kind.from_dict(manifest).to_dict() == manifest
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    assert {manifest["metadata"]["namespace"] for manifest in (runtime, job)} == {"team"}
    trainer = job["spec"]["trainer"]
    assert trainer["image"] == "registry.example/wals/train:1.0"
    assert trainer["resourcesPerNode"]["limits"] == {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"}
    given = make_parser().parse_args(trainer["args"])
    assert given.job_dir == f"{MOUNT}/jobs/{job['metadata']['name']}"
    assert given.checkpoint_every == 1


def test_each_pod_knows_its_place(wals: Wals, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime, job = printed(wals, config, "--workers", 3, "--claim", "ratings", *DATA)
    (node,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    (container,) = node["template"]["spec"]["template"]["spec"]["containers"]
    environment = {variable["name"]: variable for variable in container["env"]}
    assert environment["TOKEN"]["valueFrom"] == {"secretKeyRef": {"name": "store", "key": "token"}}
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TF_CONFIG", environment["TF_CONFIG"]["value"])
    monkeypatch.setenv(INDEX, "2")
    cluster = cluster_of_environment()
    name = job["metadata"]["name"]
    # As JobSet names hosts: JOBSET-REPLICATED_JOB-JOB_INDEX-POD_INDEX.SUBDOMAIN
    assert cluster.addresses == tuple(f"{name}-node-0-{number}.{name}:2222" for number in range(3))
    assert cluster.rank == 2
    assert [port["containerPort"] for port in container["ports"]] == [cluster.port]


def test_the_images_user_may_write_to_the_volume(wals: Wals, config: Path) -> None:
    runtime, _ = printed(wals, config, "--claim", "ratings", *DATA)
    (node,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]["spec"]
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "ratings"
    assert pod["serviceAccountName"] == "trainer"
    assert pod["securityContext"] == {"fsGroup": GROUP}
    assert re.search(rf"^ARG RUN_AS=\d+:{GROUP}$", (ROOT / "containers/Dockerfile").read_text("utf-8"), re.M)


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (("--train-file", "gs://b/r.csv"), "--job-dir '': cannot be reached from a cluster; give gs://…"),
        (("--claim", "c", "--train-file", "r.csv"), "--train-file 'r.csv': cannot be reached from a cluster"),
        (("--claim", "c", *DATA, "--num_iters", "0"), "num_iters"),
    ],
)
def test_what_no_pod_can_use_is_refused(
    arguments: tuple[str, ...], reported: str, wals: Wals, config: Path
) -> None:
    result = wals("train-job", "kubernetes", "--config", config, *arguments)
    assert result.exit_code == 2
    assert reported in result.stderr
    assert result.stderr.count("\n") == 1
