"""The probe in the steps' images: what it finds there, and what it says about limits and foreign folders."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from components.images import DEFAULT_TAG, image
from tests.containers.test_requirements import pinned
from tests.images import STEPS

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("images")]

WALS = Path(sys.executable).with_name("wals")
Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def found(images: None, ratings_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The findings of a run in containers."""
    arguments = ("-p", f"source={ratings_csv}", "--runner", "docker", "--output-dir", "out", "--json")
    result = subprocess.run(
        [WALS, "probe", *arguments],
        cwd=tmp_path_factory.mktemp("probe"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode in (0, 1), result.stderr
    findings: list[dict[str, Any]] = json.loads(result.stdout)["findings"]
    return findings


def test_each_image_runs_every_check_as_this_user(found: list[dict[str, Any]]) -> None:
    by_check = {row["check"]: row for row in found}
    assert by_check["user"]["steps"] == ["all"]
    assert by_check["user"]["found"].startswith(f"uid {os.getuid()}, ")
    assert by_check["version"]["steps"] == ["all"]
    assert by_check["version"]["found"].startswith(f"wals {DEFAULT_TAG}, revision ")
    assert by_check["artifacts"]["status"] == "ok"
    assert by_check["source"]["status"] == "ok"
    assert by_check["loop item"]["status"] == "ok"
    assert by_check["solver"]["steps"] == ["train", "trial"]
    assert not [row for row in found if "cannot be checked" in row["found"]]


def test_each_image_has_its_own_packages(found: list[dict[str, Any]]) -> None:
    packages = {step: row["found"] for row in found if row["check"] == "packages" for step in row["steps"]}
    assert set(packages) == {*STEPS, "trial"} - {"tune"}
    for step, listed in packages.items():
        locked = pinned({"trial": "tune"}.get(step, step))
        for name in ("duckdb", "tensorflow", "numba"):
            assert (f"{name} " in listed) == (name in locked), (step, name)


def look(docker: Run, code: str, *options: str) -> CompletedProcess[str]:
    """Run a check in a container of the publish image."""
    command = ("--rm", *options, "--entrypoint", "python3", image("publish"), "-c", code)
    return docker("run", *command)


def test_a_folder_of_another_user_is_to_fix(docker: Run, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    code = """
from pathlib import Path
from components.probe.files import artifact_folder
print([str(found) for found in artifact_folder(Path("/out/findings"), 1 << 20, 5)])
"""
    # Of root, and not of the image's user.
    result = look(docker, code, "--mount", f"type=bind,source={tmp_path},target=/out")
    assert result.returncode == 0, result.stderr
    assert "fix     |           | artifacts        | the artifact folder: Permission denied" in result.stdout
    assert "let uid 10001 write there" in result.stdout


def test_the_limits_of_the_container_are_those_that_count(docker: Run) -> None:
    code = "from components.probe.machine import *; print(cpu_quota(), memory_limit())"
    result = look(docker, code, "--cpus", "0.5", "--memory", "300m")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["0.5", str(300 << 20)]
