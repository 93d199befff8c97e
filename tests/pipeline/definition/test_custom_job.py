"""Custom jobs, created by Google's own package (google-cloud-pipeline-components)."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.cloud import aiplatform_v1
from google.protobuf import json_format
from google_cloud_pipeline_components import _placeholders
from google_cloud_pipeline_components.container.v1.custom_job import remote_runner
from google_cloud_pipeline_components.container.v1.gcp_launcher.utils import json_util
from kfp.pipeline_spec import pipeline_spec_pb2

from components.images import image
from pipeline.definition.targets import VERTEX
from tests.pipeline.conftest import Wals, compile_py
from tests.pipeline.serving import task_of

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


@pytest.mark.parametrize("replicas", [1, 2])
def test_machines_that_work_together_begin_again_together(replicas: int, tmp_path: Path) -> None:
    """Vertex AI replaces a machine that was preempted; the others would wait for it in vain."""
    (tmp_path / "settings.yaml").write_text(
        f"train: {{custom_job: {{machine_type: n1-standard-8, strategy: SPOT, replicas: {replicas}}}}}",
        "utf-8",
    )
    spec = compiled(tmp_path, "wals-train", tmp_path / "settings.yaml")
    for name in ("comp-train", "comp-refit"):
        given = spec["components"][name]["inputDefinitions"]["parameters"]
        assert given["restart_job_on_worker_restart"]["defaultValue"] is (replicas > 1)
        assert given["strategy"]["defaultValue"] == "SPOT"


def test_the_pipeline_around_it_is_the_same(spec: dict[str, Any]) -> None:
    plain = yaml.load((GOLDEN / "wals-train.vertex.yaml").read_text("utf-8"), yaml.CSafeLoader)
    task, plain_task = (task_of(document, "train") for document in (spec, plain))
    assert task["inputs"] == plain_task["inputs"]
    assert task["dependentTasks"] == plain_task["dependentTasks"]
    assert "enableCache" not in task["cachingOptions"]
    outputs, plain_outputs = (
        document["components"]["comp-train"]["outputDefinitions"]["artifacts"] for document in (spec, plain)
    )
    assert outputs == plain_outputs
    for step in ("extract", "prepare", "evaluate", "publish", "deliver"):
        assert (
            spec["deploymentSpec"]["executors"][f"exec-{step}"]
            == plain["deploymentSpec"]["executors"][f"exec-{step}"]
        )


@pytest.mark.parametrize(
    ("pipeline", "steps"),
    [
        ("wals-train", {"prepare", "train", "refit", "evaluate", "publish"}),
        ("wals-tune", {*VERTEX.steps} - {"extract", "notify"}),
        ("wals-probe", {"prepare", "train", "trial"}),
    ],
)
def test_every_step_may_be_a_job(pipeline: str, steps: set[str], tmp_path: Path) -> None:
    job = "{custom_job: {machine_type: n1-standard-8}}"
    (tmp_path / "settings.yaml").write_text("".join(f"{step}: {job}\n" for step in steps), "utf-8")
    spec = compiled(tmp_path, pipeline, tmp_path / "settings.yaml")
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    parameters = {
        name.removeprefix("comp-"): component.get("inputDefinitions", {}).get("parameters", {})
        for name, component in spec["components"].items()
    }
    jobs = {name: given for name, given in parameters.items() if "worker_pool_specs" in given}
    assert {re.sub(r"-\d$", "", name) for name in jobs} == steps
    for name, given in jobs.items():
        (pool,) = given["worker_pool_specs"]["defaultValue"]
        step = re.sub(r"-\d$", "", name)
        assert pool["machine_spec"].get("accelerator_type", "") == VERTEX.steps[step].accelerator
    text = json.dumps(spec)
    # Vertex AI does not resolve these.
    assert "IfPresent" not in text
    assert "null" not in text


def test_only_the_training_is_divided_among_machines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = "{custom_job: {machine_type: n1-standard-8, replicas: 2}}"
    (tmp_path / "settings.yaml").write_text(f"evaluate: {job}\nrefit: {job}", "utf-8")
    arguments = ("--pipeline", "wals-train", "--target", "vertex", "--output-dir", tmp_path)
    assert compile_py(*arguments, "--settings", f"{tmp_path}/settings.yaml") == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "compile.py: error: evaluate.custom_job.replicas 2: is not supported for this step"
    )
    assert error.count("\n") == 1


def test_the_notification_is_not_a_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A job of Google's package has no input for the status of the run."""
    (tmp_path / "settings.yaml").write_text("notify: {custom_job: {machine_type: n1-standard-8}}", "utf-8")
    arguments = ("--pipeline", "wals-train", "--target", "vertex", "--output-dir", tmp_path)
    assert compile_py(*arguments, "--settings", f"{tmp_path}/settings.yaml") == 2
    error = capsys.readouterr().err
    assert error.startswith("compile.py: error: notify.custom_job 'n1-standard-8': is not supported")
    assert error.count("\n") == 1


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


