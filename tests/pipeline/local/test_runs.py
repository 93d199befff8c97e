"""The record of runs on this machine, and `wals runs`, `compare` and `report` that read it."""

import contextlib
import json
import shutil
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
from pipeline.local.step_logs import StepLogs, write_line
from tests.pipeline.conftest import Wals
from trainer.choice import Choice
from trainer.errors import InputError, WalsError
from trainer.files import begin_artifact, finish_artifact


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def evaluated(
    folder: Path, metrics: Mapping[str, float], holdout: str = "a" * 64, choice: Choice | None = None
) -> None:
    """Write what the evaluation of a run leaves on disk."""
    step = folder / "steps" / "wals-train-1" / "evaluate"
    begin_artifact(step / "evaluation")
    content = Evaluation(
        decision=Decision(outcome="blessed", reason="It is better.", metric="ndcg_at_20", checks=()),
        champion=None,
        holdout=Holdout(users=1, entries=1, checksum=holdout),
        metrics={"model": {name: Estimate(value=value) for name, value in metrics.items()}},
        segments=(),
        parameters={"latent_factors": 32, "regularization": 0.018},
        choice=choice,
        history=(),
    )
    finish_artifact(step / "evaluation", SCHEMA, content.model_dump(mode="json"))
    (step / "report").write_text("<html>ünïcode</html>", "utf-8")
    outputs = {"artifacts": {"metrics": {"artifacts": [{"metadata": dict(metrics)}]}}}
    (step / "executor_output.json").write_text(json.dumps(outputs), "utf-8")


def run(
    name: str, *, factors: int = 8, holdout: str = "a" * 64, replace: bool = False, **metrics: float
) -> Path:
    """Leave the folder of a run that has succeeded."""
    folder = Path(name)
    parameters = {"source": "r.csv", "latent_factors": factors}
    with recorded(folder, "wals-train", parameters, replace=replace) as note:
        for step in ("extract", "evaluate"):
            note(StepEvent(step, "started"))
            note(StepEvent(step, "logged", "a line"))
            note(StepEvent(step, "succeeded"))
        if metrics:
            evaluated(folder, metrics, holdout)
    return folder


def failed(name: str, error: BaseException, *, replace: bool = False) -> None:
    recording = recorded(Path(name), "wals-train", {"source": "r.csv"}, replace=replace)
    with contextlib.suppress(type(error)), recording as note:
        note(StepEvent("extract", "started"))
        raise error


def states(wals: Wals) -> dict[str, str]:
    return {entry["id"]: entry["state"] for entry in wals("runs", "--json").json["runs"]}


def test_runs_are_listed_newest_first_with_how_they_ended(wals: Wals) -> None:
    assert wals("runs", "--json").json["runs"] == []
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
    assert [
        entry["id"] for entry in wals("runs", "--target", "local", "--limit", 1, "--json").json["runs"]
    ] == ["third"]
    table = wals("runs").stdout
    assert [line.split()[1] for line in table.splitlines() if line.startswith("│")] == [
        "third",
        "second",
        "first",
    ]


def test_what_was_chosen_for_the_data_is_compared(wals: Wals) -> None:
    run("runs/first", ndcg_at_20=0.25)
    second = run("runs/second", ndcg_at_20=0.5)
    evaluated(
        second,
        {"ndcg_at_20": 0.5},
        choice=Choice(("latent_factors",), "ndcg_at_20", 0.5, 0.4, 100, 1000, 1.0, ()),
    )
    compared = wals("compare", "first", "second")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in compared.stdout.splitlines()]
    assert ["latent_factors", "8", "32 (auto)"] in rows
    assert "regularization" not in compared.stdout, "it was given, and the record of the run has it"


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


