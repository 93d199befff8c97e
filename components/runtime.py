"""What every step does around its logic: plain log lines, and errors as one line with an exit code."""

import logging
import sys
from collections.abc import Callable
from typing import TypeVar

from trainer.errors import WalsError

Result = TypeVar("Result")

LOG_MARK = "wals:"
"""Opens each line that a step logs, to tell it from what the platform around it says."""

ERROR_MARK = "wals-error"
"""Opens the line that a failed step ends with, followed by the exit code in brackets and the message."""


def run_step(step: Callable[..., Result], **arguments: object) -> Result:
    """Call ``step`` as the main job of a container.

    A :class:`~trainer.errors.WalsError` ends the process with the error's exit code after one line on
    standard error, ``wals-error[CODE] MESSAGE``, which log viewers show and the local runner reads. Other
    exceptions are bugs and keep their traceback.
    """
    _log_plainly()
    try:
        return step(**arguments)
    except WalsError as error:
        print(f"{ERROR_MARK}[{error.exit_code}] {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)


def _log_plainly() -> None:
    # The root logger belongs to the platform's executor; ours are the loggers of our packages.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{LOG_MARK} %(message)s"))
    for package in ("components", "trainer"):
        logger = logging.getLogger(package)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
