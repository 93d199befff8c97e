"""The container engine and the images that these tests run."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKER = os.environ.get("DOCKER", "docker")
# For the label of the images, because this checkout may have no remote.
SOURCE = "https://example.com/wals"

Docker = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def docker() -> Docker:
    """Run the client with the given arguments."""

    def run(*arguments: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [DOCKER, *map(str, arguments)]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="session")
def script() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script of ``containers/`` with arguments and, by keyword, environment variables."""

    def run(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ROOT / "containers" / name, *arguments],
            env={**os.environ, "DOCKER": DOCKER, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def images(script: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """Every step's image, built from this checkout."""
    result = script("build.sh", SOURCE=SOURCE)
    assert result.returncode == 0, result.stderr
