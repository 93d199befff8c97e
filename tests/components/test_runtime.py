"""What happens around a step."""

import json
import logging
from collections.abc import Iterator

import pytest

from components.runtime import run_step


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what a step does to the logging of its process, which here is that of all tests."""
    loggers = [logging.getLogger(package) for package in ("components", "trainer")]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers, logger.level, logger.propagate = handlers, level, propagate


def on_a_machine_of(pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a machine of a Vertex AI custom job that has several."""
    cluster = {"workerpool0": ["a:2222"], "workerpool1": ["b:2222", "c:2222"]}
    monkeypatch.setenv("CLUSTER_SPEC", json.dumps({"cluster": cluster, "task": {"type": pool, "index": 0}}))


def test_the_first_machine_of_several_runs_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_machine_of("workerpool0", monkeypatch)
    assert run_step(lambda path: f"{path} is done", path="p") == "p is done"


def test_the_other_machines_say_so_and_end_as_a_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_a_machine_of("workerpool1", monkeypatch)
    with pytest.raises(SystemExit) as ended:
        run_step(lambda: pytest.fail("the step ran"))
    assert ended.value.code == 0
    assert capsys.readouterr().err.splitlines() == [
        "wals: the first machine of this job runs the step; this one has nothing to do"
    ]
