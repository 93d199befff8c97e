"""The ``wals`` command itself: its help, and options that are missing or wrong."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import rich_click as click

from pipeline.cli import _COMMANDS
from tests.pipeline.conftest import Wals

COMMANDS = {
    *("run", "tune", "train-job", "compile", "check", "probe", "submit", "schedule", "runs", "logs"),
    *("compare", "report", "cancel", "upload", "models", "recommend", "similar"),
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


def commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Yield a command, or the commands of a group, by the words that call them."""
    if isinstance(command, click.Group):
        for part, inner in command.commands.items():
            yield from commands(f"{name} {part}", inner)
    else:
        yield name, command


ALL = dict(
    found
    for name, (module, _) in _COMMANDS.items()
    for found in commands(name, importlib.import_module(module).command)
)
# What is required is not always known before a configuration is read.
OTHERS = {
    "train-job local": "--train-file None: is missing",
    **dict.fromkeys(
        ("train-job train", "train-job tune", "submit", "schedule list", "upload"),
        "target None: is not a platform; give --target",
    ),
    "probe": "source '': is missing",
    **dict.fromkeys(
        ("models list", "models show", "models compare", "models rollback"), "registry '': is missing"
    ),
}
WITHOUT_REQUIRED = {"compile", "check", "runs"}


@pytest.mark.parametrize("name", sorted(ALL.keys() - WITHOUT_REQUIRED))
def test_a_command_says_what_it_requires_and_is_not_given(
    name: str, wals: Wals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    required = [parameter for parameter in ALL[name].params if parameter.required]
    missing = [
        parameter.make_metavar(click.Context(ALL[name]))
        for parameter in required
        if isinstance(parameter, click.Argument)
    ]
    missing += [parameter.opts[0] for parameter in required if isinstance(parameter, click.Option)]
    result = wals(*name.split())
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    if required:
        assert "Missing" in result.stderr
        assert any(name in result.stderr for name in missing)
    else:
        assert OTHERS[name] in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "option"),
    [
        (name, parameter)
        for name, command in ALL.items()
        for parameter in command.params
        if parameter.required and isinstance(parameter, click.Option)
    ],
    ids=lambda part: part if isinstance(part, str) else part.opts[0],
)
def test_each_required_option_is_enforced(name: str, option: click.Option, wals: Wals) -> None:
    others = [other for other in ALL[name].params if other.required and other is not option]
    given = [
        text
        for other in others
        for text in (["1"] if isinstance(other, click.Argument) else [other.opts[0], "1"])
    ]
    result = wals(*name.split(), *given)
    assert result.exit_code == 2
    assert result.stderr == f"wals: error: Missing option '{option.opts[0]}'.\n"


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
