"""The scripts' calls of Docker, recorded by a stand-in."""

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.images import STEPS

ROOT = Path(__file__).parents[2]
DIGEST = f"sha256:{'5' * 64}"
# Records its arguments, and answers an inspection with values from the environment.
DOCKER = """#!{python}
import json, os, sys
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
command = " ".join(sys.argv)
if sys.argv[1:] == ["--version"]:
    print(os.environ.get("DOCKER_VERSION", ""))
elif sys.argv[1] == "buildx":
    sys.exit(int(os.environ["BUILDX"]))
elif "RepoDigests" in command:
    print(os.environ["DIGESTS"].replace("STEP", sys.argv[-1].rpartition("/")[2].partition(":")[0]))
elif "wals.accelerator" in command:
    print("gpu" if "/train:" in command or "/tune:" in command else "cpu")
elif "inspect" in command:
    print("0123456789abcdef 1000000")
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(script: Run, tmp_path: Path) -> Run:
    """Run a script with the stand-in."""
    docker = tmp_path / "docker"
    docker.write_text(DOCKER.format(python=sys.executable), "utf-8")
    docker.chmod(0o755)

    def run(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return script(name, *arguments, DOCKER=str(docker), CALLS=str(tmp_path / "calls"), **environment)

    return run


def built_with(calls: Path) -> dict[str, dict[str, str]]:
    """Return the build arguments by step."""
    builds = [json.loads(line) for line in calls.read_text("utf-8").splitlines()]
    arguments = [
        dict(f"{value}=".split("=")[:2] for option, value in pairwise(call) if option == "--build-arg")
        for call in builds
        if call[0] == "build"
    ]
    return {build["STEP"]: build for build in arguments}


@pytest.mark.parametrize(("accelerator", "suffix"), [("cpu", ""), ("gpu", "-gpu")])
def test_only_images_that_train_have_cuda(run: Run, tmp_path: Path, accelerator: str, suffix: str) -> None:
    result = run("build.sh", ACCELERATOR=accelerator)
    assert result.returncode == 0, result.stderr
    built = built_with(tmp_path / "calls")
    locks = {step: build["LOCK"] for step, build in built.items()}
    training = {"train": f"train{suffix}", "tune": f"tune{suffix}"}
    assert locks == {step: training.get(step, step) for step in STEPS}
    assert {step for step, build in built.items() if build["ACCELERATOR"] == "gpu"} == (
        {"train", "tune"} if suffix else set()
    )


def test_other_images_get_cuda_if_their_steps_have_a_gpu(run: Run, tmp_path: Path) -> None:
    result = run("build.sh", ACCELERATOR="gpu", GPU_IMAGES="train evaluate publish")
    assert result.returncode == 0, result.stderr
    built = built_with(tmp_path / "calls")
    on_gpu = {step: build["LOCK"] for step, build in built.items() if build["ACCELERATOR"] == "gpu"}
    assert on_gpu == {step: f"{step}-gpu" for step in ("train", "evaluate", "publish")}


@pytest.mark.parametrize("base", ["", "registry.example.com/python:3.11"])
def test_the_base_image_is_the_pinned_one_unless_another_is_set(run: Run, tmp_path: Path, base: str) -> None:
    assert run("build.sh", "extract", BASE_IMAGE=base).returncode == 0
    pinned = (ROOT / "containers" / "base-image").read_text("utf-8").strip()
    assert built_with(tmp_path / "calls")["extract"]["BASE_IMAGE"] == (base or pinned)


def test_mirrors_and_proxies_are_passed_on_only_if_they_are_set(run: Run, tmp_path: Path) -> None:
    unset = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"), "")
    given = {
        "APT_MIRROR": "http://apt.example.com",
        "PIP_INDEX_URL": "https://user:secret@pip.example.com/simple",
    }
    assert run("build.sh", "extract", **unset).returncode == 0
    assert run("build.sh", "prepare", **unset, **given).returncode == 0
    built = built_with(tmp_path / "calls")
    # By name only: a mirror's password is not shown among the machine's processes.
    assert {name: built["prepare"][name] for name in built["prepare"].keys() - built["extract"].keys()} == (
        dict.fromkeys(given, "")
    )


def test_the_address_of_the_sources_has_no_credentials(run: Run, tmp_path: Path) -> None:
    origin = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "remote.origin.url",
        "GIT_CONFIG_VALUE_0": "https://me:secret@example.com/wals.git",
    }
    assert run("build.sh", "extract", **origin).returncode == 0
    assert built_with(tmp_path / "calls")["extract"]["SOURCE"] == "https://example.com/wals.git"


@pytest.mark.parametrize(
    ("version", "plugin", "line"),
    [
        ("Docker version 27.3.1, build ce12230", False, "Docker 27 builds images with the plug-in buildx"),
        ("Docker version 27.3.1, build ce12230", True, ""),
        ("Docker version 20.10.24+dfsg1, build 297e128", False, ""),
        ("podman version 5.2.3", False, ""),
    ],
)
def test_docker_without_buildx_is_one_line(run: Run, version: str, plugin: bool, line: str) -> None:
    result = run("build.sh", "extract", DOCKER_VERSION=version, BUILDX="0" if plugin else "1")
    assert result.returncode == (2 if line else 0)
    assert result.stderr.startswith(f"build.sh: error: {line}" if line else "")
    assert len(result.stderr.splitlines()) == bool(line)


def test_a_machine_without_docker_is_one_line(script: Run, tmp_path: Path) -> None:
    result = script("build.sh", "extract", DOCKER=str(tmp_path / "docker"))
    assert result.returncode == 2
    assert result.stderr.startswith(
        f"build.sh: error: DOCKER '{tmp_path}/docker' cannot be run; install Docker"
    )
    assert len(result.stderr.splitlines()) == 1


def pushed(run: Run, written: Path, *digests: str) -> subprocess.CompletedProcess[str]:
    return run("push.sh", "gcr.io/p/wals", OUTPUT=str(written), DIGESTS="\n".join(digests))


def test_the_digest_is_the_one_from_this_registry(run: Run, tmp_path: Path) -> None:
    """Another registry that the image was pushed to before may have a name with the same ending."""
    other = f"eu.gcr.io/p/wals/STEP@sha256:{'6' * 64}"
    result = pushed(run, tmp_path / "images.json", other, f"gcr.io/p/wals/STEP@{DIGEST}", other)
    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "images.json").read_text("utf-8"))
    assert content["images"] == {step: f"gcr.io/p/wals/{step}@{DIGEST}" for step in STEPS}
    assert content["accelerators"] == {step: "gpu" if step in ("train", "tune") else "cpu" for step in STEPS}


def test_a_missing_digest_is_an_error(run: Run, tmp_path: Path) -> None:
    result = pushed(run, tmp_path / "images.json", f"eu.gcr.io/p/wals/STEP@{DIGEST}")
    assert result.returncode == 1
    assert f"push.sh: error: the registry returned no digest for gcr.io/p/wals/{STEPS[0]}" in result.stderr
    assert not (tmp_path / "images.json").exists()
