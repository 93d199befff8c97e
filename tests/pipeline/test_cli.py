"""The ``wals`` command itself: its help, and options that are missing or wrong."""

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import rich_click as click

from pipeline.cli import _COMMANDS
from pipeline.definition.pipelines import TRAINING
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
    output = wals("run", "--help-all").stdout
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
        ("train-job train", "train-job tune", "train-job kubernetes", "submit", "schedule list", "upload"),
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


@pytest.mark.parametrize(
    ("command", "rest"),
    [("recomend", "; did you mean 'recommend'?"), ("list-runs", "; did you mean 'runs'?"), ("xyz", ".")],
)
def test_an_unknown_command_is_refused_with_the_most_similar(wals: Wals, command: str, rest: str) -> None:
    result = wals(command)
    assert result.exit_code == 2
    assert result.stderr == f"wals: error: No such command {command!r}{rest}\n"


def test_all_invalid_parameters_are_reported_at_once(wals: Wals) -> None:
    result = wals(
        "run", "--source", "r.csv", "--split", "half", "--latent-factors", 0, "--holdout-fraction", 2
    )
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    for line in (
        "split 'half': is unknown; choose from random, last, time, users",
        "holdout_fraction 2.0: is not below 1; give a number above 0 and below 1",
        "latent_factors '0': is below 1; give auto or an integer of at least 1",
    ):
        assert line in result.stderr


def common_options(output: str) -> list[str]:
    """Return the options that a help text shows."""
    return re.findall(r"^│ (?:[ *]  )?(--[\w-]+)", output, re.MULTILINE)


def test_help_shows_the_common_options_and_help_all_every_one(wals: Wals) -> None:
    short, whole = (common_options(wals("run", option).stdout) for option in ("--help", "--help-all"))
    own = ["--output-dir", "--resume", "--force", "--runner", "--json", "--help-all", "--help"]
    assert short[-len(own) :] == own
    assert short[: -len(own)] == [
        *("--source", "--user-column", "--item-column", "--rating-column", "--timestamp-column", "--items"),
        *("--latent-factors", "--num-iters", "--registry", "--top-k"),
    ]
    assert {f"--{name.replace('_', '-')}" for name in TRAINING.parameters} <= set(whole)


@pytest.mark.parametrize(
    ("command", "has", "lacks"),
    [
        (("runs",), {"--project", "--host", "--namespace"}, {"--service-account", "--network", "--label"}),
        (("logs",), {"--region"}, {"--encryption-key", "--server-time-zone"}),
        (("submit",), {"--project", "--host", "--service-account"}, {"--server-time-zone"}),
        (("schedule", "set"), {"--server-time-zone", "--label"}, {"--template-repository"}),
        (("upload",), {"--template-repository"}, {"--service-account"}),
        (("train-job", "train"), {"--project", "--service-account"}, {"--host", "--namespace"}),
        (("train-job", "local"), {"--train-file", "--alpha"}, {"--project"}),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else "",
)
def test_a_command_has_only_the_options_that_it_uses(
    command: tuple[str, ...], has: set[str], lacks: set[str], wals: Wals
) -> None:
    shown = set(common_options(wals(*command, "--help-all").stdout))
    assert has <= shown
    assert not lacks & shown


def test_an_option_of_another_platform_is_refused(wals: Wals) -> None:
    result = wals("runs", "--target", "kubeflow", "--host", "http://127.0.0.1:9", "--project", "my-project")
    assert result.exit_code == 2
    assert result.stderr == "wals: error: project 'my-project': is not an option of kubeflow; omit it\n"


SLOW = {
    "kfp",
    "kubernetes",
    "google.auth",
    "pandas",
    "numpy",
    "pyarrow",
    "numba",
    "duckdb",
    "requests",
    "boto3",
}


@pytest.mark.parametrize(
    ("arguments", "imported"),
    [
        (("--help",), {"pydantic", "trainer.options"}),
        (("run", "--help"), set()),
        (("recommend", "--help"), {"pydantic"}),
        (("submit", "--help"), set()),
        (("models", "list", "--help"), set()),
        (("schedule", "set", "--help"), set()),
        (("train-job", "local", "--help"), set()),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else "",
)
def test_help_imports_nothing_slow(arguments: tuple[str, ...], imported: set[str]) -> None:
    assert not (SLOW | imported) & modules_after(list(arguments), {})


def test_completion_imports_nothing_slow() -> None:
    completing = {"_WALS_COMPLETE": "bash_complete", "COMP_WORDS": "wals run --la", "COMP_CWORD": "2"}
    assert not SLOW & modules_after([], completing)


def test_compiling_imports_kfp_without_its_client(tmp_path: Path) -> None:
    loaded = modules_after(["compile", "--output-dir", str(tmp_path)], {})
    assert "kfp.compiler" in loaded
    assert not {"kfp.client", "kubernetes", "google.auth", "numpy", "pandas"} & loaded


def modules_after(arguments: list[str], environment: dict[str, str]) -> set[str]:
    """Return the modules that a new process has imported when a command has ended."""
    program = """
import sys
from pipeline.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(*(name for name, module in sys.modules.items() if module), file=sys.stderr)
"""
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    return set(result.stderr.split())


@pytest.mark.parametrize("group", [(), ("schedule",), ("train-job",)])
def test_a_group_without_a_command_shows_its_help(wals: Wals, group: tuple[str, ...]) -> None:
    result = wals(*group)
    assert result.exit_code == 2
    assert "Commands" in result.stdout
