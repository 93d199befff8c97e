"""What happens around a step."""

import json
from typing import Any

import pytest

from components.runtime import run_step


def on_a_machine_of(pool: str, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Run a step on a machine of a Vertex AI custom job, and return the arguments that it was called with."""
    cluster = {"workerpool0": ["a:2222"], "workerpool1": ["b:2222", "c:2222"]}
    monkeypatch.setenv("CLUSTER_SPEC", json.dumps({"cluster": cluster, "task": {"type": pool, "index": 0}}))
    calls: list[dict[str, Any]] = []
    try:
        run_step(lambda **arguments: calls.append(arguments), path="p")
    except SystemExit as ended:
        assert ended.code == 0
    return calls


def test_the_first_machine_of_several_runs_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_a_machine_of("workerpool0", monkeypatch) == [{"path": "p"}]


def test_the_other_machines_say_so_and_end_as_a_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert on_a_machine_of("workerpool1", monkeypatch) == []
    assert capsys.readouterr().err.splitlines() == [
        "wals: the first machine of this job runs the step; this one has nothing to do"
    ]
