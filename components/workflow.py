"""The steps of a run on Kubeflow Pipelines: the pods in its Argo Workflow, and which of them failed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Suffix of the templates whose pods run a step's own container, and not what prepares it.
_EXECUTOR = "system-container-impl"
_FAILED = ("Failed", "Error")
# Argo names the attempts of a node after it, and the iterations of a loop by their index and item.
_ATTEMPT = re.compile(r"\(\d+\)")
_ITERATION = re.compile(r"-iterations\((\d+):")


@dataclass(frozen=True)
class Pod:
    """A pod of a run.

    Attributes:
        task: name of the step's task in the compiled pipeline.
        step: name of the step; differs from the task's in a loop.
        name: name of the pod.
        node: id of the pod's node in the workflow.
        prepares: whether it only prepares the step: a driver.
        phase: Argo's phase, such as ``Pending``.
        message: Argo's reason for the phase; may be empty.
    """

    task: str
    step: str
    name: str
    node: str
    prepares: bool
    phase: str
    message: str


def pods(workflow: Mapping[str, Any]) -> list[Pod]:
    """Return the pods that run steps, in the order they started; a step has one for each attempt."""
    return [_pod(workflow, node) for node in _pod_nodes(workflow, "startedAt") if _runs_step(node)]


def failed_pod(workflow: Mapping[str, Any]) -> Pod | None:
    """Return the pod that failed a run: the last attempt of what failed first; None if no pod failed."""
    attempts: dict[str, list[Any]] = {}
    for node in _pod_nodes(workflow, "finishedAt"):
        attempts.setdefault(_ATTEMPT.sub("", node["name"]), []).append(node)
    for nodes in attempts.values():
        if all(node.get("phase") in _FAILED for node in nodes):
            return _pod(workflow, nodes[-1])
    return None


def step_of(task: str, children: list[str], workflow: Mapping[str, Any]) -> str:
    """Return the name of a step in a loop, which is that of its task before its first pod is planned.

    Args:
        task: name of its task.
        children: ids of the nodes below its own.
        workflow: the Argo Workflow.
    """
    nodes = _nodes(workflow)
    return next((_step(task, nodes[child]) for child in children if child in nodes), task)


def repetition(step: str, number: int) -> str:
    """Return the name of one of the runs of a step in a loop: ``trial-2.3`` for the third of ``trial-2``.

    kfp names the tasks of a component ``trial``, ``trial-2``, …; the first is ``trial-1`` here.
    """
    named = step if re.search(r"-\d+$", step) else f"{step}-1"
    return f"{named}.{number}"


def _pod(workflow: Mapping[str, Any], node: Mapping[str, Any]) -> Pod:
    runs_step = _runs_step(node)
    around = _nodes(workflow).get(node.get("boundaryID", ""), {}) if runs_step else node
    task = _ATTEMPT.sub("", around.get("displayName", "")).removesuffix("" if runs_step else "-driver")
    return Pod(
        task=task,
        step=_step(task, node),
        name=_pod_name(workflow.get("metadata", {}), node),
        node=node["id"],
        prepares=not runs_step,
        phase=node.get("phase", ""),
        message=node.get("message", ""),
    )


def _step(task: str, node: Mapping[str, Any]) -> str:
    iterations = _ITERATION.findall(node["name"])
    return repetition(task, int(iterations[-1]) + 1) if iterations else task


def _pod_name(metadata: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    """Return a pod's name, as ``RetrievePodName`` of the API server's ``common/util/workflow.go`` does."""
    if metadata.get("annotations", {}).get("workflows.argoproj.io/pod-name-format") == "v1":
        return str(node["id"])
    return f"{metadata['name']}-{node['templateName']}-{node['id'].rpartition('-')[2]}"


def _pod_nodes(workflow: Mapping[str, Any], time: str) -> list[Any]:
    """Return the nodes that are pods, ordered by a time; those without it come last."""
    found = [node for node in _nodes(workflow).values() if node["type"] == "Pod"]
    return sorted(found, key=lambda node: str(node.get(time) or "9"))


def _runs_step(node: Mapping[str, Any]) -> bool:
    return str(node.get("templateName", "")).endswith(_EXECUTOR)


def _nodes(workflow: Mapping[str, Any]) -> Mapping[str, Any]:
    return workflow.get("status", {}).get("nodes") or {}
