"""How steps are run: log lines, errors and exit codes."""

import base64
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.publish.options import PublishOptions
from components.runtime import ERROR_FILE, ERROR_MARK, SECRETS, run_step
from tests.conftest import MountedBucket
from tests.pipeline.serving import Call, RefusedError, serving
from trainer.errors import InputError
from trainer.options import Options


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


def test_warnings_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    def step(_: PublishOptions) -> None:
        logging.getLogger("components.publish").info("10 recommendations")
        logging.getLogger("trainer.auto").warning("nothing beats %s", "popularity")

    run_step(step, PublishOptions, {})
    assert capsys.readouterr().err.splitlines() == [
        "wals: 10 recommendations",
        "wals: warning: nothing beats popularity",
    ]


def test_a_step_gets_the_text_of_its_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("FIRST", "SECOND"):
        monkeypatch.setenv(variable, "before")

    def answer(call: Call) -> object:
        if call.match[1] != "a":
            raise RefusedError(403, "no")
        return {"payload": {"data": base64.b64encode(b"sesame\n").decode()}}

    routes = [("GET", r"/v1/projects/p/secrets/(\w+)/versions/1:access", answer)]
    with serving(routes, lambda _, message: {"error": message}, []) as address:
        monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER", address)
        monkeypatch.setenv(SECRETS, json.dumps({"FIRST": "projects/p/secrets/a/versions/1"}))
        assert run_step(lambda _: os.environ["FIRST"], PublishOptions, {}) == "sesame"
        monkeypatch.setenv(SECRETS, json.dumps({"SECOND": "projects/p/secrets/b/versions/1"}))
        with pytest.raises(SystemExit) as ended:
            run_step(lambda _: pytest.fail("the step ran"), PublishOptions, {})
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    problem = "the secret projects/p/secrets/b/versions/1 cannot be read: access is denied"
    assert line.startswith(f"{ERROR_MARK}[1] {problem}")


def test_bad_options_end_the_process_with_one_line_and_the_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_step(lambda _: pytest.fail("the step ran"), PublishOptions, {"top_k": 0})
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        f"{ERROR_MARK}[2] top_k 0: is below 1; give an integer of at least 1 and of at most 100000"
    ]


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that KFP gives to the task that this process is."""
    outputs = {"outputs": {"outputFile": str(tmp_path / "train" / "executor_output.json")}}
    monkeypatch.setattr("sys.argv", ["executor_main.py", "--executor_input", json.dumps(outputs)])
    return tmp_path / "train"


def fails(_: object) -> None:
    raise InputError("alpha", 3, "is\ntoo large", "give a smaller one")


def is_defective(_: object) -> None:
    raise KeyError("https://user:password@example.com\n")


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (fails, f"{ERROR_MARK}[2] alpha 3: is too large; give a smaller one"),
        (is_defective, "KeyError: 'https://***@example.com\\n'"),
    ],
)
def test_a_step_that_fails_leaves_its_line_beside_its_outputs(
    step: Callable[[object], None], line: str, task: Path
) -> None:
    with pytest.raises((SystemExit, KeyError)):
        run_step(step, Options, {})
    assert (task / ERROR_FILE).read_text("utf-8") == line


def test_a_step_that_is_killed_leaves_an_empty_file_and_one_that_succeeds_none(task: Path) -> None:
    seen = run_step(lambda _: (task / ERROR_FILE).read_text("utf-8"), Options, {})
    assert seen == ""
    assert not (task / ERROR_FILE).exists()


def test_an_attempt_that_succeeds_removes_the_line_of_the_one_before(task: Path) -> None:
    with pytest.raises(SystemExit):
        run_step(fails, Options, {})
    run_step(lambda _: None, Options, {})
    assert not (task / ERROR_FILE).exists()


@pytest.mark.parametrize("given", ["", "{}", "[]", '{"outputs": {"outputFile": 3}}', '{"outputs": null}'])
def test_a_step_without_a_folder_of_its_own_runs(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["main.py", "--executor_input", given])
    assert run_step(lambda _: 1, Options, {}) == 1


def test_a_folder_that_cannot_be_written_does_not_fail_the_step(task: Path) -> None:
    task.write_text("a file in its place")
    assert run_step(lambda _: 1, Options, {}) == 1


def test_the_line_is_left_and_removed_in_a_mounted_bucket(
    mounted_bucket: MountedBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = mounted_bucket.folder / "train_-42"
    outputs = {"outputs": {"outputFile": str(task / "executor_output.json")}}
    monkeypatch.setattr("sys.argv", ["executor_main.py", "--executor_input", json.dumps(outputs)])
    with pytest.raises(SystemExit):
        run_step(fails, Options, {})
    assert (task / ERROR_FILE).read_text("utf-8").startswith(ERROR_MARK)
    run_step(lambda _: None, Options, {})
    assert not (task / ERROR_FILE).exists()
