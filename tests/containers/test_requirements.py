"""The locks that the images are built from."""

import functools
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from components.images import ON_GPU, image_name
from tests.images import STEPS

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements"
GPU = [f"{image}-gpu" for image in sorted(set(map(image_name, ON_GPU)))]
LOCKS = [*STEPS, *GPU]
_CONTENTS = runpy.run_path(str(ROOT / "containers" / "contents.py"))["contents"]
# Imports a step while hiding all packages except ours and the given distributions.
PROBE = """
import importlib, importlib.metadata, pkgutil, re, sys

step, *installed = sys.argv[1:]
owners = importlib.metadata.packages_distributions()

class Absent:
    def find_spec(self, name, path=None, target=None):
        providers = {re.sub("[-_.]+", "-", owner).lower() for owner in owners.get(name, ())}
        if providers and not providers & {*installed, "wals-pipeline"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
importlib.import_module("components.runtime")
for module in pkgutil.iter_modules([f"components/{step}"], f"components.{step}."):
    if not module.name.endswith(".component"):
        importlib.import_module(module.name)
        print(module.name)
"""


@functools.cache
def contents(step: str) -> set[Path]:
    """Return the files of ``components`` in a step's image."""
    found: set[Path] = _CONTENTS(step, ROOT)
    return found


def pinned(lock: str) -> dict[str, set[str]]:
    """Return the versions of a lock by normalised name; several where they depend on the Python version."""
    versions: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([\w.-]+)==([^\s;]+)", (REQUIREMENTS / f"{lock}.lock.txt").read_text("utf-8"), re.MULTILINE
    ):
        versions.setdefault(normalised(name), set()).add(version)
    return versions


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a folder with the code of a step's image."""
    folder = tmp_path_factory.mktemp("images")

    def open_image(step: str) -> Path:
        if not (folder / step).exists():
            for path in contents(step):
                (folder / step / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / step / path).symlink_to(ROOT / path)
            (folder / step / "trainer").symlink_to(ROOT / "trainer")
        return folder / step

    return open_image


@pytest.mark.parametrize("step", STEPS)
def test_the_image_has_the_packages_and_modules_that_the_step_imports(
    step: str, opened: Callable[[str], Path]
) -> None:
    command = [sys.executable, "-c", PROBE, step, *pinned(step)]
    result = subprocess.run(command, cwd=opened(step), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert f"components.{step}." in result.stdout


@pytest.mark.parametrize(
    ("part", "step"), [("registry", "evaluate"), ("registry", "publish"), ("deliver", "publish")]
)
def test_the_image_has_what_else_runs_in_it(part: str, step: str, opened: Callable[[str], Path]) -> None:
    command = [sys.executable, "-c", PROBE, part, *pinned(step)]
    result = subprocess.run(command, cwd=opened(step), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert f"components.{part}." in result.stdout


@pytest.mark.parametrize("step", STEPS)
def test_the_probe_loads_in_any_image(step: str, opened: Callable[[str], Path]) -> None:
    command = [sys.executable, "-c", PROBE, "probe", *pinned(step)]
    result = subprocess.run(command, cwd=opened(step), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "components.probe.step" in result.stdout


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("extract/step.py", {"extract"}),
        ("extract/sql/rows.sql", {"extract"}),
        ("extract/component.py", set()),
        ("prepare/profile/report.html", {"prepare"}),
        ("train/refit.py", {"train"}),
        ("evaluate/reject.py", {"evaluate"}),
        ("publish/step.py", {"publish"}),
        ("deliver/sql/swap.sql", {"publish"}),
        ("notify/webhook.py", {"publish"}),
        ("tune/choose.py", {"tune"}),
        ("probe/report.py", {"tune"}),
        ("registry/s3.py", {"train", "evaluate", "publish"}),
        ("reports/base.html", {"prepare", "evaluate", "tune"}),
        ("evaluate/labels.py", {"evaluate", "publish"}),
        ("extract/options.py", set(STEPS)),
        ("runtime.py", set(STEPS)),
    ],
)
def test_a_file_is_in_the_images_that_use_it(file: str, images: set[str]) -> None:
    path = Path("components") / file
    assert (ROOT / path).exists()
    assert {step for step in STEPS if path in contents(step)} == images


def test_an_image_that_no_component_names_has_no_contents() -> None:
    with pytest.raises(ValueError, match="no component names the image 'deploy'"):
        _CONTENTS("deploy", ROOT)


@pytest.mark.parametrize("lock", LOCKS)
def test_locked_versions_are_the_tested_ones(lock: str) -> None:
    tested = pinned("dev")
    others = {name: versions for name, versions in pinned(lock).items() if versions != tested.get(name)}
    # The CUDA libraries are only in the locks for GPUs.
    assert all(name.startswith("nvidia-") for name in others) if lock in GPU else not others


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_has_hashes(lock: str) -> None:
    text = (REQUIREMENTS / f"{lock}.lock.txt").read_text("utf-8").strip()
    for entry in re.split(r"\n(?=[^\s#])", text)[1:]:
        assert "--hash=sha256:" in entry, entry


def test_only_training_images_have_tensorflow() -> None:
    training = {"train", "tune", "train-gpu", "tune-gpu"}
    assert {lock for lock in LOCKS if "tensorflow" in pinned(lock)} == training


@pytest.mark.parametrize("lock", GPU)
def test_an_image_for_gpus_has_what_the_other_has_and_cuda(lock: str) -> None:
    added = pinned(lock).keys() - pinned(lock.removesuffix("-gpu")).keys()
    training = {"nvidia-cusolver-cu12", "nvidia-cusparse-cu12", "nvidia-nvjitlink-cu12"}
    ranking = {"cupy-cuda12x", "nvidia-cublas-cu12", "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-runtime-cu12"}
    assert ranking <= added
    assert (training <= added) == lock.startswith("t")


def test_the_base_image_is_pinned_by_digest_and_the_same_in_both_places() -> None:
    pinned = (ROOT / "containers" / "base-image").read_text("utf-8").strip()
    assert re.fullmatch(r"python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}", pinned)
    recipe = (ROOT / "containers" / "Dockerfile").read_text("utf-8")
    assert re.findall(r"^ARG BASE_IMAGE=(.*)$", recipe, re.MULTILINE) == [pinned]
