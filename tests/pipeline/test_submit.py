"""`wals submit`, `runs`, `cancel` and `compare` against servers that check every request."""

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline import following
from tests.pipeline.conftest import Wals, service_account
from tests.pipeline.kubeflow_server import KubeflowServer
from tests.pipeline.serving import Call, RefusedError, serving
from tests.pipeline.vertex_server import METRICS, PARENT, VertexServer

STEPS = ["extract", "prepare", "train", "evaluate", "publish"]


@pytest.fixture(autouse=True)
def _poll_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_FIRST_POLL_SECONDS", 0.01)
    monkeypatch.setattr(following, "_LONGEST_POLL_SECONDS", 0.01)


def test_wait_follows_every_step_to_the_end(wals: Wals, config: Path) -> None:
    result = wals("submit", "--config", config, "--wait")
    assert result.exit_code == 0, result.stderr
    places = [
        result.stdout.index(f"{step:<9} {state}") for step in STEPS for state in ("running", "succeeded")
    ]
    assert places == sorted(places)


def test_wait_ends_with_the_metrics_on_vertex(wals: Wals, vertex_config: Path) -> None:
    result = wals("submit", "--config", vertex_config, "--wait")
    assert result.exit_code == 0, result.stderr
    row = next(line for line in result.stdout.splitlines() if "Recall@20" in line)
    assert "0.3100" in row
    assert "0.1200" in row


def test_a_failed_step_is_named_and_exits_1(
    wals: Wals, config: Path, server: VertexServer | KubeflowServer
) -> None:
    server.failing_step = "train"
    result = wals("submit", "--config", config, "--wait")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "failed at train" in result.stderr