RUNS_KEY = "projects/p/locations/l/keyRings/r/cryptoKeys/run"
# What Vertex AI puts in place of Google's placeholders.
OF_THE_RUN = {
    _placeholders.SERVICE_ACCOUNT_PLACEHOLDER: "run@p.iam.gserviceaccount.com",
    _placeholders.NETWORK_PLACEHOLDER: "projects/1/global/networks/of-the-run",
    _placeholders.ENCRYPTION_SPEC_KMS_KEY_NAME_PLACEHOLDER: RUNS_KEY,
    _placeholders.PERSISTENT_RESOURCE_ID_PLACEHOLDER: "",
    "{{$.pipeline_root}}": "gs://bucket/root",
    "{{$.pipeline_job_name}}": "run-1",
    "{{$.pipeline_task_uuid}}": "42",
    "{{$.json_escape[1]}}": "{}",
}


class Client:
    """Stands where Google's launcher has the client of Vertex AI, and keeps what it is asked to create."""

    def create_custom_job(self, parent: str, custom_job: dict[str, Any]) -> None:
        # Refuses what the published API does not know.
        parsed = json_format.ParseDict(custom_job, aiplatform_v1.CustomJob.pb()())
        self.created: dict[str, Any] = json_format.MessageToDict(parsed)


def launched(folder: Path, job: str, gpus: str = "accelerator: NVIDIA_L4, accelerators: 1") -> dict[str, Any]:
    """Return the custom job that Google's launcher creates for a train step with these settings."""
    (folder / "settings.yaml").write_text(f"train: {{{gpus}, custom_job: {{{job}}}}}", "utf-8")
    spec = compiled(folder, "wals-train", folder / "settings.yaml")
    inputs = spec["components"]["comp-train"]["inputDefinitions"]["parameters"]
    arguments = spec["deploymentSpec"]["executors"]["exec-train"]["container"]["args"]
    payload = arguments[arguments.index("--payload") + 1]
    for name, parameter in inputs.items():
        value = parameter.get("defaultValue", {} if parameter["parameterType"] == "STRUCT" else [])
        text = value if isinstance(value, str) else json.dumps(value)
        payload = payload.replace(f"{{{{$.inputs.parameters['{name}']}}}}", text)
    for placeholder, value in OF_THE_RUN.items():
        payload = payload.replace(placeholder, value)
    assert "{{" not in payload
    client = Client()
    remote_runner.create_custom_job_with_client(
        client, "projects/p/locations/l", json_util.recursive_remove_empty(json.loads(payload))
    )
    return client.created


