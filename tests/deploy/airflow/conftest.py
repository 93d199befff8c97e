"""Airflow versions, each in its own environment, which is created once for its lock."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.files import sha256

ROOT = Path(__file__).parents[3]
# The newest Airflow 3, the newest Airflow 2, and the oldest that the DAGs support.
_LOCKS = ("airflow", "airflow2", "airflow2.9")


@pytest.fixture(scope="session", params=_LOCKS)
def airflow_python(request: pytest.FixtureRequest) -> Path:
    """Return the interpreter of the environment with a lock's packages."""
    lock = ROOT / "requirements" / f"{request.param}.lock.txt"
    environment = ROOT / f".venv-{request.param}"
    python = environment / "bin" / "python"
    installed_lock = environment / "lock.sha256"
    if not installed_lock.exists() or installed_lock.read_text("utf-8") != sha256(lock):
        uv = Path(sys.executable).with_name("uv")
        # Airflow 2 does not support Python 3.13.
        supported = request.param == "airflow" or sys.version_info < (3, 13)
        base = sys.executable if supported else ">=3.11,<3.13"
        for command in (
            [uv, "venv", "-q", "--clear", "--python", base, environment],
            [uv, "pip", "install", "-q", "--python", python, "--require-hashes", "-r", lock],
        ):
            subprocess.run(command, check=True)
        installed_lock.write_text(sha256(lock), "utf-8")
    return python


@pytest.fixture(scope="session")
def airflow_home(airflow_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the home of an Airflow with an empty database."""
    home = tmp_path_factory.mktemp("airflow")
    subprocess.run(
        [airflow_python, "-m", "airflow", "db", "migrate"],
        check=True,
        capture_output=True,
        env=_environment(home),
    )
    return home


@pytest.fixture
def airflow(
    airflow_python: Path, airflow_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script of this folder with Airflow's interpreter, and return its result.

    Each test has its own database, because runs of different tests have the same scheduled time.
    """
    home = tmp_path_factory.mktemp("airflow")
    shutil.copy(airflow_home / "airflow.db", home)

    def run(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [airflow_python, Path(__file__).parent / script, *arguments],
            env={**_environment(home), **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def _environment(home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "deploy" / "airflow" / "dags"),
        "AIRFLOW__CORE__UNIT_TEST_MODE": "false",
        "NO_GCE_CHECK": "true",
    }
