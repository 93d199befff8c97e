"""What every step does around its logic: plain log lines, and errors as one line with an exit code."""

import json
import logging
import os
import sys
from collections.abc import Callable
from typing import TypeVar

from trainer.errors import WalsError

Result = TypeVar("Result")

_logger = logging.getLogger(__name__)

LOG_MARK = "wals:"
"""Opens each line that a step logs, to tell it from what the platform around it says."""

ERROR_MARK = "wals-error"
"""Opens the line that a failed step ends with, followed by the exit code in brackets and the message."""


def run_step(step: Callable[..., Result], **arguments: object) -> Result:
    """Call ``step`` as the main job of a container.

    A :class:`~trainer.errors.WalsError` ends the process with the error's exit code after one line on
    standard error, ``wals-error[CODE] MESSAGE``, which log viewers show and the local runner reads. Other
    exceptions are bugs and keep their traceback.

    Of the machines of a Vertex AI custom job only the first runs the step, for all of them were told to
    write the same artifacts; on the others the process ends here, as a success.
    """
    _log_plainly()
    if not _is_chief():
        _logger.info("the first machine of this job runs the step; this one has nothing to do")
        sys.exit(0)
    try:
        return step(**arguments)
    except WalsError as error:
        print(f"{ERROR_MARK}[{error.exit_code}] {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)


def _is_chief() -> bool:
    """Return whether this is the only machine of a step, or the first one of a Vertex AI custom job."""
    cluster = os.environ.get("CLUSTER_SPEC")
    return not cluster or json.loads(cluster)["task"]["type"] in ("workerpool0", "chief", "master")


def _log_plainly() -> None:
    # The root logger belongs to the platform's executor; ours are the loggers of our packages.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{LOG_MARK} %(message)s"))
    for package in ("components", "trainer"):
        logger = logging.getLogger(package)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
