"""Servers that are slow, but not too slow for a single answer: a command ends when its own time is over."""

import json
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from rich.console import Console

from components import answers, limits
from components.deliver import vertex_rest
from components.deliver.vertex import VertexRegistry
from components.deliver.vertex_endpoint import VertexEndpoint
from components.registry import s3
from pipeline.cli import run_command, wals
from pipeline.commands.logs import _stream
from pipeline.display.remote_run import follow
from pipeline.platforms.environments import Kubeflow, Vertex
from pipeline.platforms.google import templates
from pipeline.platforms.kubeflow.backend import KubeflowBackend
from pipeline.platforms.kubeflow.client import Client
from pipeline.platforms.kubeflow.metadata import run_artifacts
from pipeline.platforms.vertex import quotas
from pipeline.platforms.vertex.backend import VertexBackend
from pipeline.platforms.vertex.logs import job_lines
from tests.components.deliver.model_server import ENDPOINT, MODEL
from tests.components.notify import receiver as receivers
from tests.components.notify.receiver import Answer, Receiver, receiver
from tests.pipeline.serving import Call, RefusedError, Route, serving
from trainer.errors import WalsError

pytestmark = pytest.mark.attack

SECONDS = 0.5
LINE = f"did not answer within the {SECONDS:g} s that a command has"
RUN = {"run_id": "7", "display_name": "wals", "created_at": "2026-01-01T00:00:00Z", "state": "RUNNING"}
EXPERIMENT = {"experiment_id": "7", "display_name": "wals"}


def json_after(seconds: float, content: Any) -> Answer:
    """Return an answer that comes after a while."""
    answer = receivers.answers("200 OK", "Content-Type: application/json", body=json.dumps(content).encode())

    def wait(connection: socket.socket, end: threading.Event) -> None:
        end.wait(seconds)
        answer(connection, end)

    return wait


def pages(content: dict[str, Any], token: str) -> list[Answer]:
    """Return pages of a list that goes on and on, each of them soon enough."""
    return [json_after(SECONDS / 4, {**content, token: str(number)}) for number in range(1000)]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COMMAND_SECONDS", SECONDS)


def kubeflow(server: Receiver) -> KubeflowBackend:
    host = server.url.partition("/services")[0]
    return KubeflowBackend(Kubeflow(target="kubeflow", host=host, experiment="wals"))


def vertex(server: Receiver) -> VertexBackend:
    return VertexBackend(
        Vertex(
            target="vertex",
            project="my-project",
            region="europe-west1",
            pipeline_root="gs://bucket/root",
            endpoint=server.url.partition("/services")[0],
        )
    )


def logging(server: Receiver) -> list[Any]:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    return list(job_lines("my-project", AnonymousCredentials(), ["7"], since))


def quota(server: Receiver) -> int:
    platform = vertex(server)._platform
    return quotas._limit(platform, AnonymousCredentials(), "aiplatform.googleapis.com/gpus")


def template(server: Receiver) -> object:
    location = f"{server.url}/wals-train/sha256:{'0' * 64}"
    return templates.read_template(location, AnonymousCredentials())