def test_a_run_is_replaced_when_the_new_one_has_succeeded(wals: Wals) -> None:
    run("out", ndcg_at_20=0.25)
    Path("out/notes.html").write_text("mine", "utf-8")
    with (
        pytest.raises(InputError, match="'out': has an earlier run"),
        recorded(Path("out"), "wals-train", {}),
    ):
        pytest.fail("the earlier run was replaced")
    assert wals("runs", "out", "--json").json["metrics"] == {"ndcg_at_20": 0.25}
    for error in (WalsError("source 'r.csv': is empty"), KeyboardInterrupt()):
        failed("out", error, replace=True)
        assert wals("runs", "out", "--json").json["metrics"] == {}
        assert wals("runs", "out/.earlier", "--json").json["metrics"] == {"ndcg_at_20": 0.25}
    run("out", replace=True, ndcg_at_20=0.5)
    assert wals("runs", "out", "--json").json["metrics"] == {"ndcg_at_20": 0.5}
    assert not Path("out/.earlier").exists()
    assert Path("out/notes.html").read_text("utf-8") == "mine"


@pytest.mark.parametrize(
    ("pipeline", "parameters", "problem"),
    [
        ("wals-tune", {"source": "r.csv"}, "'out': has a run of wals-train, not of wals-tune"),
        ("wals-train", {"source": "s.csv"}, "source 's.csv': was 'r.csv' in the run; give the same"),
        ("wals-train", {"source": "r.csv", "new": 1}, "new 1: was None in the run; give the same"),
    ],
)
def test_only_the_same_run_is_resumed(pipeline: str, parameters: dict[str, Any], problem: str) -> None:
    failed("out", WalsError("source 'r.csv': is empty"))
    before = Path("out/run.json").read_bytes()
    with (
        pytest.raises(InputError, match=problem),
        recorded(Path("out"), pipeline, parameters, resume=True),
    ):
        pytest.fail("another run was resumed")
    assert Path("out/run.json").read_bytes() == before


def test_there_must_be_a_run_to_resume(wals: Wals) -> None:
    run("runs/first")
    Path("r.csv").write_text("user,item\nada,1\n", "utf-8")
    command = ("run", "--source", "r.csv", "--resume")
    for arguments, problem in (
        (("--output-dir", "none"), "output folder 'none': has no run to resume"),
        ((), "output folder 'runs/first': has a run that has succeeded"),
    ):
        result = wals(*command, *arguments)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert problem in result.stderr
    shutil.rmtree("runs")
    assert "resume True: finds no run" in wals(*command).stderr


def test_the_logs_of_a_run(wals: Wals) -> None:
    folder = run("runs/first")
    logs = StepLogs(folder)
    for step, line in (("extract", "a row"), ("trial", "one"), ("trial", "two")):
        log = logs.begin(step)
        write_line(log, "00:00:00.000 - INFO - Streamed logs:")
        write_line(log, f"    {line}")
    assert wals("logs", "first").stdout == "extract: a row\ntrial.1: one\ntrial.2: two\n"
    assert wals("logs", "first", "trial").stdout == "one\ntwo\n"
    assert wals("logs", "first", "trial.2", "--json").json["lines"] == [{"step": "trial.2", "text": "two"}]
    result = wals("logs", "first", "train")
    assert result.exit_code == 2
    assert "step 'train': is not a step of the run; give one of extract, trial, trial.1" in result.stderr
    log = logs.begin("publish")
    executor = "[KFP Executor 2026-11-27 04:01:38,838 {}]: {}".format
    for line in (
        *(executor("INFO", "Looking for component `publish`"), executor("INFO", "Got executor_input:")),
        *("{", '    "inputs": {', "    }", "}"),
        *("wals: 3 items", executor("WARNING", "slow"), "Traceback (most recent call last):", "}"),
        executor("INFO", "Wrote executor output file to x."),
    ):
        write_line(log, f"    {line}")
    result = wals("logs", "first", "publish")
    own = ["wals: 3 items", executor("WARNING", "slow"), "Traceback (most recent call last):", "}"]
    assert result.stdout.splitlines() == own
    assert result.stderr == "With the lines of Kubeflow Pipelines itself: runs/first/logs\n"
    assert '"inputs"' in log.read_text("utf-8")
    run("runs/second")
    result = wals("logs", "second")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "run second: it has no log" in result.stderr
