"""What the API server of Kubeflow Pipelines knows about a run that is about to end."""

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.artifacts.evaluation import Evaluation, summary_in
from components.runtime import ERROR_LINE
from components.workflow import Pod, failed_pod, pods
from trainer.errors import WalsError

# Set by Kubeflow Pipelines in every pod of a run.
_POD = "KFP_POD_NAME"
# kfp's own client reads this variable and this file.
_ENDPOINT = "KF_PIPELINES_ENDPOINT"
_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")
# In the namespace of the server, and in another one of an installation with profiles.
_SERVERS = ("http://ml-pipeline:8888", "http://ml-pipeline.kubeflow:8888")
_EVALUATION = "evaluate"


@dataclass(frozen=True)
class EndedRun:
    """What came of a run's steps.

    Attributes:
        failed_step: the step that failed first; empty if none did.
        error: its error line, or Kubernetes' reason; may be empty.
        evaluation: what the evaluation logged; None if it did not run, or came from the cache.
    """

    failed_step: str
    error: str
    evaluation: Evaluation | None


class _NoAnswerError(WalsError):
    """A server that cannot be reached, or does not have what it is asked for."""


def is_here() -> bool:
    """Return whether this process runs in a pod of Kubeflow Pipelines."""
    return _POD in os.environ


def ended_run(run_id: str) -> EndedRun:
    """Return the outcome of the steps of a run.

    Raises:
        WalsError: no server answers, or it does not report the run's pods, as those after 2.17.
    """
    server, workflow = _workflow(run_id)
    failed = failed_pod(workflow)
    evaluated = [pod for pod in pods(workflow) if pod.task == _EVALUATION and pod.phase == "Succeeded"]
    return EndedRun(
        failed_step=failed.step if failed else "",
        error=_error(server, run_id, failed) if failed else "",
        evaluation=summary_in(_log(server, run_id, evaluated[-1])) if evaluated else None,
    )


def _workflow(run_id: str) -> tuple[str, Mapping[str, Any]]:
    """Return the server that answers, and the run's Argo Workflow."""
    endpoint = os.environ.get(_ENDPOINT)
    problem = _NoAnswerError("no server is known")
    for server in (endpoint.rstrip("/"),) if endpoint else _SERVERS:
        try:
            run = json.loads(_read(server, f"/apis/v1beta1/runs/{run_id}"))
            return server, json.loads(run["pipeline_runtime"]["workflow_manifest"])
        except _NoAnswerError as error:
            problem = error
        except (ValueError, KeyError, TypeError, RecursionError):
            problem = _NoAnswerError(f"{server}: does not report the run's pods")
    raise problem


def _error(server: str, run_id: str, pod: Pod) -> str:
    """Return the last error line in a pod's log, or else Kubernetes' reason."""
    if pod.prepares:
        return pod.message or "its driver failed"
    lines = [found[0] for found in ERROR_LINE.finditer(_log(server, run_id, pod))]
    return lines[-1] if lines else pod.message


def _log(server: str, run_id: str, pod: Pod) -> str:
    """Return what a pod wrote, from the pod or, if that is gone, from the archive; "" if neither exists."""
    try:
        text = _read(server, f"/apis/v1alpha1/runs/{run_id}/nodes/{pod.name}/log")
        # What the server sends in place of a log, as a success.
        if not text.startswith('{"error_'):
            return text
        archive = _read(server, f"/apis/v2beta1/runs/{run_id}/nodes/{pod.node}/artifacts/main-logs:read")
        return base64.b64decode(json.loads(archive)["data"]).decode("utf-8", "replace")
    except (_NoAnswerError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def _read(server: str, path: str) -> str:
    """Return what a server has at a path; see `components.answers.bounded`."""
    import requests  # slow to import, and only needed in a cluster

    from components.answers import bounded

    headers = {}
    if _TOKEN.is_file():
        headers["Authorization"] = f"Bearer {_TOKEN.read_text('utf-8').strip()}"
    try:
        with bounded(requests.Session(), server) as session:
            answer = session.get(server + path, headers=headers, allow_redirects=False)
            content = answer.content
    except requests.RequestException as error:
        raise _NoAnswerError(f"{server}: cannot be reached ({type(error).__name__})") from error
    except WalsError as error:
        raise _NoAnswerError(str(error)) from error
    if answer.status_code != requests.codes.ok:
        raise _NoAnswerError(f"{server}: answers {answer.status_code}")
    return content.decode("utf-8", "replace")