@pytest.mark.parametrize(
    ("script", "use", "named"),
    [
        (pages({}, "next_page_token"), lambda server: kubeflow(server).schedules(), "127.0.0.1"),
        (pages({"schedules": []}, "nextPageToken"), lambda server: vertex(server).schedules(), "127.0.0.1"),
        (pages({}, "nextPageToken"), logging, "Cloud Logging"),
        ([json_after(60, {})], quota, "Service Usage"),
        ([json_after(60, {})], template, "127.0.0.1"),
        ([json_after(60, {})], lambda server: vertex(server).get("wals"), "127.0.0.1"),
        (
            [json_after(60, {})],
            lambda server: run_artifacts(Client(server.url.partition("/services")[0]), "run"),
            "127.0.0.1",
        ),
    ],
    ids=["recurring runs", "schedules", "logs", "quota", "template", "run", "metadata"],
)
def test_all_requests_share_the_time_of_a_command(
    script: list[Answer], use: Callable[[Receiver], object], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver(script) as server:
        for service in ("LOGGING", "SERVICEUSAGE"):
            monkeypatch.setenv(f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service}", server.url)
        with limits.deadline(), pytest.raises(WalsError) as refused:
            use(server)
    assert LINE in str(refused.value)
    assert named in str(refused.value)
    assert len(server.requests) <= 5


def test_a_command_has_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with receiver([json_after(0, {"tag_name": "99.0.0"}), *pages({}, "next_page_token")]) as server:
        host = server.url.partition("/services")[0]
        config = tmp_path / "slow.yaml"
        config.write_text(f"platform: {{target: kubeflow, host: '{host}', experiment: wals}}\n", "utf-8")
        assert run_command(wals, ["runs", "--config", str(config)], "wals") == 1
    assert capsys.readouterr().err == f"wals: error: {host}: {LINE}\n"


@pytest.mark.parametrize("slow", [json_after(60, {}), receivers.drips, receivers.is_slow])
@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_the_store_of_a_registry_has_the_time_of_a_command(
    scheme: str, slow: Answer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(limits, "COMMAND_SECONDS", 2.0)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    registry = f"{scheme}://bucket/models"
    with receiver([slow]) as server:
        host = server.url.partition("/services")[0]
        monkeypatch.setenv("AWS_ENDPOINT_URL", host)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", host)
        assert run_command(wals, ["models", "list", "--registry", registry], "wals") == 1
    error = capsys.readouterr().err
    assert error == f"wals: error: registry '{registry}': did not answer within the 2 s that a command has\n"


@pytest.mark.parametrize("answer", [receivers.is_endless, receivers.answers("200 OK"), json_after(0, [])])
@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_the_store_of_a_registry_that_answers_nonsense_has_one_line(
    scheme: str, answer: Answer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(answers, "LARGEST_ANSWER", 1 << 20)
    monkeypatch.setattr(s3, "LARGEST_DOCUMENT", 1 << 20)
    monkeypatch.setattr(limits, "COMMAND_SECONDS", 20.0)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with receiver([answer]) as server:
        host = server.url.partition("/services")[0]
        monkeypatch.setenv("AWS_ENDPOINT_URL", host)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", host)
        code = run_command(wals, ["models", "list", "--registry", f"{scheme}://bucket/models"], "wals")
    error = capsys.readouterr().err
    assert code in (1, 2)
    assert len(error.splitlines()) == 1
    assert "bug:" not in error


def test_threads_that_read_a_registry_share_the_time_of_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store that answers soon enough each time, but has many versions."""
    monkeypatch.setattr(limits, "COMMAND_SECONDS", 2.0)
    prefixes = [f"models/versions/20260101T{number:06d}Z-00000000/" for number in range(100)]
    requests: list[str] = []

    def document(_: Call) -> Any:
        threading.Event().wait(0.4)
        raise RefusedError(404, "No such object")

    routes: list[Route] = [
        ("GET", "/storage/v1/b/bucket/o/.*", document),
        ("GET", "/storage/v1/b/bucket/o", lambda _: {"prefixes": prefixes}),
    ]
    with serving(routes, lambda *_: {}, requests) as address:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        assert run_command(wals, ["models", "list", "--registry", "gs://bucket/models"], "wals") == 1
    assert "within the 2 s that a command has" in capsys.readouterr().err
    assert len(requests) < 50


@pytest.mark.parametrize(
    ("use", "server"),
    [
        (lambda: VertexRegistry(MODEL).exists(), "Vertex AI"),
        (lambda: VertexEndpoint(ENDPOINT, MODEL).check(), "Vertex AI"),
    ],
)
@pytest.mark.parametrize("slow", [json_after(60, {}), receivers.drips, receivers.is_slow])
def test_deliveries_to_vertex_have_the_time_of_a_command(
    use: Callable[[], object], server: str, slow: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver([slow]) as found:
        host = found.url.partition("/services")[0]
        monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM", host)
        with limits.deadline(), pytest.raises(WalsError) as refused:
            use()
    assert str(refused.value) == f"{server}: {LINE}"


def test_an_operation_of_vertex_takes_as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vertex_rest, "_POLL_SECONDS", 2 * SECONDS)
    pending, done = {"name": "operations/1"}, {"name": "operations/1", "done": True, "response": {"a": 1}}
    with receiver([json_after(0, pending), json_after(0, done)]) as found:
        host = found.url.partition("/services")[0]
        monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM", host)
        with limits.deadline():
            rest = vertex_rest.VertexRest("vertex_model", MODEL, "europe-west1")
            assert rest.finish(pending, "the upload") == {"a": 1}


def test_waiting_for_a_run_takes_as_long_as_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COMMAND_SECONDS", 4 * SECONDS)
    monkeypatch.setattr("pipeline.display.remote_run._FIRST_POLL_SECONDS", 0.01)
    running = [json_after(2 * SECONDS, RUN)] * 3
    ended = json_after(0, {**RUN, "state": "SUCCEEDED"})
    with receiver([*running, ended]) as server, limits.deadline():
        run = follow(kubeflow(server), "7", Console(quiet=True), "wals runs 7 --wait")
        # What comes after has the time that was left.
        assert kubeflow(server).get("7").state == run.state == "succeeded"


def test_each_read_of_a_run_has_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.display.remote_run._SILENCE_SECONDS", 0.0)
    monkeypatch.setattr("pipeline.display.remote_run._FIRST_POLL_SECONDS", 0.01)
    with receiver([json_after(60, RUN)]) as server, limits.deadline(), pytest.raises(WalsError) as lost:
        follow(kubeflow(server), "7", Console(quiet=True), "wals runs 7 --wait")
    assert LINE in str(lost.value)


def test_a_log_that_goes_on_is_shown_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"resource": {"labels": {"job_id": "7"}}, "textPayload": "epoch"}
    monkeypatch.setattr(limits, "COMMAND_SECONDS", 4 * SECONDS)
    script = [json_after(SECONDS, {"entries": [entry], "nextPageToken": str(page)}) for page in range(5)]
    with receiver([*script, json_after(0, {"entries": [entry]})]) as server, limits.deadline():
        monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING", server.url)
        since = datetime(2026, 1, 1, tzinfo=UTC)
        lines = _stream(job_lines("my-project", AnonymousCredentials(), ["7"], since))
        assert len(list(lines)) == 6
