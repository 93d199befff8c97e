"""Every command in the documentation can be parsed, and is run by a test or marked as needing a platform."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import rich_click as click

from pipeline.cli import wals as cli
from pipeline.commands.compile import command as compile_command
from tests.pipeline.conftest import Wals
from trainer.job.flags import make_parser

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", "deploy/**/*.md")
    for path in ROOT.glob(pattern)
)
FENCE = re.compile(r"^ *```(?P<kind>.*)$")
PLATFORM = "sh platform"

RUN_HERE = ("wals recommend", "wals similar")
"""Commands that are run in this file, with a model of the sample."""

RUN_BY = {
    "wals run": "tests/pipeline/commands/test_run.py",
    "wals tune": "tests/pipeline/commands/test_tune.py",
    "wals runs": "tests/pipeline/local/test_runs.py",
    "wals compare": "tests/pipeline/local/test_runs.py",
    "wals logs": "tests/pipeline/local/test_runs.py",
    "wals report": "tests/pipeline/local/test_runs.py",
    "wals models list": "tests/pipeline/commands/test_models.py",
    "wals probe": "tests/pipeline/commands/test_probe.py",
    "wals train-job local": "tests/pipeline/commands/test_train_job.py",
    "python compile.py": "tests/pipeline/definition/test_compiling.py",
    "python -m trainer.task": "tests/trainer/test_task.py",
    "python -m examples.shop.pipeline": "tests/examples/test_shop.py",
    "eval": "tests/pipeline/commands/test_completion.py",
}
"""The test that runs each other local command. Those of make that are not here set up, test or measure."""


@dataclass(frozen=True)
class Command:
    """A command of the documentation.

    Attributes:
        page: where it is.
        words: its words.
        kind: how its block is marked.
    """

    page: Path
    words: tuple[str, ...]
    kind: str

    @property
    def program(self) -> str:
        """The program, with its subcommands."""
        if self.words[0] == "wals":
            return " ".join(["wals", *_resolved(self)[2]])
        if self.words[:2] == ("python", "-m"):
            return " ".join(self.words[:3])
        return " ".join(self.words[:2]) if self.words[0] == "python" else self.words[0]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Yield the mark and the text of each block of a page."""
    kind, lines = None, list[str]()
    for line in (ROOT / page).read_text("utf-8").splitlines():
        fence = FENCE.match(line)
        if not fence:
            lines.append(line)
        elif kind is None:
            kind, lines = fence["kind"], []
        else:
            yield kind, "\n".join(lines)
            kind = None
    assert kind is None, f"{page} has a block without an end"


def commands() -> Iterator[Command]:
    """Yield the commands of the documentation, without variables that are set before them."""
    for page in PAGES:
        for kind, text in blocks(page):
            if not kind.startswith("sh"):
                continue
            for line in text.replace("\\\n", " ").splitlines():
                words = shlex.join(shlex.split(line, comments=True))
                for part in words.split(" '&&' "):
                    given = shlex.split(part)
                    while given and re.match(r"[A-Z_]+=", given[0]):
                        del given[0]
                    if given:
                        yield Command(page, tuple(given), kind)


COMMANDS = list(dict.fromkeys(commands()))
LOCAL = [command for command in COMMANDS if command.kind != PLATFORM]


def _resolved(command: Command) -> tuple[click.Command, list[str], list[str]]:
    """Return the click command of ``wals …``, its arguments, and the names of its subcommands."""
    found: click.Command = cli
    rest, names = list(command.words[1:]), list[str]()
    while isinstance(found, click.Group):
        name, subcommand, rest = found.resolve_command(click.Context(found), rest)
        assert name, f"{command}: there is no such command"
        assert subcommand
        found = subcommand
        names.append(name)
    return found, rest, names


def of(*programs: str) -> list[Command]:
    return [command for command in COMMANDS if command.words[: len(programs)] == programs]


@pytest.mark.parametrize("command", of("wals"), ids=str)
def test_an_option_of_wals_exists_and_takes_the_value(command: Command) -> None:
    found, rest, names = _resolved(command)
    with found.make_context(names[-1], rest):
        pass


@pytest.mark.parametrize("command", of("python", "compile.py"), ids=str)
def test_an_option_of_compile_exists_and_takes_the_value(command: Command) -> None:
    with compile_command.make_context("compile.py", list(command.words[2:])):
        pass


@pytest.mark.parametrize("command", of("python", "-m", "trainer.task"), ids=str)
def test_a_flag_of_the_trainer_exists_and_takes_the_value(command: Command) -> None:
    make_parser().parse_args(list(command.words[3:]))


def test_targets_of_make_exist() -> None:
    known = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    used = {word for command in of("make") for word in command.words[1:] if re.fullmatch(r"[a-z-]{3,}", word)}
    assert used <= known
    assert len(used) > 15


def test_scripts_exist() -> None:
    scripts = {command.words[1] for command in of("python") if command.words[1] != "-m"}
    assert [script for script in sorted(scripts) if not (ROOT / script).is_file()] == []


def test_a_local_command_is_run_by_a_test() -> None:
    programs = {command.program for command in LOCAL if command.words[0] not in ("make", ".")}
    measured = {program for program in programs if program.startswith("python benchmarks/")}
    assert programs - measured == {*RUN_HERE, *RUN_BY}
    for program, test in RUN_BY.items():
        last = program.split()[-1].removesuffix(".py")
        assert last == "eval" or last in (ROOT / test).read_text("utf-8"), f"{test} does not run {program}"


@pytest.mark.parametrize(
    "command", [c for c in LOCAL if c.words[0] == "wals" and c.program in RUN_HERE], ids=str
)
def test_a_cheap_local_command_works(
    command: Command,
    sample_run: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(sample_run)
    result = Wals(capsys)(*command.words[1:])
    assert result.exit_code == 0, result.stderr
    assert "Star Wars" in result.stdout or "Toy Story" in result.stdout


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_are_marked(page: Path) -> None:
    programs = ("wals", "make", "python", "gcloud", "docker", "kubectl", "terraform", ".venv/bin/")
    unmarked = [
        line
        for kind, text in blocks(page)
        if kind in ("", "bash", "shell")
        for line in text.splitlines()
        if line.startswith((*(f"{program} " for program in programs), ".venv/bin/"))
    ]
    assert unmarked == [], "mark the block with `sh`, or `sh platform`"


def test_what_needs_a_platform_is_marked() -> None:
    needs = re.compile(
        r"--config|--runner docker|(bq|gs|s3)://|^(gcloud|docker|kubectl|terraform|bq|airflow) "
    )
    unmarked = [str(command) for command in LOCAL if needs.search(shlex.join(command.words))]
    assert unmarked == []
