"""The ``wals`` command itself: its help, and options that are missing or wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.conftest import Wals

COMMANDS = {
    *("run", "tune", "train-job", "compile", "check", "probe", "submit", "schedule", "runs", "logs"),
    *("compare", "report", "cancel", "upload", "recommend"),
}


def test_help_lists_every_command_by_its_name(wals: Wals) -> None:
    output = wals("--help").stdout
    listed = {line.split()[1] for line in output[output.index("Commands") :].splitlines() if "│ " in line}
    assert listed == COMMANDS


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(wals: Wals, command: str) -> None:
    result = wals(command, "--help")
    assert result.exit_code == 0
    assert f"Usage: wals {command}" in result.stdout


def test_the_parameters_are_in_groups_with_choices_and_ranges(wals: Wals) -> None:
    output = wals("run", "--help").stdout
    groups = [line.split()[1] for line in output.splitlines() if line.startswith("╭─")]
    assert groups[:2] == ["Data", "Filters"]
    assert {"Holdout", "Model", "Training", "Solver", "Evaluation", "Output"} <= set(groups)
    assert "[random|last|time|users]" in output
    assert "FLOAT [0<x<1]" in output
    assert "INTEGER [1<=x<=16384]" in output


def test_a_missing_source_is_one_line(wals: Wals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("run", "tune"):
        result = wals(command)
        assert result.exit_code == 2
        assert result.stderr == "wals: error: Missing option '--source'.\n"
    assert not list(tmp_path.iterdir())


def test_all_invalid_parameters_are_reported_at_once(wals: Wals) -> None:
    result = wals(
        "run", "--source", "r.csv", "--split", "half", "--latent-factors", 0, "--holdout-fraction", 2
    )
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    for line in (
        "split 'half': is unknown; choose from random, last, time, users",
        "holdout_fraction 2.0: is not below 1; give a number above 0 and below 1",
        "latent_factors 0: is below 1; give an integer of at least 1",
    ):
        assert line in result.stderr


def test_help_imports_neither_kfp_nor_pandas() -> None:
    program = (
        "import sys; from pipeline.cli import main\ntry: main(['run', '--help'])\nexcept SystemExit: pass\n"
    )
    check = "assert not {'kfp', 'pandas', 'numpy', 'duckdb'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", program + check], check=True, capture_output=True)


@pytest.mark.parametrize("group", [(), ("schedule",), ("train-job",)])
def test_a_group_without_a_command_shows_its_help(wals: Wals, group: tuple[str, ...]) -> None:
    result = wals(*group)
    assert result.exit_code == 2
    assert "Commands" in result.stdout
