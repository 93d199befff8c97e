"""Runs the logic of every step: plain log lines, and errors as one line with an exit code."""

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from trainer.errors import WalsError
from trainer.options import Options

Result = TypeVar("Result")

_logger = logging.getLogger(__name__)

LOG_MARK = "wals:"
"""Prefix of each line that a step logs, which distinguishes it from the platform's lines."""

ERROR_MARK = "wals-error"
"""Prefix of the last line of a failed step; the exit code in brackets and the message follow."""

ERROR_LINE = re.compile(rf"{ERROR_MARK}\[(?P<exit_code>\d+)\] (?P<message>.*)")
"""Finds that line in a step's output."""


def run_step(step: Callable[..., Result], options: type[Options], arguments: Mapping[str, Any]) -> Result:
    """Call ``step`` as the main job of a container: ``step(options, **others)``.

    A :class:`~trainer.errors.WalsError` ends the process with the error's exit code after one line on
    standard error, ``wals-error[CODE] MESSAGE``, which log viewers show and the local runner reads. Other
    exceptions are bugs and keep their traceback.

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
    try:
        return step(options(**values), **others)
    except WalsError as error:
        print(f"{ERROR_MARK}[{error.exit_code}] {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)


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
