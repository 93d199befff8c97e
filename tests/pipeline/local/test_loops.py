"""Parallel loops of a compiled pipeline on this machine."""

import builtins
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from kfp import compiler, dsl

from components.runtime import ERROR_LINE
from pipeline.local import kfp_workarounds
from pipeline.local.runner import StepEvent, run_compiled
from trainer.errors import WalsError


@dsl.component(base_image="python", packages_to_install=[], install_kfp_package=False)
def number_steps() -> list[int]:
    return [0, 1, 2]


@dsl.component(base_image="python", packages_to_install=[], install_kfp_package=False)
def looped(number: int, folder: str, how: str) -> int:
    import sys
    import time
    from pathlib import Path

    def mark(name: str) -> None:
        Path(folder, name).touch()

    mark(f"{number} started")
    if how == "meets":
        for other in range(3):
            late = time.monotonic() + 60
            while not Path(folder, f"{other} started").exists():
                if time.monotonic() > late:
                    sys.exit(1)
                time.sleep(0.01)
    elif how:
        if number == 0:
            # Fails while its neighbour runs.
            while not Path(folder, "1 started").exists():
                time.sleep(0.01)
            refusal = "wals-error[2] alpha 3: is too large; give a smaller one"
            print(refusal if how == "refuses" else "Segmentation fault", file=sys.stderr)
            sys.exit(2)
        time.sleep(30)
    elif number == 1:
        while not Path(folder, "others ended").exists():
            time.sleep(0.01)
    print("wals: the end of a step")
    mark(f"{number} ended")
    return number


@dsl.component(base_image="python", packages_to_install=[], install_kfp_package=False)
def told(status: dsl.PipelineTaskFinalStatus, folder: str) -> None:
    from pathlib import Path

    Path(folder, status.state).touch()


@pytest.fixture(scope="module")
def looping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled pipeline with a loop of three steps, and an exit handler."""

    @dsl.pipeline(name="looping")
    def looping(folder: str, how: str) -> None:
        with (
            dsl.ExitHandler(told(folder=folder)),
            dsl.ParallelFor(number_steps().output) as number,
        ):
            looped(number=number, folder=folder, how=how)

    path = tmp_path_factory.mktemp("looping") / "looping.yaml"
    compiler.Compiler().compile(looping, str(path))
    return path


@pytest.fixture(autouse=True)
def cores(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Give this machine a number of cores, of which it has two at first."""

    def have(count: int) -> None:
        monkeypatch.setattr(kfp_workarounds, "usable_cores", lambda: count)

    have(2)
    return have


def test_as_many_steps_of_a_loop_run_at_once_as_there_are_cores(
    looping: Path, tmp_path: Path, cores: Callable[[int], None]
) -> None:
    cores(3)
    events: list[StepEvent] = []
    arguments = {"folder": str(tmp_path), "how": "meets"}
    run_compiled(looping, arguments, tmp_path / "run", events.append)
    kinds = [event.kind for event in events if event.step == "looped" and event.kind != "logged"]
    assert kinds == ["started"] * 3 + ["succeeded"] * 3


def test_a_step_that_fails_stops_its_loop_and_not_the_exit_handler(looping: Path, tmp_path: Path) -> None:
    marks, run = tmp_path / "marks", tmp_path / "run"
    marks.mkdir()
    events: list[StepEvent] = []
    with pytest.raises(WalsError) as error:
        run_compiled(looping, {"folder": str(marks), "how": "refuses"}, run, events.append)
    assert str(error.value) == "alpha 3: is too large; give a smaller one"
    assert error.value.exit_code == 2
    assert {path.name for path in marks.iterdir()} == {"0 started", "1 started", "FAILED"}
    assert [event.kind for event in events if event.step == "looped" and event.kind != "logged"] == [
        *("started", "started", "failed", "failed")
    ]
    assert StepEvent("looped", "logged", "stopped, because another step failed") in events
    assert len(ERROR_LINE.findall((run / "run.log").read_text("utf-8"))) == 1


def test_the_end_of_the_log_is_that_of_the_step_that_failed(
    looping: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(WalsError, match="The end of its log is above"):
        run_compiled(looping, {"folder": str(tmp_path), "how": "crashes"}, tmp_path / "run", lambda _: None)
    lines = capsys.readouterr().err.splitlines()
    assert "    Segmentation fault" in lines
    assert not [line for line in lines if "stopped, because another step failed" in line]


def test_a_loop_that_succeeds_runs_and_logs_all_its_steps(looping: Path, tmp_path: Path) -> None:
    marks, run = tmp_path / "marks", tmp_path / "run"
    marks.mkdir()
    events: list[StepEvent] = []

    def note(event: StepEvent) -> None:
        events.append(event)
        if events.count(StepEvent("looped", "succeeded")) == 2:
            (marks / "others ended").touch()

    root, original = logging.getLogger(), print
    before = root.handlers[:], root.level
    run_compiled(looping, {"folder": str(marks), "how": ""}, run, note)
    assert builtins.print is original
    assert (root.handlers, root.level) == before
    kinds = Counter(event.kind for event in events if event.step == "looped")
    assert kinds == dict.fromkeys(("started", "logged", "succeeded"), 3)
    for log in run.glob("logs/*-looped.log"):
        assert log.read_text("utf-8").count("wals: the end of a step") == 1
    assert {path.name for path in marks.iterdir()} == {
        *(f"{number} {what}" for number in range(3) for what in ("started", "ended")),
        "others ended",
        "SUCCEEDED",
    }
