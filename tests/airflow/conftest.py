"""An Airflow in an environment of its own, made once for each lock."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.files import sha256

ROOT = Path(__file__).parents[2]
_LOCK = ROOT / "requirements" / "airflow.lock.txt"
_ENVIRONMENT = ROOT / ".venv-airflow"


@pytest.fixture(scope="session")
def airflow_python() -> Path:
    """Return the interpreter of the environment that the lock gives."""
    python = _ENVIRONMENT / "bin" / "python"
    made = _ENVIRONMENT / "lock.sha256"
    if not made.exists() or made.read_text("utf-8") != sha256(_LOCK):
        uv = Path(sys.executable).with_name("uv")
        for command in (
            [uv, "venv", "-q", "--clear", "--python", sys.executable, _ENVIRONMENT],
            [uv, "pip", "install", "-q", "--python", python, "--require-hashes", "-r", _LOCK],
        ):
            subprocess.run(command, check=True)
        made.write_text(sha256(_LOCK), "utf-8")
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
def airflow(airflow_python: Path, airflow_home: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script of this folder with Airflow's interpreter, and return what it did."""

    def run(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [airflow_python, Path(__file__).parent / script, *arguments],
            env={**_environment(airflow_home), **variables},
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
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "airflow" / "dags"),
        "AIRFLOW__CORE__UNIT_TEST_MODE": "false",
        "NO_GCE_CHECK": "true",
    }
