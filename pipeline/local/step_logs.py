"""What the steps of a run on this machine print: a file each in ``logs``, numbered as they started."""

import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.platforms.backend import LogLine, check_step, nothing_written

FOLDER = "logs"
INDENT = " " * 4
"""Precedes the lines that a step prints, among those of kfp.local."""

_NAME = re.compile(r"\d+-(?P<step>.+)\.log")
# What KFP's executor prints around a step: a line each, and after the second one the step's inputs as JSON.
_EXECUTOR = re.compile(r"\[KFP Executor [^]]* INFO\]: (?P<message>.*)")
_INPUT, _END_OF_INPUT = "Got executor_input:", "}"


class StepLogs:
    """Writes the logs of the steps of a run; its methods may be called from several threads."""

    def __init__(self, folder: Path) -> None:
        """Continue the logs of a run.

        Args:
            folder: folder of the run.
        """
        self._folder = folder / FOLDER
        self._lock = threading.Lock()

    def begin(self, step: str) -> Path:
        """Return the new log of a step that starts."""
        with self._lock:
            self._folder.mkdir(exist_ok=True)
            path = self._folder / f"{len(list(self._folder.iterdir())) + 1:03}-{step}.log"
            path.touch()
            return path


def write_line(log: Path, line: str) -> None:
    """Add a line that kfp.local has printed to the log of its step, unless it is kfp.local's own."""
    if line.startswith(INDENT):
        with log.open("a", encoding="utf-8") as file:
            file.write(line.removeprefix(INDENT) + "\n")


def read_lines(folder: Path, run_id: str, step: str) -> Iterator[LogLine]:
    """Yield the lines of a run's steps, step by step in the order they started, without KFP's own.

    A step that ran several times, in a loop or because the run was resumed, is numbered: ``trial.2``.

    Args:
        folder: folder of the run.
        run_id: id of the run, for errors.
        step: name of one step, with or without a number; "" for all.

    Raises:
        InputError: there is no such step.
        WalsError: nothing has been written.
    """
    logs = [(path, found["step"]) for path, found in _logs(folder)]
    times = Counter(name for _, name in logs)
    numbers: Counter[str] = Counter()
    named: list[tuple[Path, str, str]] = []
    for path, name in logs:
        numbers[name] += 1
        named.append((path, name, f"{name}.{numbers[name]}" if times[name] > 1 else name))
    check_step(step, [*times, *(shown for _, _, shown in named)])
    written = False
    for path, name, shown in named:
        if step not in ("", name, shown):
            continue
        lines = path.read_text("utf-8", "replace").splitlines()
        written |= bool(lines)
        for line in _own(lines):
            yield LogLine(shown, line)
    if not written:
        raise nothing_written(run_id, step)


def _own(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines that the step itself printed."""
    in_input = False
    for line in lines:
        if in_input:
            in_input = line != _END_OF_INPUT
        elif printed := _EXECUTOR.match(line):
            in_input = printed["message"] == _INPUT
        else:
            yield line


def _logs(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    files = sorted((folder / FOLDER).glob("*.log"))
    return [(file, found) for file in files if (found := _NAME.fullmatch(file.name))]
