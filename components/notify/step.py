"""Notification: finding out how a run ended, and reporting it to a webhook."""

import logging
from pathlib import Path
from typing import Any

from components.limits import within
from components.notify import webhook
from components.notify.facts import Facts, Status, from_status, gather
from components.notify.message import is_problem, message, title
from components.notify.options import NotifyOptions
from trainer.errors import WalsError
from trainer.files import Schema, begin_artifact, finish_artifact, identity

SCHEMA = Schema("wals.notification", 1)

_GATHER_SECONDS = 90.0

logger = logging.getLogger(__name__)


def notify(options: NotifyOptions, *, status: Status, pipeline: str, notification: Path) -> dict[str, Any]:
    """Report the outcome of a run.

    A message that cannot be sent is a warning in the log, not a failure: the step that fails decides whether
    a run is red, not the state of a chat server.

    Args:
        options: which runs to report, and where the webhook's address is kept.
        status: the status that KFP gives to an exit task.
        pipeline: name of the pipeline.
        notification: folder to write: the message, whether it was sent, and if not, why. The address is
            not in it.

    Returns:
        The artifact's metadata: state, sent, checksum and schema version.

    Raises:
        InputError: the folder cannot be written.
    """
    begin_artifact(notification)
    facts = _facts(status, notification)
    content = message(pipeline, facts)
    logger.info("%s", title(pipeline, facts))
    reason = _report(options, facts, content)
    found = {"state": facts.state, "sent": not reason}
    whole = {**found, "reason": reason, "message": content}
    finish_artifact(notification, SCHEMA, whole)
    return {**found, **identity(SCHEMA, whole)}


def _report(options: NotifyOptions, facts: Facts, content: dict[str, Any]) -> str:
    """Send the message if it is wanted; return why it was not sent, or ""."""
    unwanted = options.notify_on == "never" or (options.notify_on == "problems" and not is_problem(facts))
    try:
        url = "" if unwanted else webhook.address(options.webhook_secret)
        if url:
            webhook.send(url, content)
            logger.info("the webhook was notified")
            return ""
    except WalsError as error:
        logger.warning("the webhook was not notified: %s", error)
        return str(error)
    reason = f"notify_on is {options.notify_on}" if unwanted else "no webhook is configured"
    logger.info("no webhook was notified: %s", reason)
    return reason


def _facts(status: Status, notification: Path) -> Facts:
    """Return the outcome of the run, or what the status alone says if the rest cannot be read."""
    try:
        return within(
            _GATHER_SECONDS,
            lambda: gather(status, notification),
            f"finding out took longer than {_GATHER_SECONDS:g} s",
        )
    except WalsError as error:
        logger.warning("only the state of the run is known: %s", error)
    except Exception:
        # A defect here must not keep people from hearing that a run failed.
        logger.exception("only the state of the run is known")
    return from_status(status, notification)
