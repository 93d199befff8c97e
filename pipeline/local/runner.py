"""Running a compiled pipeline on this machine through ``kfp.local``."""

import contextlib
import io
import re
import sys
import threading
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from kfp import components, local
from kfp.local import DockerRunner, SubprocessRunner

from components.runtime import ERROR_LINE, LOG_MARK
from pipeline.local.finished import FinishedSteps, code_here, kept
from pipeline.local.kfp_workarounds import (
    loops_fail_fast,
    loops_use_all_cores,
    one_log,
    subprocess_runner,
)
from pipeline.local.outputs import StepOutputs, has_ended, read_outputs
from pipeline.local.step_logs import StepLogs, write_line
from trainer.errors import WalsError
from trainer.files import make_writable

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STARTED = re.compile(r"Executing task '(?P<step>[^']+)'")
_FINISHED = re.compile(r"Task '(?P<step>[^']+)' finished with status (?P<status>\w+)")
_LOGGED = re.compile(rf"\s*{LOG_MARK} (?P<line>.*)")
_LOG_LINES_SHOWN = 30


@dataclass(frozen=True)
class StepEvent:
    """Something that happened to a step.

    Attributes:
        step: the step's name.
        kind: ``started``, ``logged``, ``succeeded`` or ``failed``, or ``reused`` for a step that had
            succeeded before.
        line: the line of a ``logged`` event.
    """

    step: str
    kind: str
    line: str = ""


@dataclass
class _Printer:
    """What one thread has printed: the unfinished line, the last lines, and the step with its log."""

    rest: str = ""
    step: str = ""
    log: Path | None = None
    last_lines: deque[str] = field(default_factory=partial(deque, maxlen=_LOG_LINES_SHOWN))


class _Transcript(io.TextIOBase):
    """Receives the output of kfp.local: writes it to a log file and reports the steps' events.

    kfp.local has no interface for progress; its printed output is the only source.
    """

    def __init__(self, log: TextIO, on_event: Callable[[StepEvent], None]) -> None:
        self.error: WalsError | None = None
        self._end_of_failed: list[str] = []
        self.succeeded: list[str] = []
        self._log = log
        self._on_event = on_event
        self._logs = StepLogs(Path(log.name).parent)
        # Each parallel task prints from its own thread, a piece of a line at a time.
        self._printers: defaultdict[int, _Printer] = defaultdict(_Printer)

    def write(self, text: str) -> int:
        printer = self._printers[threading.get_ident()]
        *lines, printer.rest = (printer.rest + text).split("\n")
        for line in lines:
            self._read(printer, _COLOUR.sub("", line).rstrip())
        return len(text)

    def unexplained(self, error: Exception, log: Path) -> WalsError:
        """Return the error for a step that failed without printing one: a bug, or a killed process."""
        lines = self._end_of_failed or self._printers[threading.get_ident()].last_lines
        sys.stderr.writelines(f"{line}\n" for line in lines)
        return WalsError(f"{_COLOUR.sub('', str(error))} The end of its log is above; the whole log is {log}")

    def _read(self, printer: _Printer, line: str) -> None:
        self._log.write(line + "\n")
        self._log.flush()
        printer.last_lines.append(line)
        if printer.log:
            write_line(printer.log, line)
        if started := _STARTED.search(line):
            printer.step = started["step"]
            printer.log = self._logs.begin(printer.step)
            printer.last_lines.clear()
            self._on_event(StepEvent(printer.step, "started"))
        elif finished := _FINISHED.search(line):
            printer.log = None
            succeeded = finished["status"] == "SUCCESS"
            if succeeded:
                self.succeeded.append(finished["step"])
            else:
                self._end_of_failed = self._end_of_failed or [*printer.last_lines]
            self._on_event(StepEvent(finished["step"], "succeeded" if succeeded else "failed"))
        elif failed := ERROR_LINE.search(line):
            # Later steps, such as that of an exit handler, run after the first error.
            if not self.error:
                self.error = WalsError(failed["message"])
                self.error.exit_code = int(failed["exit_code"])
        elif logged := _LOGGED.match(line):
            self._on_event(StepEvent(printer.step, "logged", logged["line"]))


def run_compiled(
    spec: Path,
    arguments: Mapping[str, Any],
    folder: Path,
    on_event: Callable[[StepEvent], None],
    runner: Callable[[], AbstractContextManager[SubprocessRunner | DockerRunner]] = subprocess_runner,
    code: Callable[[], str] = code_here,
) -> dict[str, StepOutputs]:
    """Run a compiled pipeline step by step and return what the steps wrote.

    Steps that an earlier attempt in the same folder has finished, with the same inputs and code, are not run
    again; see `pipeline.local.finished`. When a step of a parallel loop fails, the
    others of the loop are stopped.

    Args:
        spec: a compiled pipeline.
        arguments: values of pipeline parameters; the others keep their defaults.
        folder: folder for artifacts and ``run.log``; created if missing.
        on_event: function that is called when steps start, log and end.
        runner: context manager that yields the runner of the steps; by default, each runs in its own process.
        code: function that returns the version of the code that they run.

    Returns:
        The outputs of the steps that ran or had succeeded before, by step; steps in loops are left out.

    Raises:
        InputError: the folder cannot be written.
        WalsError: a step failed; has the line and exit code that the step printed.
    """
    make_writable(folder)
    steps = folder / "steps"
    earlier = set(steps.glob("*"))
    reused: dict[str, Path] = {}

    def reuse(step: str, attempt: str) -> None:
        reused[step] = steps / attempt
        on_event(StepEvent(step, "reused"))

    def attempt() -> str:
        (own,) = set(steps.glob("*")) - earlier
        return own.name

    finished = FinishedSteps(folder, code(), attempt, reuse)
    with (folder / "run.log").open("a", encoding="utf-8") as log:
        transcript = _Transcript(log, on_event)
        try:
            with (
                contextlib.redirect_stdout(transcript),
                one_log(),
                loops_fail_fast(),
                loops_use_all_cores(),
                runner() as kfp_runner,
                kept(finished),
                warnings.catch_warnings(),
            ):
                # Silence kfp's warnings that subprocesses ignore limits and images.
                warnings.simplefilter("ignore")
                local.init(kfp_runner, pipeline_root=str(steps))
                pipeline = components.load_component_from_file(str(spec))
                pipeline(**arguments)
        except RuntimeError as error:
            raise transcript.error or transcript.unexplained(error, folder / "run.log") from error
    for step in transcript.succeeded:
        if not has_ended(steps / attempt(), step):
            raise WalsError(f"{step} reported success but did not finish; see {folder / 'run.log'}")
    outputs = read_outputs(steps / attempt()) if transcript.succeeded else {}
    return outputs | {step: read_outputs(ran)[step] for step, ran in reused.items() if (ran / step).is_dir()}
