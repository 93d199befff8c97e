"""What an exit task can find out about its run.

Its status has the state, and on Vertex AI also which tasks failed. KFP gives it no outputs of other tasks,
since these may not exist. The rest is in the run itself:

- on Vertex AI and on this machine, in the folders of the other tasks, which are next to its own,
- on Kubernetes, in the logs of the run's pods, which the API server has: outputs of steps that fail are not
  kept there, and those of others are in an object store.
"""

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import quote

from components.artifacts.evaluation import SCHEMA, Evaluation
from components.notify import kubernetes
from components.runtime import ERROR_FILE
from trainer.errors import WalsError
from trainer.files import MANIFEST, read_manifest

logger = logging.getLogger(__name__)

State = Literal["succeeded", "failed", "cancelled", "unknown"]

KILLED = "ended without an error line: it was stopped, ran out of memory, or its machine was lost"

_CONSOLE = "https://console.cloud.google.com/vertex-ai"
_JOB = re.compile(r"projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)/pipelineJobs/(?P<job>[^/]+)")
# The states that Vertex AI and kfp.local report, and those of ML Metadata, which Kubeflow Pipelines reports.
_STATES: dict[str, State] = {
    **dict.fromkeys(("SUCCEEDED", "COMPLETE", "CACHED"), "succeeded"),
    **dict.fromkeys(("CANCELLED", "CANCELED"), "cancelled"),
    "FAILED": "failed",
}
# Vertex AI names the folder of a task by the task and a number.
_TASK_NUMBER = re.compile(r"_-?\d+$")
_MOUNTED = Path("/gcs")
_LONGEST_LINE = 4096


class Status(Protocol):
    """What KFP tells an exit task: its ``PipelineTaskFinalStatus``.

    Attributes:
        state: final state of the tasks, in the platform's words.
        pipeline_job_resource_name: name of the run; on Vertex AI with project and region.
        error_message: on Vertex AI, which tasks failed; None or without information elsewhere.
    """

    state: str
    pipeline_job_resource_name: str
    error_message: str | None


@dataclass(frozen=True)
class Failure:
    """A step that failed.

    Attributes:
        step: name of the step.
        line: its error line, or what else is known about its end.
    """

    step: str
    line: str


@dataclass(frozen=True)
class Facts:
    """What came of a run.

    Attributes:
        run: name or id of the run, by which the platform knows it.
        state: how it ended; ``unknown`` if the platform did not say.
        reason: the platform's own words about the failure; may be empty.
        failures: the steps that failed, as far as known, in the order they ended.
        evaluation: the evaluation of this run; None if there is none, or it cannot be read.
        link: address of the run's page; empty if unknown.
        report: address or path of the evaluation's report; empty if unknown.
    """

    run: str
    state: State
    reason: str = ""
    failures: tuple[Failure, ...] = ()
    evaluation: Evaluation | None = None
    link: str = ""
    report: str = ""


def gather(status: Status, notification: Path) -> Facts:
    """Return what is known about the run that a task belongs to.

    Args:
        status: the status that KFP gave to the task.
        notification: where the task's own output artifact is written.

    Raises:
        WalsError: on Kubernetes, the API server cannot be asked.
    """
    if kubernetes.is_here():
        return _from_server(status, notification)
    return _from_folders(status, notification)


def from_status(status: Status, notification: Path) -> Facts:
    """Return what the status alone says."""
    job = _JOB.fullmatch(status.pipeline_job_resource_name or "")
    link = (
        f"{_CONSOLE}/locations/{job['region']}/pipelines/runs/{job['job']}?project={job['project']}"
        if job
        else ""
    )
    # Its folder: of the task and below that of the run; Kubeflow Pipelines adds one with a random name.
    place = notification.parents[2 if kubernetes.is_here() else 1].name
    return Facts(
        run=job["job"] if job else place,
        state=_STATES.get(status.state, "unknown"),
        reason=status.error_message or "" if job else "",
        link=link,
    )


def _from_server(status: Status, notification: Path) -> Facts:
    known = from_status(status, notification)
    ended = kubernetes.ended_run(known.run)
    # The state of a group in ML Metadata stays RUNNING if a driver fails or a pod is killed.
    state: State = "failed" if ended.failed_step else known.state
    if state == "unknown":
        state = "succeeded"
    failures = (Failure(ended.failed_step, ended.error or KILLED),) if ended.failed_step else ()
    return Facts(known.run, state, failures=failures, evaluation=ended.evaluation)


def _from_folders(status: Status, notification: Path) -> Facts:
    known = from_status(status, notification)
    own, run = notification.parent, notification.parents[1]
    failures = () if known.state == "succeeded" else tuple(_failures(own, run))
    evaluation, report = None, ""
    for manifest in _newest_last(run, f"*/evaluation/{MANIFEST}"):
        try:
            evaluation = read_manifest(manifest.parent, SCHEMA, Evaluation)
        except WalsError as error:
            logger.warning("the evaluation is not reported: %s", error)
        else:
            report = _address(manifest.parents[1] / "report")
    return Facts(known.run, known.state, known.reason, failures, evaluation, known.link, report)


def _failures(own: Path, run: Path) -> Iterator[Failure]:
    for file in _newest_last(run, f"*/{ERROR_FILE}"):
        if file.parent == own:
            continue
        try:
            with file.open(encoding="utf-8", errors="replace") as text:
                line = text.read(_LONGEST_LINE)
        except OSError:
            continue
        yield Failure(_TASK_NUMBER.sub("", file.parent.name), line or KILLED)


def _newest_last(folder: Path, pattern: str) -> list[Path]:
    dated = []
    for path in folder.glob(pattern):
        try:
            dated.append((path.stat().st_mtime_ns, path))
        except OSError:
            continue
    return [path for _, path in sorted(dated)]


def _address(report: Path) -> str:
    """Return where a browser finds a report: a file, or an object of a mounted bucket."""
    if not report.exists():
        return ""
    if report.is_relative_to(_MOUNTED):
        return f"https://storage.cloud.google.com/{quote(os.fspath(report.relative_to(_MOUNTED)))}"
    return os.fspath(report)
