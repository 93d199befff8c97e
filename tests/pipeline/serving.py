"""A local HTTP server for tests: real sockets, with routes given as regular expressions."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Call:
    """A request as a route receives it."""

    match: re.Match[str]
    query: dict[str, str]
    body: bytes
    content_type: str


@dataclass(frozen=True)
class Content:
    """An answer that is neither JSON nor text."""

    data: bytes
    content_type: str


class RefusedError(Exception):
    """Raised by a route to answer with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


METRICS = {"recall_at_20": 0.31, "ndcg_at_20": 0.25, "popularity_recall_at_20": 0.12}
"""What the evaluation of a run measures."""

_CHOSEN = {"latent_factors": 64, "regularization": 0.018, "unobs_weight": 0.1, "alpha": 1.0}


def model_metadata(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of the model of a run with some parameters: what is not given is chosen."""
    given = {name: parameters.get(name, "auto") for name in _CHOSEN}
    chosen = [name for name, value in given.items() if value == "auto"]
    values = {name: _CHOSEN[name] if name in chosen else float(value) for name, value in given.items()}
    return {"users": 671, **values, **({"auto": ", ".join(chosen)} if chosen else {})}


STEPS = ["extract", "prepare", "train", "evaluate", "refit", "publish", "deliver", "notify"]
"""The steps of a training run whose model is blessed, in order."""

REPORT = "<!doctype html><title>Evaluation</title>"
"""The report of the evaluation."""

Route = tuple[str, str, Callable[[Call], Any]]


@dataclass(frozen=True)
class Task:
    """A task of a compiled pipeline.

    Attributes:
        name: its name, such as ``train``.
        groups: names of the groups around it, the outermost first: the exit handler's and conditions.
        spec: the task in the spec.
        is_exit: whether it runs after an exit handler's tasks, whatever happened to them.
    """

    name: str
    groups: tuple[str, ...]
    spec: dict[str, Any]
    is_exit: bool


def tasks_in_order(spec: dict[str, Any], decision: str = "blessed") -> list[Task]:
    """Return the tasks that a run executes, each after those it depends on; a loop is one task.

    Args:
        spec: a compiled pipeline.
        decision: what the evaluation decides; conditions on another decision are not met.
    """
    return list(_inside(spec, spec["root"]["dag"], (), decision))


def _inside(
    spec: dict[str, Any], dag: dict[str, Any], groups: tuple[str, ...], decision: str
) -> Iterator[Task]:
    tasks = dag["tasks"]
    before = {name: task.get("dependentTasks", []) for name, task in tasks.items()}
    for name in TopologicalSorter(before).static_order():
        task, policy = tasks[name], tasks[name].get("triggerPolicy", {})
        component = spec["components"][task["componentRef"]["name"]]
        if "condition" in policy and not policy["condition"].endswith(f"== '{decision}'"):
            continue
        if "dag" in component and "parameterIterator" not in task:
            yield from _inside(spec, component["dag"], (*groups, name), decision)
        else:
            yield Task(name, groups, task, policy.get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED")


def task_of(spec: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a task of a compiled pipeline, whatever groups are around it."""
    dags = [part["dag"] for part in (spec["root"], *spec["components"].values()) if "dag" in part]
    return next(dict(dag["tasks"])[name] for dag in dags if name in dag["tasks"])


def steps_in_order(spec: dict[str, Any]) -> list[str]:
    """Return the names of the tasks that a run of a blessed model executes; see `tasks_in_order`."""
    return [task.name for task in tasks_in_order(spec)]


@contextmanager
def serving(routes: list[Route], refuse: Callable[[int, str], Any], log: list[str]) -> Iterator[str]:
    """Serve routes (method, pattern of the path, function) and yield the address.

    Args:
        routes: routes; the first whose method and pattern match answers, as JSON, as text or as `Content`.
        refuse: function that returns the body of an error from its status and message.
        log: receives ``METHOD path`` of each request.
    """

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            log.append(f"{self.command} {parts.path}")
            status, answer = 200, None
            try:
                for method, pattern, function in routes:
                    match = re.fullmatch(pattern, parts.path)
                    if method == self.command and match:
                        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
                        answer = function(Call(match, query, body, self.headers.get("Content-Type", "")))
                        break
                else:
                    raise RefusedError(404, f"no route for {self.command} {parts.path}")
            except RefusedError as refusal:
                status, answer = refusal.status, refuse(refusal.status, str(refusal))
            if not isinstance(answer, Content):
                text = answer if isinstance(answer, str) else json.dumps(answer)
                answer = Content(text.encode(), "application/json")
            self.send_response(status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.data)))
            self.end_headers()
            self.wfile.write(answer.data)

        do_GET = do_POST = do_DELETE = do_PATCH = _answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Keep the tests' output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
