"""The record of runs on this machine, and `wals runs`, `compare` and `report` that read it."""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from components.artifacts.evaluation import (
    SCHEMA,
    Decision,
    Estimate,
    Evaluation,
    Holdout,
)
from pipeline.local.runner import StepEvent
from pipeline.local.runs import link_latest, recorded
from tests.pipeline.conftest import Wals
from trainer.errors import InputError, WalsError
from trainer.files import begin_artifact, finish_artifact


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def evaluated(folder: Path, metrics: Mapping[str, float], holdout: str = "a" * 64) -> None:
    """Write what the evaluation of a run leaves on disk."""
    step = folder / "steps" / "wals-train-1" / "evaluate"
    begin_artifact(step / "evaluation")
    content = Evaluation(
        decision=Decision(outcome="blessed", reason="It is better.", metric="ndcg_at_20", checks=()),
        champion=None,
        holdout=Holdout(users=1, entries=1, checksum=holdout),
        metrics={"model": {name: Estimate(value=value) for name, value in metrics.items()}},
        segments=(),
        parameters={},
        history=(),
    )
    finish_artifact(step / "evaluation", SCHEMA, content.model_dump(mode="json"))
    (step / "report").write_text("<html>ünïcode</html>", "utf-8")
    outputs = {"artifacts": {"metrics": {"artifacts": [{"metadata": dict(metrics)}]}}}
    (step / "executor_output.json").write_text(json.dumps(outputs), "utf-8")


def run(name: str, *, factors: int = 8, holdout: str = "a" * 64, **metrics: float) -> Path:
    """Leave the folder of a run that has succeeded."""
    folder = Path(name)
    with recorded(folder, "wals-train", {"source": "r.csv", "latent_factors": factors}) as note:
        for step in ("extract", "evaluate"):
            note(StepEvent(step, "started"))
            note(StepEvent(step, "logged", "a line"))
            note(StepEvent(step, "succeeded"))
        if metrics:
            evaluated(folder, metrics, holdout)
    return folder


def failed(name: str, error: BaseException) -> None:
    with contextlib.suppress(type(error)), recorded(Path(name), "wals-train", {"source": "r.csv"}) as note:
        note(StepEvent("extract", "started"))
        raise error


def states(wals: Wals) -> dict[str, str]:
    return {entry["id"]: entry["state"] for entry in wals("runs", "--json").json}


def test_runs_are_listed_newest_first_with_how_they_ended(wals: Wals) -> None:
    assert wals("runs", "--json").json == []
    run("runs/first")
    failed("runs/second", WalsError("source 'r.csv': is empty"))
    failed("runs/third", KeyboardInterrupt())
    link_latest(Path("runs/first"))
    run("elsewhere")
    assert list(states(wals).items()) == [
        ("third", "cancelled"),
        ("second", "failed"),
        ("first", "succeeded"),
    ]
    assert [entry["id"] for entry in wals("runs", "--target", "local", "--limit", 1, "--json").json] == [
        "third"
    ]
    table = wals("runs").stdout
    assert [line.split()[1] for line in table.splitlines() if line.startswith("│")] == [
        "third",
        "second",
        "first",
    ]


def test_a_run_is_shown_with_its_steps_metrics_and_error(wals: Wals) -> None:
    run("runs/first", ndcg_at_20=0.25)
    shown = wals("runs", "first")
    assert shown.exit_code == 0
    for text in ("first  succeeded", "extract", "NDCG@20", "0.2500", "runs/first"):
        assert text in shown.stdout
    found = wals("runs", "first", "--json").json
    assert found["parameters"] == {"source": "r.csv", "latent_factors": 8}
    assert [(step["name"], step["state"]) for step in found["steps"]] == [
        ("extract", "succeeded"),
        ("evaluate", "succeeded"),
    ]
    failed("runs/second", WalsError("source 'r.csv': is empty"))
    result = wals("runs", "second")
    assert result.exit_code == 1
    assert "run second failed at extract: source 'r.csv': is empty; see runs/second" in result.stderr


def test_runs_are_compared_and_other_holdouts_are_said(wals: Wals) -> None:
    run("runs/first", ndcg_at_20=0.25)
    run("elsewhere/second", factors=16, ndcg_at_20=0.5)
    link_latest(Path("runs/first"))
    compared = wals("compare", "latest", "elsewhere/second")
    assert compared.exit_code == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in compared.stdout.splitlines()]
    assert ["latent_factors", "8", "16"] in rows
    assert ["ndcg_at_20", "0.2500", "0.5000"] in rows
    assert "not comparable" not in compared.stdout
    run("runs/third", holdout="b" * 64, ndcg_at_20=0.5)
    compared = wals("compare", "first", "third")
    assert (
        "The runs were judged on different holdouts, so that their metrics are not comparable"
        in compared.stdout
    )


def test_the_report_of_a_run(wals: Wals) -> None:
    run("runs/first", ndcg_at_20=0.25)
    result = wals("report", "first")
    assert result.stdout == "runs/first/report.html\n"
    assert Path("runs/first/report.html").read_text("utf-8") == "<html>ünïcode</html>"
    assert wals("report", "runs/first", "--output-dir", "there").stdout == "there/report.html\n"
    run("runs/second")
    result = wals("report", "second")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "run second: has no report" in result.stderr


def test_a_run_that_is_unknown_or_has_a_damaged_record_is_one_line(wals: Wals) -> None:
    run("runs/first")
    for command in (("runs", "none"), ("compare", "first", "none"), ("report", "none")):
        result = wals(*command)
        assert result.exit_code == 2
        assert result.stderr == (
            "wals: error: run 'none': is not a run on this machine; "
            "give one that `wals runs` lists, or its folder\n"
        )
    run("runs/second")
    Path("runs/second/run.json").write_text('{"schema": "wals.run", "schema_version": 2}', "utf-8")
    assert states(wals) == {"first": "succeeded"}
    result = wals("runs", "second")
    assert (
        "runs/second/run.json': is not a readable record of a run; delete the run's folder" in result.stderr
    )


def test_a_run_in_progress_and_one_that_was_killed(wals: Wals) -> None:
    program = """
import sys, time
from pathlib import Path
from pipeline.local.runner import StepEvent
from pipeline.local.runs import recorded
with recorded(Path("runs/first"), "wals-train", {}) as note:
    note(StepEvent("extract", "started"))
    print("started", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "started\n"
        assert states(wals) == {"first": "running"}
        with (
            pytest.raises(
                InputError, match="output folder 'runs/first': is the folder of a run that has not ended"
            ),
            recorded(Path("runs/first"), "wals-train", {}),
        ):
            pytest.fail("two runs write the same folder")
        process.send_signal(signal.SIGKILL)
    assert states(wals) == {"first": "failed"}
    found: Any = wals("runs", "first", "--json").json
    assert found["error"] == "its process was killed"
    assert [step["state"] for step in found["steps"]] == ["failed"]


def test_latest_is_the_newest_run_with_results(wals: Wals) -> None:
    for name in ("first", "second"):
        link_latest(run(f"runs/{name}"))
    link_latest(run("elsewhere"))
    assert Path("runs/latest").readlink() == Path("second")
    found = wals("runs", "latest", "--json").json
    assert (found["id"], found["link"]) == ("second", "runs/second")
    assert not Path("latest").exists()
