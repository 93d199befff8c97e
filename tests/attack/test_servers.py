"""Hostile and slow servers of Kubeflow Pipelines: an answer is used, or refused in one line."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from components import answers as whole_answers
from pipeline.platforms.environments import Kubeflow
from pipeline.platforms.kubeflow import client
from pipeline.platforms.kubeflow.backend import KubeflowBackend
from tests.attack.changes import HOSTILE, changed, places
from tests.components.notify import receiver as receivers
from tests.components.notify.receiver import Answer, answers, receiver
from trainer.errors import WalsError

pytestmark = pytest.mark.attack

RUN = str(uuid.UUID(int=7))
EXPERIMENT = {"experiment_id": RUN, "display_name": "wals", "created_at": "2026-01-01T00:00:00Z"}


def backend(url: str) -> KubeflowBackend:
    """Return a backend for the server at an address."""
    host = url.partition("/services")[0]
    return KubeflowBackend(Kubeflow(target="kubeflow", host=host, experiment="wals"))


def use(call: Callable[[KubeflowBackend], object], url: str) -> str:
    """Return the line with which a call ends; "" if it does not fail."""
    try:
        found = call(backend(url))
        list(found) if isinstance(found, Iterator) else found
    except WalsError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (receivers.drips, "did not answer in 1 s"),
        (receivers.is_slow, "did not answer in 1 s"),
        (receivers.hangs, "did not answer in 1 s"),
        (receivers.is_endless, "returned more than 1,048,576 bytes"),
        (receivers.breaks_off, "cannot be reached"),
        (receivers.talks_nonsense, "cannot be reached"),
        (answers("200 OK", body=b"[" * 100_000), "does not come from Kubeflow Pipelines"),
        (answers("200 OK", body=b'{"a":' * 100_000), "does not come from Kubeflow Pipelines"),
        (answers("200 OK", body=b""), "does not come from Kubeflow Pipelines"),
    ],
)
def test_an_answer_that_is_none_is_refused_in_one_line(
    answer: Answer, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(whole_answers, "LARGEST_ANSWER", 1 << 20)
    with receiver([answer]) as server:
        assert problem in use(lambda used: used.get(RUN), server.url)


@pytest.mark.parametrize("tokens", [["again"], [str(number) for number in range(2000)]], ids=["same", "new"])
def test_a_list_without_an_end_is_refused(tokens: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MOST_PAGES", 10)
    found = answers("200 OK", body=json.dumps({"experiments": [EXPERIMENT]}).encode())
    pages = [answers("200 OK", body=json.dumps({"next_page_token": token}).encode()) for token in tokens]
    with receiver([found, *pages]) as server:
        assert "does not come from Kubeflow Pipelines" in use(lambda used: used.schedules(), server.url)
    assert len(server.requests) <= 12


SPEC = {
    "root": {"dag": {"tasks": {"train": {"componentRef": {"name": "comp-train"}}}}},
    "components": {"comp-train": {"executorLabel": "exec-train"}},
}
ANSWER = {
    "run_id": RUN,
    "experiment_id": RUN,
    "display_name": "wals-train",
    "state": "FAILED",
    "created_at": "2026-01-01T00:00:00Z",
    "finished_at": "2026-01-01T01:00:00Z",
    "pipeline_spec": SPEC,
    "error": {"code": 1, "message": "no"},
    "run_details": {
        "task_details": [
            {
                "display_name": "train",
                "state": "FAILED",
                "start_time": "2026-01-01T00:00:00Z",
                "end_time": "2026-01-01T01:00:00Z",
                "child_tasks": [{"pod_name": "a"}],
            }
        ]
    },
    "state_history": [{"update_time": "2026-01-01T00:00:00Z", "state": "FAILED"}],
    "runtime_config": {"parameters": {"alpha": 1}},
}


@pytest.mark.parametrize("path", list(places(ANSWER)), ids=lambda path: ".".join(map(str, path)) or "all")
def test_a_run_with_another_value_anywhere_is_shown_or_refused_in_one_line(path: tuple[Any, ...]) -> None:
    bodies = [changed(ANSWER, path, value) for value in HOSTILE]
    script = [answers("200 OK", body=json.dumps(body).encode()) for body in bodies]
    for answer in script:
        with receiver([answer]) as server:
            use(lambda used: used.get(RUN), server.url)
    listed = [answers("200 OK", body=json.dumps({"runs": [body]}).encode()) for body in bodies]
    found = answers("200 OK", body=json.dumps({"experiments": [EXPERIMENT]}).encode())
    for answer in listed:
        with receiver([found, answer]) as server:
            use(lambda used: used.runs(10), server.url)
