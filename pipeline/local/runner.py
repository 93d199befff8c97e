"""Running a compiled pipeline on this machine through ``kfp.local``."""

import contextlib
import io
import re
import sys
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from kfp import components, dsl, local
from kfp.local import DockerRunner, SubprocessRunner

from components.runtime import ERROR_LINE, LOG_MARK
from pipeline.local.kfp_workarounds import process_state_restored, subprocess_runner
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
        kind: ``started``, ``logged``, ``succeeded`` or ``failed``.
        line: the line of a ``logged`` event.
    """

    step: str
    kind: str
    line: str = ""


@dataclass
class _Printer:
    """The unfinished line that one thread has printed, and the step it belongs to."""

    rest: str = ""
    step: str = ""


class _Transcript(io.TextIOBase):
    """Receives the output of kfp.local: writes it to a log file and reports the steps' events.

    kfp.local has no interface for progress; its printed output is the only source.
    """

    def __init__(self, log: TextIO, on_event: Callable[[StepEvent], None]) -> None:
        self.error: WalsError | None = None
        self._log = log
        self._on_event = on_event
        # Each parallel task prints from its own thread, a piece of a line at a time.
        self._printers: defaultdict[int, _Printer] = defaultdict(_Printer)

    def write(self, text: str) -> int:
        printer = self._printers[threading.get_ident()]
        *lines, printer.rest = (printer.rest + text).split("\n")
        for line in lines:
            self._read(printer, _COLOUR.sub("", line).rstrip())
        return len(text)

    def _read(self, printer: _Printer, line: str) -> None:
        self._log.write(line + "\n")
        self._log.flush()
        if started := _STARTED.search(line):
            printer.step = started["step"]
            self._on_event(StepEvent(printer.step, "started"))
        elif finished := _FINISHED.search(line):
            succeeded = finished["status"] == "SUCCESS"
            self._on_event(StepEvent(finished["step"], "succeeded" if succeeded else "failed"))
        elif failed := ERROR_LINE.search(line):
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
) -> dict[str, Any]:
    """Run a compiled pipeline step by step and return the pipeline's outputs.

    Args:
        spec: a compiled pipeline.
        arguments: values of pipeline parameters; the others keep their defaults.
        folder: folder for artifacts and ``run.log``; created if missing.
        on_event: function that is called when steps start, log and end.
        runner: context manager that yields the runner of the steps; by default, each runs in its own process.

    Returns:
        The pipeline's outputs by name: artifacts with ``path`` and ``metadata``, or values.

    Raises:
        InputError: the folder cannot be written.
        WalsError: a step failed; has the line and exit code that the step printed.
    """
    make_writable(folder)
    with (folder / "run.log").open("w", encoding="utf-8") as log:
        transcript = _Transcript(log, on_event)
        try:
            with (
                contextlib.redirect_stdout(transcript),
                process_state_restored(),
                runner() as kfp_runner,
                warnings.catch_warnings(),
            ):
                # Silence kfp's warnings that subprocesses ignore limits and images.
                warnings.simplefilter("ignore")
                local.init(kfp_runner, pipeline_root=str(folder / "steps"))
                pipeline = components.load_component_from_file(str(spec))
                outputs = dict(pipeline(**arguments).outputs)
        except RuntimeError as error:
            raise transcript.error or _unexplained(error, folder / "run.log") from error
    _check_written(outputs, folder / "run.log")
    return outputs


def _unexplained(error: Exception, log: Path) -> WalsError:
    """Return the error for a step that failed without printing one: a bug, or a killed process."""
    sys.stderr.writelines(line + "\n" for line in log.read_text("utf-8").splitlines()[-_LOG_LINES_SHOWN:])
    return WalsError(f"{_COLOUR.sub('', str(error))} The end of its log is above; the whole log is {log}")


def _check_written(outputs: Mapping[str, Any], log: Path) -> None:
    """Make sure that every output artifact of a reported success exists."""
    for name, output in outputs.items():
        # Metrics are in an artifact's metadata and have no file.
        has_file = isinstance(output, dsl.Artifact) and not isinstance(output, dsl.Metrics)
        if has_file and not Path(output.path).exists():
            raise WalsError(f"the run reported success but wrote no {name}; see {log}")
