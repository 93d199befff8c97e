"""Runs the logic of every step: plain log lines, and errors as one line with an exit code."""

import contextlib
import itertools
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from trainer.errors import WalsError, failure_of_machine
from trainer.options import Options

Result = TypeVar("Result")

_logger = logging.getLogger(__name__)

LOG_MARK = "wals:"
"""Prefix of each line that a step logs, which distinguishes it from the platform's lines."""

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


def run_step(step: Callable[..., Result], options: type[Options], arguments: Mapping[str, Any]) -> Result:
    """Call ``step`` as the main job of a container: ``step(options, **others)``.

    A :class:`~trainer.errors.WalsError` ends the process with the error's exit code after one line on
    standard error, ``wals-error[CODE] MESSAGE``, which log viewers show and the local runner reads. Other
    exceptions are bugs and keep their traceback. Either line also stays in `ERROR_FILE` beside the outputs.

    A Vertex AI custom job gives every machine the same step and the same output paths. Only the first machine
    runs the step; on the others the process ends successfully.

    Args:
        step: the step's logic.
        options: the model of the step's options.
        arguments: arguments of the component. Fields of the model become options; artifacts become paths.
    """
    _log_plainly()
    if not _is_chief():
        _logger.info("the first machine of this job runs the step; this machine has nothing to do")
        sys.exit(0)
    values = {name: value for name, value in arguments.items() if name in options.model_fields}
    others = {
        name: Path(value.path) if hasattr(value, "path") else value
        for name, value in arguments.items()
        if name not in values
    }
    error_file = _error_file()
    _leave(error_file, "")
    try:
        _set_secrets()
        result = step(options(**values), **others)
    except Exception as error:
        failure = error if isinstance(error, WalsError) else failure_of_machine(error)
        if failure is None:
            _leave(error_file, f"{type(error).__name__}: {WalsError(str(error))}")
            raise
        line = f"{ERROR_MARK}[{failure.exit_code}] {failure}"
        print(line, file=sys.stderr, flush=True)
        _leave(error_file, line)
        sys.exit(failure.exit_code)
    _leave(error_file, None)
    return result


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


def _is_chief() -> bool:
    """Return whether this is the only machine of a step, or the first one of a Vertex AI custom job."""
    cluster = os.environ.get("CLUSTER_SPEC")
    return not cluster or json.loads(cluster)["task"]["type"] in ("workerpool0", "chief", "master")


def _log_plainly() -> None:
    # The root logger belongs to the platform's executor; our packages have loggers of their own.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{LOG_MARK} %(message)s"))
    for package in ("components", "trainer"):
        logger = logging.getLogger(package)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