def test_a_job_runs_with_the_account_the_network_and_the_key_of_its_run(tmp_path: Path) -> None:
    job = launched(tmp_path, "machine_type: g2-standard-8")
    assert job["jobSpec"]["serviceAccount"] == "run@p.iam.gserviceaccount.com"
    assert job["jobSpec"]["network"] == "projects/1/global/networks/of-the-run"
    assert job["encryptionSpec"]["kmsKeyName"] == RUNS_KEY
    assert job["jobSpec"]["scheduling"] == {"timeout": "604800s", "strategy": "STANDARD"}
    for absent in ("tensorboard", "baseOutputDirectory", "persistentResourceId", "pscInterfaceConfig"):
        assert absent not in job["jobSpec"]


NETWORK_ATTACHMENT = "projects/p/regions/r/networkAttachments/private"
TENSORBOARD = "projects/1/locations/l/tensorboards/3"
RESERVATION = "projects/p/zones/z/reservations/night"


@pytest.mark.parametrize(
    ("settings", "path", "expected"),
    [
        ("boot_disk_type: pd-standard", "workerPoolSpecs/0/diskSpec/bootDiskType", "pd-standard"),
        ("strategy: SPOT", "scheduling/strategy", "SPOT"),
        ("strategy: FLEX_START", "scheduling/maxWaitDuration", "86400s"),
        ("strategy: FLEX_START, max_wait_seconds: 60", "scheduling/maxWaitDuration", "60s"),
        ("strategy: FLEX_START, max_wait_seconds: 0", "scheduling/maxWaitDuration", "0s"),
        ("persistent_resource: pool-1", "persistentResourceId", "pool-1"),
        (
            "reservation: any",
            "workerPoolSpecs/0/machineSpec/reservationAffinity",
            {"reservationAffinityType": "ANY_RESERVATION"},
        ),
        (
            "reservation: none",
            "workerPoolSpecs/0/machineSpec/reservationAffinity",
            {"reservationAffinityType": "NO_RESERVATION"},
        ),
        (
            f"reservation: {RESERVATION}",
            "workerPoolSpecs/0/machineSpec/reservationAffinity",
            {
                "reservationAffinityType": "SPECIFIC_RESERVATION",
                "key": "compute.googleapis.com/reservation-name",
                "values": [RESERVATION],
            },
        ),
        (
            f"network_attachment: {NETWORK_ATTACHMENT}",
            "pscInterfaceConfig",
            {"networkAttachment": NETWORK_ATTACHMENT},
        ),
        (f"tensorboard: {TENSORBOARD}", "tensorboard", TENSORBOARD),
        (
            f"tensorboard: {TENSORBOARD}",
            "baseOutputDirectory/outputUriPrefix",
            "gs://bucket/root/jobs/run-1/42",
        ),
    ],
)
def test_a_setting_reaches_the_job_that_is_created(
    settings: str, path: str, expected: object, tmp_path: Path
) -> None:
    found: Any = launched(tmp_path, f"machine_type: g2-standard-8, {settings}")["jobSpec"]
    if "network_attachment" in settings:
        assert "network" not in found
    for part in path.split("/"):
        found = found[int(part)] if part.isdigit() else found[part]
    assert found == expected


@pytest.mark.parametrize(
    ("machine", "gpus", "disk"),
    [
        ("n1-standard-8", "accelerator: NVIDIA_TESLA_T4, accelerators: 1", "pd-ssd"),
        ("c3-standard-22", "accelerator: '', accelerators: 0", "pd-ssd"),
        ("a3-ultragpu-8g", "accelerator: NVIDIA_H200_141GB, accelerators: 8", "hyperdisk-balanced"),
    ],
)
def test_the_boot_disk_is_one_that_the_machine_supports(
    machine: str, gpus: str, disk: str, tmp_path: Path
) -> None:
    job = launched(tmp_path, f"machine_type: {machine}", gpus)
    (pool,) = job["jobSpec"]["workerPoolSpecs"]
    assert pool["diskSpec"]["bootDiskType"] == disk


