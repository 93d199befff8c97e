"""Pushing images to a real registry, and compiling with the digests that it returns."""

import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml

from components.images import image, image_name
from pipeline.cli import run_command
from pipeline.commands.compile import command
from tests.images import STEPS

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
Run = Callable[..., CompletedProcess[str]]
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a registry on this machine (Debian's docker-registry)."""
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    configuration = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder)}},
        "http": {"addr": address},
    }
    (folder / "registry.yml").write_text(yaml.safe_dump(configuration), "utf-8")
    with subprocess.Popen(
        ["docker-registry", "serve", folder / "registry.yml"], stderr=subprocess.DEVNULL
    ) as server:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert server.poll() is None, "the registry exited"
                assert time.monotonic() < deadline, "the registry does not listen"
                time.sleep(0.1)
        yield address
        server.terminate()


@pytest.fixture(scope="module")
def small_images(docker: Run) -> Iterator[str]:
    """Prefix of nearly empty images that have the steps' names and labels."""
    for step in STEPS:
        accelerator = "gpu" if step in ("train", "tune") else "cpu"
        labels = f"step={step} org.opencontainers.image.revision={REVISION} wals.accelerator={accelerator}"
        recipe = f"FROM scratch\nLABEL {labels}\n"
        result = docker("build", "--tag", image(step, "wals-test-push"), "-", stdin=recipe)
        assert result.returncode == 0, result.stderr
    yield "wals-test-push"
    docker("rmi", *(image(step, "wals-test-push") for step in STEPS))


def test_the_pushed_digests_are_compiled_into_the_spec(
    registry: str, small_images: str, script: Run, docker: Run, tmp_path: Path
) -> None:
    written = tmp_path / "build" / "images.json"
    result = script("push.sh", f"{registry}/wals/", PREFIX=small_images, OUTPUT=str(written))
    assert result.returncode == 0, result.stderr
    pinned = json.loads(written.read_text("utf-8"))["images"]
    assert list(pinned) == list(STEPS)
    for step, reference in pinned.items():
        assert re.fullmatch(rf"{registry}/wals/{step}@sha256:[0-9a-f]{{64}}", reference)
        assert docker("pull", reference).returncode == 0
        assert docker("pull", f"{registry}/wals/{step}:{REVISION}").returncode == 0

    arguments = [
        "--target",
        "vertex",
        "--pipeline",
        "wals-train",
        "--output-dir",
        str(tmp_path),
        "--images",
        str(written),
    ]
    assert run_command(command, arguments, "compile.py") == 0
    spec = yaml.safe_load((tmp_path / "wals-train.vertex.yaml").read_text("utf-8"))
    executors = spec["deploymentSpec"]["executors"]
    steps = [name.removeprefix("exec-") for name in executors]
    assert {step: executors[f"exec-{step}"]["container"]["image"] for step in steps} == {
        step: pinned[image_name(step)] for step in steps
    }


def test_no_file_is_written_if_the_registry_is_unreachable(
    small_images: str, script: Run, tmp_path: Path
) -> None:
    written = tmp_path / "images.json"
    result = script("push.sh", "127.0.0.1:9/wals", PREFIX=small_images, OUTPUT=str(written))
    assert result.returncode == 1
    assert f"push.sh: error: 127.0.0.1:9/wals/{STEPS[0]}" in result.stderr
    assert not list(tmp_path.iterdir())


def test_missing_images_are_named(script: Run, tmp_path: Path) -> None:
    result = script("push.sh", "127.0.0.1:9/wals", PREFIX="none", OUTPUT=str(tmp_path / "images.json"))
    assert result.returncode == 2
    assert f"image none/{STEPS[0]}:" in result.stderr
    assert "containers/build.sh" in result.stderr
