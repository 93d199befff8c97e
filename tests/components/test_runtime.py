"""How steps are run: log lines, errors and exit codes."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.publish.options import PublishOptions
from components.runtime import ERROR_MARK, run_step


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo a step's changes to the logging of its process, which all tests share."""
    loggers = [logging.getLogger(package) for package in ("components", "trainer")]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers, logger.level, logger.propagate = handlers, level, propagate


def on_a_machine_of(pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend to be a machine of a Vertex AI custom job that has several."""
    cluster = {"workerpool0": ["a:2222"], "workerpool1": ["b:2222", "c:2222"]}
    monkeypatch.setenv("CLUSTER_SPEC", json.dumps({"cluster": cluster, "task": {"type": pool, "index": 0}}))


def test_the_first_machine_of_several_runs_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_machine_of("workerpool0", monkeypatch)
    arguments = {"top_k": 3, "model": SimpleNamespace(path="p"), "rest": [1]}
    done = run_step(lambda options, **others: (options, others), PublishOptions, arguments)
    assert done == (PublishOptions(top_k=3), {"model": Path("p"), "rest": [1]})


def test_the_other_machines_say_so_and_end_as_a_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_a_machine_of("workerpool1", monkeypatch)
    with pytest.raises(SystemExit) as ended:
        run_step(lambda _: pytest.fail("the step ran"), PublishOptions, {})
    assert ended.value.code == 0
    assert capsys.readouterr().err.splitlines() == [
        "wals: the first machine of this job runs the step; this machine has nothing to do"
    ]


def test_bad_options_end_the_process_with_one_line_and_the_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_step(lambda _: pytest.fail("the step ran"), PublishOptions, {"top_k": 0})
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        f"{ERROR_MARK}[2] top_k 0: is below 1; give an integer of at least 1 and of at most 100000"
    ]