def test_the_dry_run_is_the_request_that_is_sent(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    arguments = ("--config", vertex_config, "--name", "monday", "-p", "num_iters=3")
    request = wals("submit", *arguments, "--dry-run").json
    assert vertex.calls == []
    assert wals("submit", *arguments).exit_code == 0
    sent = vertex.jobs[f"{PARENT}/pipelineJobs/monday"]
    assert request["parent"] == PARENT
    assert request["pipelineJobId"] == "monday"
    assert {name: sent[name] for name in request["pipelineJob"]} == request["pipelineJob"]
    assert request["pipelineJob"]["runtimeConfig"]["parameterValues"] == {
        "source": "bq://test-project.shop.ratings",
        "latent_factors": 16,
        "num_iters": 3,
    }


def test_the_dry_run_on_kubeflow_asks_nothing_of_the_server(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer
) -> None:
    request = wals("submit", "--config", kubeflow_config, "--name", "monday", "--dry-run").json
    assert kubeflow.calls == []
    assert wals("submit", "--config", kubeflow_config, "--name", "monday").exit_code == 0
    (sent,) = kubeflow.runs.values()
    assert {name: sent[name] for name in request} == request


def test_flags_go_before_the_file_and_suffice_without_one(wals: Wals, vertex: VertexServer) -> None:
    result = wals(
        *("submit", "--target", "vertex", "--project", "test-project", "--region", "europe-west1"),
        *("--pipeline-root", "gs://test-bucket/other", "--endpoint", vertex.url, "--image-prefix", "eu/wals"),
        *("-p", "source=gs://b/r.csv", "--json"),
    )
    assert result.exit_code == 0, result.stderr
    job = vertex.jobs[f"{PARENT}/pipelineJobs/{result.json['id']}"]
    assert job["runtimeConfig"]["gcsOutputDirectory"] == "gs://test-bucket/other"
    assert job["pipelineSpec"]["deploymentSpec"]["executors"]["exec-train"]["container"]["image"].startswith(
        "eu/wals/train:"
    )


def test_runs_are_listed_newest_first_and_shown_one_by_one(wals: Wals, config: Path) -> None:
    ids = [wals("submit", "--config", config, "--name", name, "--json").json["id"] for name in ("one", "two")]
    listed = wals("runs", "--config", config, "--json").json
    assert [run["id"] for run in listed] == ids[::-1]
    assert ids[0] in wals("runs", "--config", config).stdout
    shown = wals("runs", ids[0], "--config", config, "--wait", "--json").json
    assert shown["state"] == "succeeded"
    assert [step["name"] for step in shown["steps"]] == STEPS
    assert shown["parameters"]["latent_factors"] == 16


def test_a_cancelled_run_is_told_as_such(wals: Wals, config: Path) -> None:
    run_id = wals("submit", "--config", config, "--json").json["id"]
    assert wals("cancel", run_id, "--config", config).exit_code == 0
    result = wals("runs", run_id, "--config", config)
    assert result.exit_code == 1
    assert f"run {run_id} cancelled" in result.stderr


def test_compare_shows_what_differs_beside_the_metrics(wals: Wals, vertex_config: Path) -> None:
    ids = []
    for factors in (8, 64):
        result = wals(
            "submit", "--config", vertex_config, "--name", f"d{factors}", "-p", f"latent_factors={factors}"
        )
        assert result.exit_code == 0, result.stderr
        ids.append(f"d{factors}")
        wals("runs", ids[-1], "--config", vertex_config, "--wait")
    result = wals("compare", *ids, "--config", vertex_config)
    rows = {
        line.split("│")[1].strip(): line.split("│")[2:4] for line in result.stdout.splitlines() if "│" in line
    }
    assert [cell.strip() for cell in rows["latent_factors"]] == ["8", "64"]
    assert "source" not in rows
    assert [cell.strip() for cell in rows["recall_at_20"]] == ["0.3100", "0.3100"]
    assert wals("compare", *ids, "--config", vertex_config, "--json").json[1]["metrics"] == METRICS


def test_a_name_that_is_taken_is_refused(wals: Wals, vertex_config: Path) -> None:
    assert wals("submit", "--config", vertex_config, "--name", "same").exit_code == 0
    result = wals("submit", "--config", vertex_config, "--name", "same")
    assert result.exit_code == 2
    assert "same" in result.stderr
    assert "exists already" in result.stderr


def test_a_run_outlives_a_network_that_comes_back(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    run_id = wals("submit", "--config", vertex_config, "--json").json["id"]
    vertex.refusals = [503, 503, 503]
    assert wals("runs", run_id, "--config", vertex_config, "--wait").exit_code == 0


def test_a_network_that_stays_away_tells_how_to_follow_the_run_again(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    run_id = wals("submit", "--config", vertex_config, "--json").json["id"]
    vertex.refusals = [503] * 9
    result = wals("runs", run_id, "--config", vertex_config, "--wait")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert f"wals runs {run_id} --wait" in result.stderr


def test_an_unknown_run_is_named(wals: Wals, config: Path) -> None:
    for command in (("runs", "nothing"), ("cancel", "nothing"), ("compare", "nothing")):
        result = wals(*command, "--config", config)
        assert result.exit_code == 2, result.stderr
        assert "'nothing'" in result.stderr
        assert result.stderr.count("\n") == 1


def test_an_older_server_is_named_with_its_version(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer
) -> None:
    kubeflow.version = "2.5.1"
    result = wals("submit", "--config", kubeflow_config)
    assert result.exit_code == 2
    assert "2.5.1" in result.stderr
    assert kubeflow.runs == {}


def test_a_server_that_tells_no_version_is_used(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer
) -> None:
    kubeflow.version = ""
    assert wals("submit", "--config", kubeflow_config).exit_code == 0


@pytest.mark.parametrize("command", [("submit", "--wait"), ("runs",), ("upload",), ("schedule", "list")])
def test_without_credentials_it_says_so_at_once(
    wals: Wals, command: tuple[str, ...], vertex_config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    result = wals(*command, "--config", vertex_config, "--endpoint", "https://127.0.0.1:9")
    assert result.exit_code == 1
    assert "gcloud auth application-default login" in result.stderr
    assert result.stderr.count("\n") == 1


def test_expired_credentials_say_so_at_once(
    wals: Wals, vertex_config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def expired(call: Call) -> Any:
        raise RefusedError(400, "invalid_grant")

    def refuse(status: int, message: str) -> Any:
        return {"error": message, "error_description": "Token has been expired or revoked."}

    with serving([("POST", "/token", expired)], refuse, []) as url:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(service_account(tmp_path, f"{url}/token")))
        result = wals("submit", "--config", vertex_config, "--endpoint", "https://127.0.0.1:9")
    assert result.exit_code == 1
    assert "have expired" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(("status", "told"), [(401, "gcloud auth"), (403, "403"), (429, "429")])
def test_what_the_service_refuses_is_one_line(
    wals: Wals, vertex_config: Path, vertex: VertexServer, status: int, told: str
) -> None:
    vertex.refusals = [status]
    result = wals("runs", "any", "--config", vertex_config)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert told in result.stderr
    assert vertex.url not in result.stderr


def test_a_server_that_never_answers_is_given_up_on(wals: Wals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        result = wals("runs", "--target", "kubeflow", "--host", f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    # A client with retries of its own would take minutes, so that even a busy machine shows the difference.
    assert time.monotonic() - began < 30


def test_a_server_that_is_not_there_is_named(wals: Wals) -> None:
    result = wals("submit", "--target", "kubeflow", "--host", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "http://127.0.0.1:9" in result.stderr
    assert result.stderr.count("\n") == 1
