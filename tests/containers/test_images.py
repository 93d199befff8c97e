"""Properties of the steps' images."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from components.images import DEFAULT_TAG, image
from tests.containers.conftest import DOCKER, SOURCE
from tests.containers.test_requirements import pinned
from tests.images import STEPS
from trainer.solvers.levels import best_level

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("images")]

ROOT = Path(__file__).parents[2]
TRAINING = ("train", "tune")
Run = Callable[..., CompletedProcess[str]]
# Options of a platform that locks containers down.
LOCKED = (
    "--rm",
    "--read-only",
    "--tmpfs",
    "/tmp",
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
)

# Prints the libraries that the loader finds broken. Libraries with missing dependencies do not count.
LOADS = """
import importlib.machinery, pathlib, site
root = pathlib.Path(site.getsitepackages()[0])
suffixes = tuple(importlib.machinery.EXTENSION_SUFFIXES[:-1])
modules = [path.relative_to(root) for path in root.rglob("*.so") if path.name.endswith(suffixes)]
for module in modules:
    try:
        importlib.import_module(".".join([*module.parts[:-1], module.name.partition(".")[0]]))
    except Exception as error:
        if "ELF" in str(error):
            print(module, error)
print(len(modules) > 50)
"""


@pytest.mark.parametrize("step", STEPS)
def test_the_image_prints_help(docker: Run, step: str) -> None:
    result = docker("run", *LOCKED, image(step), "--help")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: ")


# Puts a library where Vertex AI and GKE mount the driver's, and loads it.
DRIVER = """
mkdir -p /usr/local/nvidia/lib64
cp "$(find / -xdev -name 'libm.so.6' | head -n 1)" /usr/local/nvidia/lib64/libcuda.so.1
python3 -c 'import ctypes; ctypes.CDLL("libcuda.so.1")'
"""


@pytest.mark.parametrize("step", STEPS)
def test_the_driver_is_found_where_platforms_mount_it(docker: Run, step: str) -> None:
    result = docker("run", "--rm", "--user", "0", "--entrypoint", "sh", image(step), "-ec", DRIVER)
    assert result.returncode == 0, result.stderr


def test_training_does_not_leave_a_gpu_without_a_driver_idle(docker: Run, ratings_csv: Path) -> None:
    gpu = ("--device", "/dev/null:/dev/nvidia0")
    run = ("run", *LOCKED, *gpu, "--volume", f"{ratings_csv}:/tmp/ratings.csv:ro", image("train"))
    flags = ("--job-dir", "/tmp/job", "--train-file", "/tmp/ratings.csv", "--data-type", "user_ratings")
    result = docker(*run, *flags)
    assert result.returncode == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("trainer.task: error: ")]
    assert "solver 'auto': cannot use NVIDIA GPU: the driver's library libcuda.so.1 cannot be loaded" in line
    result = docker(*run, *flags, "--solver", "cg", "--num_iters", "1")
    assert result.returncode == 0, result.stderr


TRIAL = """
from trainer.job.run import _tuner
tuner = _tuner()
tuner.report_hyperparameter_tuning_metric("training/hptuning/metric", 1.5, global_step=3)
print(open("/var/hypertune/output.metrics").read())
"""
# As if the platform had mounted the folder for root only.
FOR_ROOT = ("--mount", "type=tmpfs,target=/var/hypertune,tmpfs-mode=0755")


def test_a_trial_reports_its_metric_as_the_user_of_the_image(docker: Run) -> None:
    run = ("run", "--rm", "--cap-drop", "ALL", "--entrypoint", "python3")
    result = docker(*run, image("train"), "-c", TRIAL)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["training/hptuning/metric"] == "1.5"
    result = docker(*run, *FOR_ROOT, image("train"), "-c", TRIAL)
    assert "cannot report its metric as user 10001" in result.stderr
    assert "RUN_AS=0:0" in result.stderr


def test_an_image_can_run_as_root(docker: Run, script: Run) -> None:
    result = script("build.sh", "train", PREFIX="wals-root", RUN_AS="0:0", SOURCE=SOURCE)
    assert result.returncode == 0, result.stderr
    root = image("train", "wals-root")
    result = docker("run", "--rm", *FOR_ROOT, "--entrypoint", "python3", root, "-c", TRIAL)
    assert result.returncode == 0, result.stderr
    docker("rmi", root)


def test_the_train_image_runs_the_trainer(docker: Run) -> None:
    result = docker("run", *LOCKED, image("train"))
    assert result.returncode == 2
    assert "the following arguments are required: --job-dir" in result.stderr


@pytest.mark.parametrize("user", ["", "10001:10001", "4711:0"])
@pytest.mark.parametrize("step", STEPS)
def test_a_step_loads_on_a_read_only_file_system_as_any_user(docker: Run, step: str, user: str) -> None:
    code = f"import os, components.{step}; assert os.getuid(); print(os.listdir('/tmp'))"
    chosen = ("--user", user) if user else ()
    result = docker("run", *LOCKED, *chosen, "--entrypoint", "python3", image(step), "-c", code)
    assert result.returncode == 0, result.stderr


# Runs the step on a few interactions, and prints the kernels that were compiled instead of loaded.
COMPILES = """
import sys
from components.miniatures import run_miniature
run_miniature(sys.argv[1])
from trainer.solvers.kernels import KERNELS
print(len(KERNELS), *(kernel.py_func.__name__ for kernel in KERNELS if kernel.stats.cache_misses))
"""


@pytest.mark.skipif(best_level() is None, reason="requires an x86-64-v3 processor")
@pytest.mark.parametrize("step", [step for step in STEPS if step != "extract"])
def test_a_step_does_not_compile_kernels(docker: Run, step: str) -> None:
    result = docker("run", *LOCKED, "--entrypoint", "python3", image(step), "-c", COMPILES, step)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.split()) == 1, result.stdout
    assert int(result.stdout) > 0


@pytest.mark.parametrize("step", STEPS)
def test_no_build_tools_are_left_inside(docker: Run, step: str) -> None:
    tools = "cc gcc g++ make git pip pip3 strip"
    script = f"for tool in {tools}; do command -v $tool; done; ls /root/.cache /tmp; true"
    result = docker("run", *LOCKED, "--user", "0", "--entrypoint", "sh", image(step), "-c", script)
    assert result.stdout.split() == ["/tmp:"]
    result = docker("run", *LOCKED, "--entrypoint", "python3", image(step), "-m", "pip", "--version")
    assert "No module named pip" in result.stderr


@pytest.mark.parametrize("step", STEPS)
def test_labels_name_the_step_and_its_sources(docker: Run, step: str) -> None:
    labels = json.loads(docker("inspect", "--format", "{{json .Config.Labels}}", image(step)).stdout)
    name = "org.opencontainers.image"
    assert labels[f"{name}.title"] == f"wals/{step}"
    assert labels[f"{name}.version"] == DEFAULT_TAG
    assert labels[f"{name}.licenses"] == "Apache-2.0"
    assert len(labels[f"{name}.revision"].removesuffix("-dirty")) == 40
    assert labels[f"{name}.source"] == SOURCE
    pinned = (ROOT / "containers" / "base-image").read_text("utf-8").strip()
    assert labels[f"{name}.base.name"] == (os.environ.get("BASE_IMAGE") or pinned)
    assert labels["wals.accelerator"] == "cpu"


@pytest.mark.parametrize("step", [step for step in STEPS if step not in TRAINING])
def test_only_images_that_train_are_large(docker: Run, step: str) -> None:
    assert int(docker("inspect", "--format", "{{.Size}}", image(step)).stdout) < 9e8


@pytest.mark.parametrize("step", STEPS)
def test_every_library_loads_after_stripping(docker: Run, step: str) -> None:
    result = docker("run", *LOCKED, "--entrypoint", "python3", image(step), "-c", LOADS)
    assert result.stdout == "True\n", result.stderr


def test_the_sbom_lists_the_locked_packages(script: Run, tmp_path: Path) -> None:
    result = script("sbom.sh", OUTPUT=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {f"{step}.spdx.json" for step in STEPS}
    for step in STEPS:
        document = json.loads((tmp_path / f"{step}.spdx.json").read_text("utf-8"))
        assert document["spdxVersion"] == "SPDX-2.3"
        listed = {package["externalRefs"][0]["referenceLocator"] for package in document["packages"]}
        assert len(listed) == len({package["SPDXID"] for package in document["packages"]})
        # Some versions in a lock are for Python versions other than the image's.
        installed = {purl.removeprefix("pkg:pypi/") for purl in listed if purl.startswith("pkg:pypi/")}
        versions = pinned(step)
        assert all(version in versions[name] for name, version in (one.split("@") for one in installed))
        assert any(f"numpy@{version}" in installed for version in versions["numpy"])
        assert any(purl.startswith("pkg:deb/debian/libc6@") for purl in listed)


def test_the_sbom_of_a_missing_image_is_refused(script: Run, tmp_path: Path) -> None:
    result = script("sbom.sh", PREFIX="none", OUTPUT=str(tmp_path))
    assert result.returncode == 2
    assert result.stderr.startswith("sbom.sh: error: image none/")


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["deploy"], {}, "'deploy' is not a step"),
        ([], {"ACCELERATOR": "tpu"}, "ACCELERATOR 'tpu'"),
        (
            *([], {"ACCELERATOR": "gpu", "GPU_IMAGES": "train extract"}),
            "GPU_IMAGES names 'extract', which has no GPU; choose from evaluate publish train tune",
        ),
        ([], {"RUN_AS": "root"}, "RUN_AS 'root'"),
    ],
)
def test_building_refuses_unknown_steps_and_accelerators(
    script: Run, arguments: list[str], environment: dict[str, str], message: str
) -> None:
    result = script("build.sh", *arguments, **environment)
    assert result.returncode == 2
    assert result.stderr.startswith("build.sh: error: ")
    assert message in result.stderr


def layers_after_a_change(docker: Run, tmp_path: Path, step: str, file: str) -> list[str]:
    """Return the layers of a step's image, built from a copy of the sources in which a file is longer."""
    sources = tmp_path / "sources"
    for name in ("trainer", "components", "containers", "requirements"):
        shutil.copytree(
            ROOT / name,
            sources / name,
            ignore=shutil.ignore_patterns("__pycache__"),
            copy_function=shutil.copy,
        )
    shutil.copy(ROOT / "pyproject.toml", sources)
    with (sources / file).open("a", encoding="utf-8") as changed:
        changed.write("\n")
    variables = {"DOCKER": DOCKER, "PREFIX": "wals-changed", "REVISION": "changed", "SOURCE": SOURCE}
    build = [sources / "containers" / "build.sh", step]
    result = subprocess.run(
        build, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    layers = layers_of(docker, image(step, "wals-changed"))
    docker("rmi", image(step, "wals-changed"))
    return layers


def layers_of(docker: Run, name: str) -> list[str]:
    layers: list[str] = json.loads(docker("inspect", "--format", "{{json .RootFS.Layers}}", name).stdout)
    assert len(layers) > 3
    return layers


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("components/extract/step.py", True),
        ("components/extract/sql/rows.sql", True),
        ("components/prepare/step.py", False),
        ("components/extract/component.py", False),
        ("components/deliver/sql/swap.sql", False),
    ],
)
def test_a_change_to_a_step_changes_only_its_image(
    docker: Run, tmp_path: Path, file: str, changes: bool
) -> None:
    layers = layers_after_a_change(docker, tmp_path, "extract", file)
    assert (layers != layers_of(docker, image("extract"))) is changes
