"""A run's compiled pipeline and Argo Workflow: its tasks, their pods and the pods' logs."""

import json
from collections.abc import Mapping
from typing import Any

from pipeline.platforms.backend import pipeline_of

# Suffix of the templates whose pods run a step's own container, and not what prepares it.
_EXECUTOR = "system-container-impl"


def task_names(spec: Mapping[str, Any]) -> set[str]:
    """Return the names of the tasks of a compiled pipeline, including those inside loops and conditions."""
    pipeline = pipeline_of(spec)
    parts = [pipeline.get("root", {}), *pipeline.get("components", {}).values()]
    return {name for part in parts for name in part.get("dag", {}).get("tasks", {})}


def pods(workflow: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the steps of an Argo Workflow and their pods, in the order they started.

    A step is a node around its pods: one for each attempt. The API server names pods in the same way
    (``RetrievePodName`` of its ``common/util/workflow.go``).
    """
    metadata = workflow.get("metadata", {})
    nodes: Mapping[str, Any] = workflow.get("status", {}).get("nodes") or {}
    plain = metadata.get("annotations", {}).get("workflows.argoproj.io/pod-name-format") == "v1"
    ran = [
        node
        for node in nodes.values()
        if node["type"] == "Pod" and node.get("templateName", "").endswith(_EXECUTOR)
    ]
    return [
        (
            nodes[node["boundaryID"]]["displayName"],
            node["id"]
            if plain
            else f"{metadata['name']}-{node['templateName']}-{node['id'].rpartition('-')[2]}",
        )
        for node in sorted(ran, key=lambda node: str(node.get("startedAt") or "9"))
    ]


def log_problem(text: str) -> str:
    """Return why a log cannot be read, which the server sends in place of it with a status of success."""
    if not text.startswith('{"error_'):
        return ""
    try:
        return str(json.loads(text).get("error_message", "")).partition("\n")[0]
    except ValueError:
        return ""
