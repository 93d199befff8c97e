"""Settings by step, which a user compiles with."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.cloud.aiplatform_v1.types import AcceleratorType

from components.images import image_name
from pipeline.definition.pipelines import TRAINING
from pipeline.definition.settings import StepSettings
from pipeline.definition.targets import KUBEFLOW, TARGETS, VERTEX, Target
from tests.pipeline.conftest import Wals, compile_py
from tests.pipeline.kubeflow_server import KubeflowServer
from tests.pipeline.serving import task_of
from trainer.errors import InputError


def compiled(folder: Path, target: str, settings: str) -> dict[str, Any]:
    """Return the spec that compiling with the settings gives."""
    (folder / "settings.yaml").write_text(settings, "utf-8")
    arguments = ("--target", target, "--output-dir", folder)
    assert compile_py(*arguments, "--settings", folder / "settings.yaml") == 0
    (document,) = yaml.load_all((folder / f"wals-train.{target}.yaml").read_text("utf-8"), yaml.CSafeLoader)
    assert isinstance(document, dict)
    return document


def container(spec: dict[str, Any], step: str) -> dict[str, Any]:
    found = spec["deploymentSpec"]["executors"][f"exec-{step}"]["container"]
    assert isinstance(found, dict)
    return found


def test_every_target_has_settings_for_every_step() -> None:
    for target in TARGETS.values():
        assert set(TRAINING.steps) <= set(target.steps)


def test_limits_and_accelerators_reach_the_step_that_names_them(tmp_path: Path) -> None:
    spec = compiled(
        tmp_path,
        "vertex",
        "train: {cpu: 16, memory: 60G, accelerator: NVIDIA_L4, accelerators: 2}\nprepare: {memory: 64Gi}",
    )
    assert container(spec, "train")["resources"] == {
        "accelerator": {
            "count": "2",
            "resourceCount": "2",
            "resourceType": "NVIDIA_L4",
            "type": "NVIDIA_L4",
        },
        "cpuLimit": 16.0,
        "memoryLimit": 60.0,
        "resourceCpuLimit": "16",
        "resourceMemoryLimit": "60G",
    }
    assert container(spec, "prepare")["resources"]["resourceMemoryLimit"] == "64Gi"
    assert container(spec, "prepare")["resources"]["resourceCpuLimit"] == VERTEX.steps["prepare"].cpu


def test_a_step_without_a_gpu_says_so(tmp_path: Path) -> None:
    spec = compiled(tmp_path, "vertex", "train: {accelerator: '', accelerators: 0}")
    assert "accelerator" not in container(spec, "train")["resources"]


def test_kubeflow_takes_the_resource_name_of_kubernetes(tmp_path: Path) -> None:
    spec = compiled(tmp_path, "kubeflow", "train: {accelerator: nvidia.com/gpu, accelerators: 3}")
    assert container(spec, "train")["resources"]["accelerator"]["resourceType"] == "nvidia.com/gpu"


@pytest.mark.parametrize(
    ("target", "name"), [("vertex", "NVIDIA_L4"), ("kubeflow", "nvidia.com/gpu")], ids=["vertex", "kubeflow"]
)
def test_steps_that_rank_get_a_gpu_too(target: str, name: str, tmp_path: Path) -> None:
    steps = ("refit", "evaluate", "publish")
    gpu = f"{{accelerator: {name}, accelerators: 1}}"
    spec = compiled(tmp_path, target, "".join(f"{step}: {gpu}\n" for step in steps))
    for step in steps:
        assert container(spec, step)["resources"]["accelerator"]["resourceType"] == name
    assert "accelerator" not in container(spec, "prepare")["resources"]


# Argo counts from a step's first start: an hour would be no retry at all for one that fails later.
@pytest.mark.parametrize(("target", "longest"), [("vertex", "3600s"), ("kubeflow", "604800s")])
def test_retries_back_off(target: str, longest: str, tmp_path: Path) -> None:
    spec = compiled(tmp_path, target, "train: {retries: 3, retry_seconds: 30}")
    assert task_of(spec, "train")["retryPolicy"] == {
        "backoffDuration": "30s",
        "backoffFactor": 2.0,
        "backoffMaxDuration": longest,
        "maxRetryCount": 3,
    }
    assert "retryPolicy" not in task_of(spec, "prepare")


def test_caching_is_by_step(tmp_path: Path) -> None:
    spec = compiled(tmp_path, "kubeflow", "extract: {cache: false}")
    cached = [step for step in TRAINING.steps if "enableCache" in task_of(spec, step)["cachingOptions"]]
    # The last four decide by the model that serves, or change what serves.
    assert cached == ["prepare", "train", "refit", "publish"]


def test_the_refit_has_the_settings_of_the_training_unless_it_has_its_own(tmp_path: Path) -> None:
    settings = "train: {cpu: 16, accelerator: '', accelerators: 0}\nrefit: {memory: 64G}"
    spec = compiled(tmp_path, "vertex", settings)
    assert container(spec, "refit")["resources"] == {
        **container(spec, "train")["resources"],
        "memoryLimit": 64.0,
        "resourceMemoryLimit": "64G",
    }


@pytest.mark.parametrize("name", VERTEX.accelerators)
def test_the_counts_of_each_accelerator_are_those_of_machines(name: str, tmp_path: Path) -> None:
    for count in range(1, 18):
        path = tmp_path / f"{count}.yaml"
        path.write_text(f"train: {{accelerator: {name}, accelerators: {count}}}", "utf-8")
        if count in VERTEX.accelerators[name]:
            assert VERTEX.with_settings(path).steps["train"].accelerators == count
        else:
            with pytest.raises(
                InputError, match=f"train.accelerators {count}: is not a supported count of {name}"
            ):
                VERTEX.with_settings(path)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ("train: {accelerator: NVIDIA_T4, accelerators: 1}", "train.accelerator 'NVIDIA_T4'"),
        ("train: {accelerator: nvidia.com/gpu, accelerators: 1}", "train.accelerator 'nvidia.com/gpu'"),
        (
            "prepare: {accelerator: NVIDIA_L4, accelerators: 1}",
            "prepare.accelerators 1: is not supported, because the step does not use a GPU; omit",
        ),
        ("extract: {accelerator: NVIDIA_L4}", "requires both accelerator and accelerators, or neither"),
        ("extract: {accelerators: 1}", "requires both accelerator and accelerators, or neither"),
        ("serve: {cpu: 1}", "'serve': is not a step"),
        ("train: {cpus: 1}", "train.cpus 1: is unknown; did you mean cpu?"),
        ("train: {cpu: many}", "train.cpu 'many'"),
        ("train: {memory: 16 GB}", "train.memory '16 GB'"),
        ("train: {memory: [16G]}", "train.memory"),
        ("train: {memory: 1.5G}", "train.memory '1.5G'"),
        ("train: {memory: 500000K}", "train.memory '500000K'"),
        ("train: {memory: 0}", "train.memory '0'"),
        (
            "train: {memory: 625G}",
            "train.memory '625G': exceeds the largest machine of vertex; give at most 624G",
        ),
        ("train: {memory: 9000T}", "train.memory '9000T'"),
        ("train: {cpu: 0}", "train.cpu 0: is zero"),
        ("train: {cpu: 0.0}", "train.cpu 0.0: is zero"),
        ("train: {cpu: 0m}", "train.cpu '0m'"),
        ("train: {cpu: -1}", "train.cpu '-1'"),
        ("train: {cpu: 5000}", "train.cpu '5000': exceeds the largest machine of vertex; give at most 96"),
        ("train: {cpu: 96001m}", "train.cpu '96001m'"),
        ("train: {cache: 0}", "train.cache 0: is not true or false"),
        ("train: {retries: -1}", "train.retries -1"),
        ("train: {retries: 1.5}", "train.retries 1.5: is not an integer"),
        ("train: {retries: true}", "train.retries True"),
        ("train: {retry_seconds: 3601}", "train.retry_seconds 3601"),
        ("train: 3", "does not map steps to settings"),
        ("- train", "settings"),
        ("train: {", "is not valid YAML"),
        ("train: {custom_job: {strategy: SPOT}}", "train.custom_job.machine_type"),
        ("train: {custom_job: {machine_type: big}}", "train.custom_job.machine_type 'big'"),
        ("train: {custom_job: {machine_type: n1-standard-8, boot_disk_gb: 10}}", "boot_disk_gb 10"),
        ("train: {custom_job: {machine_type: n1-standard-8, boot_disk_type: ssd}}", "boot_disk_type 'ssd'"),
        ("train: {custom_job: {machine_type: n1-standard-8, timeout_seconds: 0}}", "timeout_seconds 0"),
        ("train: {custom_job: {machine_type: n1-standard-8, network: default}}", "network 'default'"),
        ("train: {custom_job: {machine_type: n1-standard-8, service_account: me}}", "service_account 'me'"),
        ("train: {custom_job: {machine_type: n1-standard-8, encryption_key: k}}", "encryption_key 'k'"),
        (
            "train: {custom_job: {machine_type: n1-standard-8, labels: {Team: a}}}",
            "train.custom_job.labels.Team",
        ),
        ("train: {custom_job: {machine_type: n1-standard-8, disk: 1}}", "train.custom_job.disk 1"),
        ("train: {custom_job: {machine_type: n1-standard-8, replicas: 0}}", "train.custom_job.replicas 0"),
    ],
)
def test_what_vertex_would_refuse_is_refused_when_compiling(
    settings: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.yaml").write_text(settings, "utf-8")
    arguments = [
        "--target",
        "vertex",
        "--output-dir",
        str(tmp_path),
        "--settings",
        f"{tmp_path}/settings.yaml",
    ]
    assert compile_py(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("compile.py: error: ")
    assert error.count("\n") == 1
    assert named in error
    assert not list(tmp_path.glob("wals-train*"))


def gpus(name: str, count: int) -> str:
    return f"accelerator: {name}, accelerators: {count}" if name else "accelerator: '', accelerators: 0"


@pytest.mark.parametrize(
    ("machine", "name", "count"),
    [
        ("n1-standard-8", "NVIDIA_TESLA_T4", 2),
        ("n1-highmem-16", "NVIDIA_TESLA_V100", 8),
        ("n1-standard-8", "NVIDIA_TESLA_P100", 1),
        ("n1-standard-8", "NVIDIA_TESLA_P4", 4),
        ("n1-standard-8", "", 0),
        ("n2-highmem-32", "", 0),
        ("g2-standard-16", "NVIDIA_L4", 1),
        ("g2-standard-24", "NVIDIA_L4", 2),
        ("g2-standard-96", "NVIDIA_L4", 8),
        ("a2-highgpu-4g", "NVIDIA_TESLA_A100", 4),
        ("a2-megagpu-16g", "NVIDIA_TESLA_A100", 16),
        ("a2-ultragpu-2g", "NVIDIA_A100_80GB", 2),
        ("a3-highgpu-1g", "NVIDIA_H100_80GB", 1),
        ("a3-megagpu-8g", "NVIDIA_H100_MEGA_80GB", 8),
        ("a3-ultragpu-8g", "NVIDIA_H200_141GB", 8),
    ],
)
def test_machines_are_accepted_with_their_own_gpus(
    machine: str, name: str, count: int, tmp_path: Path
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(f"train: {{{gpus(name, count)}, custom_job: {{machine_type: {machine}}}}}", "utf-8")
    job = VERTEX.with_settings(path).steps["train"].custom_job
    assert job
    assert job.machine_type == machine


@pytest.mark.parametrize(
    ("machine", "name", "count", "reported"),
    [
        (
            "n2-standard-8",
            "NVIDIA_TESLA_T4",
            1,
            "does not support NVIDIA_TESLA_T4 x 1; give one of the n1 family",
        ),
        ("n1-standard-8", "NVIDIA_L4", 2, "does not support NVIDIA_L4 x 2; give g2-standard-24"),
        ("e2-standard-8", "NVIDIA_TESLA_A100", 16, "give a2-megagpu-16g"),
        ("g2-standard-24", "NVIDIA_L4", 1, "comes with NVIDIA_L4 x 2"),
        ("g2-standard-16", "", 0, "comes with NVIDIA_L4 x 1; set accelerator: NVIDIA_L4 and accelerators: 1"),
        ("a2-ultragpu-1g", "NVIDIA_TESLA_A100", 1, "comes with NVIDIA_A100_80GB x 1"),
        ("g2-standard-5", "NVIDIA_L4", 1, "is not a machine type; give one of g2-standard-4, "),
        ("a4-highgpu-8g", "NVIDIA_L4", 8, "comes with NVIDIA_B200 x 8"),
    ],
)
def test_machines_that_do_not_match_the_gpus_are_refused(
    machine: str, name: str, count: int, reported: str, tmp_path: Path
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(f"train: {{{gpus(name, count)}, custom_job: {{machine_type: {machine}}}}}", "utf-8")
    with pytest.raises(InputError) as refused:
        VERTEX.with_settings(path)
    assert str(refused.value).startswith(f"train.custom_job.machine_type '{machine}'")
    assert reported in str(refused.value)


def test_the_accelerators_are_those_of_the_published_api() -> None:
    published = {kind.name for kind in AcceleratorType} - {"ACCELERATOR_TYPE_UNSPECIFIED"}
    # No machines have K80 any more, those with GB200 have ARM processors, and our images do not support TPUs.
    left_out = {"NVIDIA_TESLA_K80", "NVIDIA_GB200", "TPU_V2", "TPU_V3", "TPU_V4_POD", "TPU_V5_LITEPOD"}
    assert left_out <= published
    assert set(VERTEX.accelerators) == published - left_out


@pytest.mark.parametrize("settings", ["extract: {cpu: 3000}", "extract: {memory: 9000T}"])
def test_more_than_any_node_has_is_refused(settings: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(settings, "utf-8")
    with pytest.raises(InputError, match="exceeds the largest machine of kubeflow"):
        KUBEFLOW.with_settings(path)


@pytest.mark.parametrize(
    ("cpu", "memory", "cores", "size"),
    [
        ("500m", "512Ki", 0.5, 2**19),
        ("2.5", "16G", 2.5, 16 * 10**9),
        ("4", "3Gi", 4, 3 * 2**30),
        ("1", "7", 1, 7),
    ],
)
def test_quantities_are_those_of_kubernetes(cpu: str, memory: str, cores: float, size: int) -> None:
    settings = StepSettings(cpu=cpu, memory=memory)
    assert (settings.cores, settings.memory_bytes) == (cores, size)


def test_a_custom_job_is_vertex_own(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("train: {custom_job: {machine_type: n1-standard-8}}", "utf-8")
    with pytest.raises(InputError, match="is not supported on kubeflow"):
        KUBEFLOW.with_settings(path)


SECRETS = "extract: {secrets: {AWS_ACCESS_KEY_ID: s3/id, AWS_SECRET_ACCESS_KEY: s3/key}}"


def test_secrets_reach_the_step_that_names_them(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(SECRETS, "utf-8")
    arguments = ["--target", "kubeflow", "--output-dir", str(tmp_path), "--settings", str(path)]
    assert compile_py(*arguments) == 0
    for pipeline in ("wals-train", "wals-tune", "wals-probe"):
        spec, platforms = yaml.load_all(
            (tmp_path / f"{pipeline}.kubeflow.yaml").read_text("utf-8"), yaml.CSafeLoader
        )
        assert spec["pipelineInfo"]["name"] == pipeline
        (step,) = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"].items()
        assert step[0] == "exec-extract"
        given = {
            (secret["secretName"], pair["secretKey"], pair["envVar"])
            for secret in step[1]["secretAsEnv"]
            for pair in secret["keyToEnv"]
        }
        assert given == {("s3", "id", "AWS_ACCESS_KEY_ID"), ("s3", "key", "AWS_SECRET_ACCESS_KEY")}


def test_a_spec_with_secrets_is_submitted_in_both_its_parts(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer, tmp_path: Path
) -> None:
    (tmp_path / "settings.yaml").write_text(SECRETS, "utf-8")
    content = f'settings = "{tmp_path}/settings.yaml"\n' + kubeflow_config.read_text("utf-8")
    kubeflow_config.write_text(content, "utf-8")
    request = wals("submit", "--config", kubeflow_config, "--dry-run", "--full").request
    assert set(request["pipeline_spec"]) == {"pipeline_spec", "platform_spec"}
    assert wals("submit", "--config", kubeflow_config).exit_code == 0


KEY = "projects/p/secrets/s3-key/versions/latest"


def test_a_step_on_vertex_reads_its_secrets_from_secret_manager(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(f"extract: {{secrets: {{AWS_SECRET_ACCESS_KEY: {KEY}}}}}", "utf-8")
    arguments = ["--target", "vertex", "--output-dir", str(tmp_path), "--settings", str(path)]
    assert compile_py(*arguments) == 0
    for pipeline in ("wals-train", "wals-tune", "wals-probe"):
        spec = yaml.load((tmp_path / f"{pipeline}.vertex.yaml").read_text("utf-8"), yaml.CSafeLoader)
        executors = spec["deploymentSpec"]["executors"]
        given = {name: executor["container"].get("env") for name, executor in executors.items()}
        (variable,) = given.pop("exec-extract")
        assert variable["name"] == "WALS_SECRETS"
        assert json.loads(variable["value"]) == {"AWS_SECRET_ACCESS_KEY": KEY}
        assert not any(given.values())


@pytest.mark.parametrize(
    ("target", "name", "remedy"),
    [
        (VERTEX, "s3/key", "give projects/PROJECT/secrets/SECRET/versions/VERSION"),
        (KUBEFLOW, KEY, "give SECRET/KEY"),
    ],
)
def test_secrets_have_the_names_of_their_platform(
    target: Target, name: str, remedy: str, tmp_path: Path
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(f"extract: {{secrets: {{AWS_SECRET_ACCESS_KEY: {name}}}}}", "utf-8")
    with pytest.raises(InputError) as refused:
        target.with_settings(path)
    problem = f"is not the name of a secret on {target.name}"
    assert str(refused.value) == f"extract.secrets.AWS_SECRET_ACCESS_KEY '{name}': {problem}; {remedy}"


def test_a_custom_job_has_no_secrets(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    job = "custom_job: {machine_type: n1-standard-8}"
    path.write_text(f"deliver: {{secrets: {{A: {KEY}}}, {job}}}", "utf-8")
    with pytest.raises(InputError, match=r"deliver\.secrets 'A': are not supported for a custom job"):
        VERTEX.with_settings(path)


@pytest.mark.parametrize("target", [VERTEX, KUBEFLOW])
def test_steps_that_call_other_services_are_retried(target: Target) -> None:
    assert {step for step, settings in target.steps.items() if settings.retries} == {"extract", "deliver"}


def test_the_default_of_retries_does_not_keep_a_step_from_being_a_custom_job(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("deliver: {custom_job: {machine_type: n1-standard-8}}", "utf-8")
    assert VERTEX.with_settings(path).steps["deliver"].retries == 0


@pytest.mark.parametrize("secrets", ["{A-B: s/k}", "{A: s}", "{A: S/k}", "{A: s/k/l}", "{A: }", "[A]"])
def test_secrets_are_named_by_variable_secret_and_key(secrets: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(f"extract: {{secrets: {secrets}}}", "utf-8")
    with pytest.raises(InputError, match=r"extract\.secrets"):
        KUBEFLOW.with_settings(path)


def test_a_missing_file_and_two_platforms_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = ["--output-dir", str(tmp_path), "--settings", f"{tmp_path}/none.yaml"]
    assert compile_py("--target", "vertex", *missing) == 2
    assert "none.yaml" in capsys.readouterr().err
    assert compile_py(*missing) == 2
    assert "--target" in capsys.readouterr().err


def test_settings_are_over_the_platforms_own(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("", "utf-8")
    assert VERTEX.with_settings(path) == VERTEX
    path.write_text("publish: {memory: 4G}", "utf-8")
    changed = VERTEX.with_settings(path).steps
    assert changed["publish"] == StepSettings(cpu=VERTEX.steps["publish"].cpu, memory="4G")
    assert changed["train"] == VERTEX.steps["train"]


def images_file(folder: Path, content: object) -> Path:
    path = folder / "images.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


IMAGES = {image_name(step) for step in TRAINING.steps}
DIGESTS = {name: f"eu.example.dev/p/wals/{name}@sha256:{'0' * 64}" for name in IMAGES}
PUSHED: dict[str, Any] = {
    "schema": "wals.images",
    "schema_version": 1,
    "images": DIGESTS,
    "accelerators": {**dict.fromkeys(IMAGES, "cpu"), "train": "gpu"},
}


def compile_with(images: Path, folder: Path, target: str, *more: str) -> int:
    arguments = ["--target", target, "--pipeline", "wals-train", "--output-dir", str(folder)]
    return compile_py(*arguments, "--images", str(images), *more)


@pytest.mark.parametrize("target", TARGETS)
def test_digests_are_pinned_into_the_spec(target: str, tmp_path: Path) -> None:
    assert compile_with(images_file(tmp_path, PUSHED), tmp_path, target) == 0
    spec = yaml.load((tmp_path / f"wals-train.{target}.yaml").read_text("utf-8"), yaml.CSafeLoader)
    assert {step: container(spec, step)["image"] for step in TRAINING.steps} == {
        step: DIGESTS[image_name(step)] for step in TRAINING.steps
    }


def test_a_gpu_is_not_given_to_an_image_that_cannot_use_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = images_file(tmp_path, {**PUSHED, "accelerators": dict.fromkeys(IMAGES, "cpu")})
    assert compile_with(images, tmp_path, "vertex") == 2
    error = capsys.readouterr().err
    assert "has an image for train without CUDA" in error
    assert "run make images ACCELERATOR=gpu GPU_IMAGES='train tune' and push them" in error
    assert compile_with(images, tmp_path, "kubeflow") == 0
    (tmp_path / "settings.yaml").write_text("train: {accelerator: '', accelerators: 0}", "utf-8")
    assert compile_with(images, tmp_path, "vertex", "--settings", f"{tmp_path}/settings.yaml") == 0


def test_an_image_that_ranks_on_a_gpu_is_one_with_cuda(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("evaluate: {accelerator: NVIDIA_L4, accelerators: 1}", "utf-8")
    images = images_file(tmp_path, PUSHED)
    assert compile_with(images, tmp_path, "vertex", "--settings", f"{settings}") == 2
    error = capsys.readouterr().err
    assert "has an image for evaluate without CUDA, but the step has a GPU on vertex" in error
    assert "GPU_IMAGES='evaluate train tune' and push them" in error
    images = images_file(tmp_path, {**PUSHED, "accelerators": {**PUSHED["accelerators"], "evaluate": "gpu"}})
    assert compile_with(images, tmp_path, "vertex", "--settings", f"{settings}") == 0
    spec = yaml.load((tmp_path / "wals-train.vertex.yaml").read_text("utf-8"), yaml.CSafeLoader)
    assert container(spec, "evaluate")["image"] == DIGESTS["evaluate"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("{", id="no JSON"),
        pytest.param([], id="no mapping"),
        pytest.param({**PUSHED, "schema_version": 2}, id="other version"),
        pytest.param({"schema": "wals.images", "schema_version": 1}, id="no images"),
        pytest.param({**PUSHED, "images": None}, id="null"),
        pytest.param({**PUSHED, "images": ["train"]}, id="images in a list"),
        pytest.param({**PUSHED, "images": {"train": DIGESTS["train"]}}, id="steps missing"),
        pytest.param({**PUSHED, "images": {**DIGESTS, "train": "train:latest"}}, id="a tag"),
        pytest.param({**PUSHED, "images": {**DIGESTS, "train": DIGESTS["train"][:-1]}}, id="a short digest"),
        pytest.param({**PUSHED, "images": {**DIGESTS, "train": None}}, id="no reference"),
        pytest.param({**PUSHED, "accelerators": None}, id="no accelerators"),
    ],
)
def test_an_invalid_file_of_images_is_refused(
    content: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compile_with(images_file(tmp_path, content), tmp_path, "vertex") == 2
    error = capsys.readouterr().err
    assert error.startswith("compile.py: error: images")
    assert "make push" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("option", ["--image-prefix", "--tag"])
def test_digests_cannot_be_combined_with_a_prefix_or_a_tag(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compile_with(images_file(tmp_path, PUSHED), tmp_path, "vertex", option, "x") == 2
    assert "cannot be combined with a prefix or a tag" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--image-prefix", "foo/"),
        ("--image-prefix", ""),
        ("--image-prefix", "EU.example.com/My Project/wals"),
        ("--image-prefix", "eu.example.com/Project/wals"),
        ("--image-prefix", "https://eu.example.com/p"),
        ("--image-prefix", "eu.example.com//wals"),
        ("--tag", ""),
        ("--tag", ".1"),
        ("--tag", "a b"),
        ("--tag", "a" * 129),
    ],
)
def test_names_that_no_image_can_have_are_refused(
    option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compile_py("--output-dir", str(tmp_path), option, value) == 2
    error = capsys.readouterr().err
    assert error.startswith("compile.py: error: ")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "prefix", ["wals", "localhost:5000/a/b__c", "EU.example.dev/p-1/wals.x", "127.0.0.1:80/w"]
)
def test_valid_image_names_are_accepted(prefix: str, tmp_path: Path) -> None:
    arguments = [
        "--target",
        "kubeflow",
        "--pipeline",
        "wals-train",
        "--image-prefix",
        prefix,
        "--tag",
        "V_1.x-y",
    ]
    assert compile_py("--output-dir", str(tmp_path), *arguments) == 0


def test_a_target_given_twice_is_one(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("", "utf-8")
    arguments = ["--target", "vertex", "--target", "vertex", "--settings", f"{tmp_path}/settings.yaml"]
    assert compile_py("--output-dir", str(tmp_path), *arguments) == 0


@pytest.mark.parametrize(
    "gpus", ["accelerator: NVIDIA_FOO, accelerators: 1", "accelerator: NVIDIA_L4, accelerators: 3"]
)
def test_a_machine_is_checked_only_with_gpus_that_exist(gpus: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(f"train: {{{gpus}, custom_job: {{machine_type: n2-standard-8}}}}", "utf-8")
    with pytest.raises(InputError, match=r"^train\.accelerators? ") as refused:
        VERTEX.with_settings(path)
    assert "machine_type" not in str(refused.value)