@pytest.mark.parametrize(
    ("settings", "reported"),
    [
        (
            "retries: 2, custom_job: {machine_type: g2-standard-8}",
            "train.retries 2: are not supported for a custom job",
        ),
        (
            "custom_job: {machine_type: g2-standard-8, boot_disk_type: hyperdisk-balanced}",
            "train.custom_job.boot_disk_type 'hyperdisk-balanced': is not supported on g2-standard-8",
        ),
        (
            "accelerator: NVIDIA_H200_141GB, accelerators: 8, "
            "custom_job: {machine_type: a3-ultragpu-8g, boot_disk_type: pd-ssd}",
            "is not supported on a3-ultragpu-8g; give hyperdisk-balanced, or omit it",
        ),
        (
            "custom_job: {machine_type: g2-standard-8, max_wait_seconds: 60}",
            "train.custom_job.max_wait_seconds 60: is not supported with strategy STANDARD",
        ),
        (
            "custom_job: {machine_type: g2-standard-8, strategy: FLEX_START, timeout_seconds: 700000}",
            "train.custom_job.timeout_seconds 700000: exceeds",
        ),
        (
            "accelerator: NVIDIA_TESLA_T4, custom_job: {machine_type: n1-standard-8, strategy: FLEX_START}",
            "train.custom_job.strategy 'FLEX_START': is not supported with NVIDIA_TESLA_T4; give one of",
        ),
        (
            "custom_job: {machine_type: g2-standard-8, strategy: SPOT, reservation: any}",
            "train.custom_job.reservation 'any': is not supported with strategy SPOT",
        ),
        (
            "custom_job: {machine_type: g2-standard-8, network: projects/1/global/networks/n, "
            f"network_attachment: {NETWORK_ATTACHMENT}}}",
            "cannot be combined with a network",
        ),
        ("custom_job: {machine_type: g2-standard-8, strategy: spot}", "train.custom_job.strategy 'spot'"),
        (
            "custom_job: {machine_type: g2-standard-8, reservation: mine}",
            "train.custom_job.reservation 'mine'",
        ),
        ("custom_job: {machine_type: g2-standard-8, tensorboard: t}", "train.custom_job.tensorboard 't'"),
    ],
)
def test_what_a_job_cannot_be_is_refused_when_compiling(
    settings: str, reported: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = f"train: {{{'' if 'accelerator:' in settings else 'accelerator: NVIDIA_L4, '}{settings}}}"
    (tmp_path / "settings.yaml").write_text(given, "utf-8")
    arguments = ("--pipeline", "wals-train", "--target", "vertex", "--output-dir", tmp_path)
    assert compile_py(*arguments, "--settings", f"{tmp_path}/settings.yaml") == 2
    error = capsys.readouterr().err
    assert reported in error
    assert error.count("\n") == 1


def test_the_environment_gives_jobs_its_tensorboard_and_its_network_attachment(
    wals: Wals, vertex_config: Path, tmp_path: Path
) -> None:
    (tmp_path / "settings.yaml").write_text(
        "train: {accelerator: NVIDIA_L4, custom_job: {machine_type: g2-standard-8}}", "utf-8"
    )
    flags = ("--tensorboard", TENSORBOARD, "--network-attachment", NETWORK_ATTACHMENT)
    result = wals(
        "submit",
        "--config",
        vertex_config,
        "--settings",
        f"{tmp_path}/settings.yaml",
        *flags,
        "--dry-run",
        "--full",
    )
    job = result.request["pipelineJob"]
    assert job["pscInterfaceConfig"] == {"networkAttachment": NETWORK_ATTACHMENT}
    parameters = job["pipelineSpec"]["components"]["comp-train"]["inputDefinitions"]["parameters"]
    defaults = {name: parameter.get("defaultValue") for name, parameter in parameters.items()}
    assert defaults["tensorboard"] == TENSORBOARD
    assert defaults["base_output_directory"].startswith("{{$.pipeline_root}}/")
    assert defaults["psc_interface_config"] == {"network_attachment": NETWORK_ATTACHMENT}
    assert defaults["network"] == ""
