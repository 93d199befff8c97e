"""The Argo Workflow that Kubeflow Pipelines makes of a compiled pipeline, as its nodes.

The shipped controller wraps every node in a Retry, whose attempts are named ``step(0)``. A loop has the nodes
of its iterations, and around every step run a driver and the executor.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.pipeline.serving import Task, tasks_in_order

NAME = "wals-train-x7k2p"
ITERATIONS = 2
WAITING = "ImagePullBackOff: Back-off pulling image"

_START = datetime(2026, 1, 1, tzinfo=UTC)


def time(seconds: int) -> str:
    """Return a time of the simulation, as JSON has it."""
    return (_START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


@dataclass
class Workflow:
    """A workflow that a server advances step by step.

    Attributes:
        spec: the compiled pipeline, without settings for Kubernetes.
        phases: phase of the tasks that have begun: ``Running``, ``Succeeded``, ``Failed`` or ``Pending``.
        failed_driver: whether it is the driver that failed.
        retried: steps whose first attempt fails.
        unbegun: phase of the tasks that have not begun; they have no nodes if it is empty.
    """

    spec: dict[str, Any]
    phases: dict[str, str] = field(default_factory=dict)
    failed_driver: bool = False
    retried: frozenset[str] = frozenset()
    unbegun: str = ""
    nodes: dict[str, Any] = field(default_factory=dict)

    @property
    def tasks(self) -> Sequence[Task]:
        """The tasks, in the order in which they run, one after the other."""
        return tasks_in_order(self.spec)

    @property
    def current(self) -> str:
        """Name of the task that began last; "" before any."""
        return next(reversed(self.phases), "")

    def following(self) -> str:
        """Return the name of the task that begins next; "" if there is none."""
        has_failed = "Failed" in self.phases.values()
        left = [task for task in self.tasks if task.name not in self.phases]
        return next((task.name for task in left if task.is_exit or not has_failed), "")

    def manifest(self) -> dict[str, Any]:
        """Return the workflow as Kubernetes holds it."""
        self.nodes = {}
        root = self._add(NAME, NAME, "DAG", "Running")
        dag = self._attempts(f"{NAME}.root", root["id"], "DAG", "root", "Running")
        around = {(): dag}
        for number, task in enumerate(self.tasks):
            phase = self.phases.get(task.name, "")
            if not (phase or self.unbegun):
                continue
            for depth, group in enumerate(task.groups):
                if task.groups[: depth + 1] not in around:
                    outer = around[task.groups[:depth]]
                    around[task.groups[: depth + 1]] = self._group(outer, group, phase or "Running", number)
            inner = around[task.groups]
            if phase:
                self._task(inner, task.spec, task.name, phase, number * 2 + 2)
            else:
                for name in (f"{task.name}-driver", task.name):
                    self._add(f"{inner['name']}.{name}", inner["id"], "Skipped", self.unbegun, 60)
        annotations = {"workflows.argoproj.io/pod-name-format": "v2"}
        return {
            "metadata": {"name": NAME, "namespace": "kubeflow", "annotations": annotations},
            "status": {"nodes": self.nodes},
        }

    def _group(self, dag: dict[str, Any], name: str, phase: str, number: int) -> dict[str, Any]:
        place, began = f"{dag['name']}.{name}", number * 2 + 1
        self._attempts(f"{place}-driver", dag["id"], "Pod", "system-dag-driver", "Succeeded", began)
        return self._attempts(place, dag["id"], "DAG", f"comp-{name}", phase, began)

    def _task(self, dag: dict[str, Any], task: dict[str, Any], name: str, phase: str, began: int) -> None:
        component = self.spec["components"][task["componentRef"]["name"]]
        if "parameterIterator" in task:
            self._loop(dag, component, name, phase, began)
            return
        place, last = f"{dag['name']}.{name}", self.failed_driver and phase == "Failed"
        kind = "dag" if "dag" in component else "container"
        driver = "Failed" if last else "Succeeded"
        self._attempts(f"{place}-driver", dag["id"], "Pod", f"system-{kind}-driver", driver, began)
        if last:
            self._add(place, dag["id"], "Skipped", "Omitted", began)
            return
        # The phase of a pod that waits is not that of what is around it.
        around = "Running" if phase == "Pending" else phase
        inner = self._attempts(place, dag["id"], "DAG", f"system-{kind}-executor", around, began)
        if "dag" in component:
            for inner_name, inner_task in component["dag"]["tasks"].items():
                self._task(inner, inner_task, inner_name, phase, began)
            return
        executor, again = f"{inner['name']}.executor", int(name in self.retried)
        self._attempts(executor, inner["id"], "Pod", "system-container-impl", phase, began, again)

    def _loop(self, dag: dict[str, Any], component: Any, name: str, phase: str, began: int) -> None:
        loop = self._attempts(f"{dag['name']}.{name}", dag["id"], "DAG", f"comp-{name}", phase, began)
        driver = f"{loop['name']}.iteration-driver"
        self._attempts(driver, loop["id"], "Pod", "system-dag-driver", "Succeeded", began)
        self._add(f"{loop['name']}.iteration-iterations", loop["id"], "TaskGroup", phase, began)
        # Backwards, since the nodes are in no particular order.
        for number in reversed(range(ITERATIONS)):
            place = f"{loop['name']}.iteration-iterations({number}:{number})"
            iteration = self._attempts(place, loop["id"], "DAG", "comp-iteration", phase, began)
            item = f"{iteration['name']}.iteration-item"
            inner = self._attempts(item, iteration["id"], "DAG", "comp-item", phase, began)
            for inner_name, task in component["dag"]["tasks"].items():
                self._task(inner, task, inner_name, phase, began)

    def _attempts(
        self,
        name: str,
        boundary: str,
        kind: str,
        template: str,
        phase: str,
        began: int = 0,
        failed_before: int = 0,
    ) -> dict[str, Any]:
        """Add a Retry with a node for each attempt, and return the last of those."""
        retry = self._add(name, boundary, "Retry", phase, began)
        messages = {"Failed": "main: Error (exit code 1)", "Pending": WAITING}
        for number in range(failed_before + 1):
            attempt = phase if number == failed_before else "Failed"
            node = self._add(f"{name}({number})", boundary, kind, attempt, began)
            node["templateName"] = template
            node["message"] = messages.get(attempt, "") if kind == "Pod" else ""
            retry["children"].append(node["id"])
        return node

    def _add(self, name: str, boundary: str, kind: str, phase: str, began: int = 0) -> dict[str, Any]:
        # Argo's ids are the workflow's name and a hash too.
        node = {
            "id": NAME if name == NAME else f"{NAME}-{zlib.crc32(name.encode())}",
            "name": name,
            "displayName": name.rpartition(".")[2],
            "type": kind,
            "phase": phase,
            "boundaryID": boundary,
            "startedAt": time(began),
            "finishedAt": time(began + 1) if phase not in ("Running", "Pending") else None,
            "children": [],
        }
        self.nodes[str(node["id"])] = node
        if boundary in self.nodes and boundary != node["id"]:
            self.nodes[boundary]["children"].append(node["id"])
        return node
