"""The benchmark of the GPU from end to end on an emulated GPU, so that only the card is new to it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainer.emulation.device import require_compiler

ROOT = Path(__file__).parents[2]
# Compiling for a dozen launches would take longest.
SECTIONS = (
    *("card", "correct", "iterations", "eigenvectors", "ranked", "ranking"),
    *("first", "cpu", "profile", "billion", "peer"),
)


def test_every_section_runs_and_the_kernels_are_correct(tmp_path: Path) -> None:
    require_compiler()
    program = [sys.executable, ROOT / "benchmarks" / "gpu.py", "--emulate", "--out", tmp_path]
    result = subprocess.run(
        [*program, "--only", *SECTIONS], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    assert set(found) == {*SECTIONS, "ranking launches"}
    columns, *cases = found["correct"]
    assert [case[columns.index("passed")] for case in cases] == ["yes"] * 8
    columns, *lists = found["ranked"]
    assert [row[columns.index("passed")] for row in lists] == ["yes"] * 2
    assert [row[0] for row in found["ranking"][1:]] == [20] * 3
    columns, *solvers = found["cpu"]
    differences = [solver[columns.index("difference")] for solver in solvers]
    assert differences == pytest.approx([0, 0, 0], abs=1e-3)
    assert "| d | factors read |" in (tmp_path / "gpu.md").read_text("utf-8")
