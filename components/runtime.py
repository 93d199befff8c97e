"""Runs the logic of every step: plain log lines, and errors as one line with an exit code."""

import contextlib
import itertools
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from trainer.distributed.cluster import cluster_of_environment
from trainer.errors import WalsError, failure_of_machine
from trainer.options import Options

Result = TypeVar("Result")

_logger = logging.getLogger(__name__)

LOG_MARK = "wals:"
"""Prefix of each line that a step logs, which distinguishes it from the platform's lines."""

WARNING_MARK = "warning:"
"""What follows that prefix if the line is a warning."""

ERROR_MARK = "wals-error"
"""Prefix of the last line of a failed step; the exit code in brackets and the message follow."""

ERROR_LINE = re.compile(rf"{ERROR_MARK}\[(?P<exit_code>\d+)\] (?P<message>.*)")
"""Finds that line in a step's output."""

ERROR_FILE = "wals-error.txt"
"""File beside the outputs of a step that failed: its error line, or nothing if it runs or was killed.

The notification reads it where it can read the folders of a run's steps: on Vertex AI and on this machine.
"""


SECRETS = "WALS_SECRETS"
"""Environment variable of a step on Vertex AI: a JSON object with the name of a secret's version in Secret
Manager by the variable that gets its text."""


def run_step(
    step: Callable[..., Result],
    options: type[Options],
    arguments: Mapping[str, Any],
    *,
    assistant: Callable[..., object] | None = None,
) -> Result:
    """Call ``step`` as the main job of a container: ``step(options, **others)``.

    A :class:`~trainer.errors.WalsError` ends the process with the error's exit code after one line on
    standard error, ``wals-error[CODE] MESSAGE``, which log viewers show and the local runner reads. Other
    exceptions are bugs and keep their traceback. Either line also stays in `ERROR_FILE` beside the outputs.

    A Vertex AI custom job gives every machine the same step and the same output paths. Only the first machine
    runs the step; the others call ``assistant`` and end without writing any output.

    Args:
        step: the step's logic.
        options: the model of the step's options.
        arguments: arguments of the component. Fields of the model become options; artifacts become paths.
        assistant: what the other machines do, called like ``step``; nothing if omitted.
    """
    _log_plainly()
    values = {name: value for name, value in arguments.items() if name in options.model_fields}
    others = {
        name: Path(value.path) if hasattr(value, "path") else value
        for name, value in arguments.items()
        if name not in values
    }
    with _exiting_on_failure():
        if cluster_of_environment().is_chief:
            with _error_left_in(_error_file()):
                _set_secrets()
                return step(options(**values), **others)
        if assistant is None:
            _logger.info("the first machine of this job runs the step; this machine has nothing to do")
        else:
            _set_secrets()
            assistant(options(**values), **others)
    # Without the outputs that kfp would write, which are the first machine's.
    sys.exit(0)


def _failure_of(error: Exception) -> WalsError | None:
    """Return the failure to report in one line; None for a bug."""
    return error if isinstance(error, WalsError) else failure_of_machine(error)


def _line_of(failure: WalsError) -> str:
    return f"{ERROR_MARK}[{failure.exit_code}] {failure}"


@contextlib.contextmanager
def _exiting_on_failure() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not (failure := _failure_of(error)):
            raise
        print(_line_of(failure), file=sys.stderr, flush=True)
        sys.exit(failure.exit_code)


@contextlib.contextmanager
def _error_left_in(file: Path | None) -> Iterator[None]:
    _leave(file, "")
    try:
        yield
    except Exception as error:
        failure = _failure_of(error)
        _leave(file, _line_of(failure) if failure else f"{type(error).__name__}: {WalsError(str(error))}")
        raise
    _leave(file, None)


def _set_secrets() -> None:
    """Set the environment variables that `SECRETS` names.

    Raises:
        WalsError: a secret cannot be read.
    """
    for variable, name in json.loads(os.environ.get(SECRETS, "{}")).items():
        from components.secret_manager import read_secret  # slow to import, and most steps have no secrets

        os.environ[variable] = read_secret(name)


def _error_file() -> Path | None:
    """Return the file for this step's error line, in the folder that KFP gives the task; None outside KFP."""
    for option, value in itertools.pairwise(sys.argv):
        if option == "--executor_input":
            with contextlib.suppress(ValueError, KeyError, TypeError):
                return Path(json.loads(value)["outputs"]["outputFile"]).with_name(ERROR_FILE)
    return None


def _leave(file: Path | None, line: str | None) -> None:
    """Leave a line in a file, or no file. A step never fails because this does not work."""
    if file is None:
        return
    with contextlib.suppress(OSError):
        if line is None:
            file.unlink(missing_ok=True)
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(line, "utf-8", "backslashreplace")


class _Marked(logging.Formatter):
    """Puts the marks before the message."""

    def format(self, record: logging.LogRecord) -> str:
        warning = f" {WARNING_MARK}" if record.levelno >= logging.WARNING else ""
        return f"{LOG_MARK}{warning} {super().format(record)}"


def _log_plainly() -> None:
    # The root logger belongs to the platform's executor; our packages have loggers of their own.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Marked())
    for package in ("components", "trainer"):
        logger = logging.getLogger(package)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
