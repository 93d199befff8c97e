"""What the pods of a run have written, at whichever address the server has it."""

import base64
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import kfp_server_api

from components.runtime import ERROR_LINE
from components.workflow import Pod, failed_pod
from pipeline.platforms.backend import LogLine
from pipeline.platforms.kubeflow.client import Client
from trainer.errors import WalsError

logger = logging.getLogger(__name__)

_DENIED = (401, 403)
# What Go's logging puts before a line: severity, date, time, process, file and line.
_GO_PREFIX = re.compile(r"^[IWEF]\d{4} [^\]]*\] ")


class UnreadableLogError(Exception):
    """A log that the server does not have; its text is the server's reason."""


def step_lines(
    client: Client, run_id: str, workflow: Mapping[str, Any], wanted: Sequence[Pod]
) -> Iterator[LogLine]:
    """Yield the output of pods, one pod after the other.

    A log that cannot be read does not keep the others from being shown.

    Raises:
        WalsError: a log cannot be read, or no pod has started; raised after the lines of the others.
    """
    unread: dict[str, str] = {}
    waiting: dict[str, str] = {}
    for pod in wanted:
        try:
            text = _read(client, run_id, workflow, pod)
        except UnreadableLogError as error:
            if pod.phase == "Pending":
                waiting[pod.step] = pod.message or str(error)
            else:
                unread[pod.step] = str(error)
        else:
            yield from (LogLine(pod.step, line) for line in text.splitlines())
    for step, reason in waiting.items():
        line = f"run {run_id}: {step} has no log yet, its pod waits: {reason}"
        if len(waiting) == len(wanted):
            raise WalsError(line)
        logger.warning("%s", line)
    if unread:
        reason = next(iter(unread.values()))
        raise WalsError(f"run {run_id}: the log of {', '.join(unread)} cannot be read: {reason}")


def failure(client: Client, run_id: str, workflow: Mapping[str, Any]) -> str:
    """Return why a run failed: what the step that failed it logged, or else what Kubernetes reports."""
    pod = failed_pod(workflow)
    if not pod:
        return ""
    try:
        log = _read(client, run_id, workflow, pod)
    except (UnreadableLogError, WalsError):
        log = ""
    if pod.prepares:
        lines = [line.strip() for line in log.splitlines() if line.strip()]
        reason = _GO_PREFIX.sub("", lines[-1]) if lines else pod.message
        return f"the driver of {pod.step} failed: {reason}"
    # The last attempt's line is the last one.
    return next((error["message"] for error in reversed(list(ERROR_LINE.finditer(log)))), pod.message)


def _read(client: Client, run_id: str, workflow: Mapping[str, Any], pod: Pod) -> str:
    """Return what a pod has written so far.

    The address that users open is the UI's server, which reads pods itself and passes on only the published
    API. The API server has an address of its own for pods, and one for what Argo archived when a step ended.

    Raises:
        UnreadableLogError: neither the pod nor its archived log exists, or the pod has not started.
        WalsError: access is denied, or the server cannot be reached.
    """
    namespace = workflow["metadata"].get("namespace", "")
    query = {"podname": pod.name, "runid": run_id, **({"podnamespace": namespace} if namespace else {})}
    archive = f"/apis/v2beta1/runs/{run_id}/nodes/{pod.node}/artifacts/main-logs:read"
    places: list[tuple[str, dict[str, str]]] = [
        ("/k8s/pod/logs", query),
        (f"/apis/v1alpha1/runs/{run_id}/nodes/{pod.name}/log", {}),
        (archive, {}),
    ]
    problems: list[str] = []
    with client.errors(f"run {run_id}"):
        for path, parameters in places:
            try:
                text = client.read(path, parameters)
                return _archived(text) if path == archive else _checked(text)
            except kfp_server_api.ApiException as error:
                if error.status in _DENIED:
                    raise
                # Each server knows only some of the addresses.
                if error.status != 404:
                    problems.append(_first_line(error.body or error.reason))
            except UnreadableLogError as error:
                problems.append(str(error))
    raise UnreadableLogError(problems[0] if problems else f"{client.host} has no log of it")


def _archived(text: str) -> str:
    try:
        return base64.b64decode(json.loads(text)["data"]).decode("utf-8", "replace")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreadableLogError("the archive is damaged") from error


def _checked(text: str) -> str:
    """Return a log, if it is not the error that the API server sends in place of one, as a success."""
    if text.startswith('{"error_'):
        try:
            content: dict[str, Any] = json.loads(text)
        except (ValueError, RecursionError):
            return text
        raise UnreadableLogError(_first_line(content.get("error_message", "")))
    return text


def _first_line(text: Any) -> str:
    decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return decoded.partition("\n")[0]
