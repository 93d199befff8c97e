"""Text that attacks the terminal, from every place where text of other origin reaches it."""

import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy import sparse

from components.probe.findings import Finding
from pipeline.display import remote_run
from pipeline.display.local_run import RunDisplay
from pipeline.display.output import PlainTable, print_line
from pipeline.display.probe import findings_table
from pipeline.display.remote_run import run_view
from pipeline.display.results import metrics_table, recommendations_table
from pipeline.local.runner import StepEvent
from pipeline.platforms.backend import Run, Step
from tests.pipeline.conftest import Wals
from tests.pipeline.kubeflow_server import KubeflowServer
from trainer import task
from trainer.config import TrainConfig
from trainer.matrix import InteractionMatrix
from trainer.model import Model, seen_of
from trainer.recommender import Recommender
from trainer.terminal import visible
from trainer.vocabulary import Vocabulary

pytestmark = pytest.mark.attack

# The text, and what a person must see of it.
ATTACKS = {
    "a closing tag": ("[/foo]", "[/foo]"),
    "a style": ("[red]x[/red]", "[red]x[/red]"),
    "a link": ("[link=http://evil]x[/link]", "[link=http://evil]x[/link]"),
    "an emoji": (":skull:", ":skull:"),
    "a title of the window": ("a\x1b]0;owned\x07b", r"a\x1b]0;owned\x07b"),
    "the clipboard": ("\x1b]52;c;cm0gLXJm\x1b\\", "\\x1b]52;c;cm0gLXJm\\x1b\\"),
    "a clear screen": ("\x1b[2J\x1b[H", r"\x1b[2J\x1b[H"),
    "a C1 sequence": ("\x9b31mred", r"\x9b31mred"),
    "an overwritten line": ("bad\rgood", r"bad\rgood"),
    "an erased word": ("bad\b\b\bgood", r"bad\x08\x08\x08good"),
    "a reversed name": ("\u202egpj.exe", r"\u202egpj.exe"),
    "an isolate": ("a\u2066b\u2069", r"a\u2066b\u2069"),
}
attacks = pytest.mark.parametrize(("text", "shown"), ATTACKS.values(), ids=ATTACKS)
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# What rich itself writes to a terminal: colours, and the moves of a live table.
OWN = re.compile(r"\x1b\[[\d;?]*[a-zA-Z]")
TIME = datetime(2026, 1, 1, tzinfo=UTC)


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=900, color_system="standard")


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return OWN.sub("", console.file.getvalue()).replace("\r", "")


def fitted(ids: list[str]) -> tuple[Model, InteractionMatrix]:
    seen = np.eye(len(ids), dtype=np.float32)
    training = InteractionMatrix.from_scipy(sparse.csr_array(seen))
    factors = np.eye(len(ids), dtype=np.float32)
    vocabulary = Vocabulary(pa.array(sorted(ids)))
    config = TrainConfig(latent_factors=len(ids))
    return Model(config, factors, factors, vocabulary, vocabulary, seen_of(training.by_row)), training


@attacks
def test_ids_and_titles_are_shown_as_text(text: str, shown: str, wals: Wals, tmp_path: Path) -> None:
    model, training = fitted([text, "other", "~third"])
    model.save(tmp_path / "model")
    result = wals("recommend", "--model", tmp_path / "model", "--user", "other")
    assert result.exit_code == 0, result.stderr
    assert shown in result.stdout
    assert not CONTROL.search(result.stdout)
    as_json = wals("recommend", "--model", tmp_path / "model", "--user", "other", "--json").json["items"]
    assert text in [row["item"] for row in as_json]
    titles = pa.array([text if item == "other" else None for item in sorted([text, "other", "~third"])])
    console = terminal()
    console.print(recommendations_table(Recommender(model, titles=titles), training, 2, 2))
    assert written(console).count(shown) >= 2
    assert not CONTROL.search(written(console))


def test_runs_of_a_hostile_server_are_shown_as_text(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "900")
    for name in ("_FIRST_POLL_SECONDS", "_LONGEST_POLL_SECONDS"):
        monkeypatch.setattr(remote_run, name, 0.01)
    # A carriage return ends a line of a log.
    text, shown = (
        "".join(texts).replace("\r", "").replace(r"\r", "") for texts in zip(*ATTACKS.values(), strict=True)
    )
    kubeflow.logs = {"train": f"{text}\n"}
    run_id = wals("submit", "--config", kubeflow_config, "--wait", "--json").json["id"]
    kubeflow.runs[run_id]["display_name"] = text
    kubeflow.runs[run_id]["runtime_config"]["parameters"]["source"] = text
    for arguments in (("runs",), ("logs", run_id, "train"), ("compare", run_id, "--all")):
        result = wals(*arguments, "--config", kubeflow_config)
        assert result.exit_code == 0, result.stderr
        assert shown in result.stdout, arguments
        assert not CONTROL.search(result.stdout)
    assert wals("runs", "--config", kubeflow_config, "--json").json["runs"][0]["name"] == text


@attacks
def test_errors_are_shown_as_text(
    text: str, shown: str, wals: Wals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for result in (wals(text), wals("runs", f"--{text}"), wals("compile", "--target", text)):
        assert result.exit_code == 2
        assert not CONTROL.search(result.stderr)
        assert "bug:" not in result.stderr
    assert task.main(["--job-dir", str(tmp_path), "--train-file", f"{tmp_path}/{text}"]) == 2
    assert not CONTROL.search(capsys.readouterr().err)


@attacks
def test_every_view_shows_text_on_a_terminal(text: str, shown: str) -> None:
    run = Run(text, text, "failed", TIME, TIME, text, {}, text, [Step(text, text, TIME, TIME, text)])
    views = [
        run_view(run),
        findings_table([Finding(text, "fix", text, text, (text,))]),
        metrics_table({text: 1}),
    ]
    for view in views:
        console = terminal()
        console.print(view)
        assert shown in written(console)
        assert not CONTROL.search(written(console))
    for console in (terminal(), Console(file=io.StringIO(), width=900)):
        with RunDisplay(console, [text]) as display:
            display.show(StepEvent(text, "started"))
            display.show(StepEvent(text, "logged", text))
        print_line(console, text)
        assert shown in written(console)
        assert not CONTROL.search(written(console))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.text(st.one_of(st.characters(max_codepoint=0x9F), st.characters()), max_size=30))
def test_any_text_can_be_shown(text: str) -> None:
    console = Console(file=io.StringIO(), width=500)
    table = PlainTable(text)
    table.add_row(text)
    console.print(table)
    print_line(console, text)
    assert not CONTROL.search(written(console))
    written(console).encode("utf-8")
    assert visible(visible(text)) == visible(text)


def test_json_stays_exact(wals: Wals, tmp_path: Path) -> None:
    ids = [text for text, _ in ATTACKS.values()]
    model, _ = fitted([*ids, "user"])
    model.save(tmp_path / "model")
    result = wals("recommend", "--model", tmp_path / "model", "--user", "user", "-k", 50, "--json")
    assert {row["item"] for row in json.loads(result.stdout)["items"]} == set(ids)
    assert not CONTROL.search(result.stdout)
