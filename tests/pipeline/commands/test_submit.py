"""`wals submit`, `runs`, `cancel` and `compare` against servers that check every request."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pipeline.definition.pipelines import TRAINING
from pipeline.display import remote_run
from pipeline.platforms.environments import Vertex
from pipeline.platforms.vertex import backend
from pipeline.platforms.vertex.backend import VertexBackend
from tests.pipeline.conftest import Wals, service_account
from tests.pipeline.kubeflow_server import KubeflowServer
from tests.pipeline.serving import STEPS, Call, RefusedError, serving
from tests.pipeline.vertex_server import BUCKET, METRICS, PARENT, PROJECT, REGION, VertexServer
from trainer.errors import WalsError

CACHED = {"extract", "prepare", "train", "refit", "publish"}


@pytest.fixture(autouse=True)
def _poll_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_run, "_FIRST_POLL_SECONDS", 0.01)
    monkeypatch.setattr(remote_run, "_LONGEST_POLL_SECONDS", 0.01)
    monkeypatch.setattr(backend, "_CONTEXT_POLL_SECONDS", 0.01)


def test_wait_follows_every_step_to_the_end(wals: Wals, config: Path) -> None:
    result = wals("submit", "--config", config, "--wait")
    assert result.exit_code == 0, result.stderr
    places = [
        result.stdout.index(f"{step:<9} {state}") for step in STEPS for state in ("running", "succeeded")
    ]
    assert places == sorted(places)


def test_wait_ends_with_the_metrics(wals: Wals, config: Path) -> None:
    result = wals("submit", "--config", config, "--wait")
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


@pytest.mark.parametrize(
    ("log", "reported"),
    [
        (
            "wals: iteration 1\nwals-error[2] source '': is empty; give one\nF1126 main.go:60] failed\n",
            "failed at train: source '': is empty; give one; see",
        ),
        ("Traceback\nKilled\n", "failed at train: main: Error (exit code 1); see"),
        (None, "failed at train: main: Error (exit code 1); see"),
    ],
    ids=["an error of the step", "another error", "no log"],
)
def test_a_failed_run_on_kubeflow_says_why(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer, log: str | None, reported: str
) -> None:
    kubeflow.failing_step = "train"
    kubeflow.logs = {"train": log} if log else {}
    result = wals("submit", "--config", kubeflow_config, "--wait")
    assert result.exit_code == 1
    assert reported in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_driver_that_fails_on_kubeflow_is_named(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer
) -> None:
    kubeflow.failing_driver = "train"
    kubeflow.driver_log = "I1126 10:00:00 1 main.go:1] input\nF1126 10:00:01 1 main.go:9] type mismatch\n"
    result = wals("submit", "--config", kubeflow_config, "--wait")
    assert "failed: the driver of train failed: type mismatch; see" in result.stderr
    assert result.stderr.count("\n") == 1


def test_steps_that_never_ran_are_skipped_in_order(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer
) -> None:
    kubeflow.failing_step = "prepare"
    result = wals("submit", "--config", kubeflow_config, "--wait", "--json")
    assert [(step["name"], step["state"], bool(step["started"])) for step in result.json["steps"]] == [
        ("extract", "succeeded", True),
        ("prepare", "failed", True),
        # The notification is told.
        ("notify", "succeeded", True),
        *(
            (name, "skipped", False)
            for name in ("train", "evaluate", "refit", "publish", "deliver", "reject")
        ),
    ]


@pytest.mark.parametrize("has_metadata", [True, False])
def test_kubeflow_without_metrics_says_so_in_one_line(
    wals: Wals,
    kubeflow_config: Path,
    kubeflow: KubeflowServer,
    has_metadata: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # The API server itself does not pass on ML Metadata, and newer servers have none.
    kubeflow.has_metadata, kubeflow.is_ui = has_metadata, not has_metadata
    result = wals("submit", "--config", kubeflow_config, "--wait", "--json")
    assert result.exit_code == 0
    assert result.json["metrics"] == {}
    (warning,) = caplog.messages
    assert "its metrics cannot be read" in warning
    assert "the UI" in warning


def test_the_trials_of_a_tuning_have_their_round_and_number(wals: Wals, kubeflow_config: Path) -> None:
    result = wals("submit", "--config", kubeflow_config, "--pipeline", "wals-tune", "--wait")
    assert result.exit_code == 0, result.stderr
    shown = [line.split()[0] for line in result.stdout.splitlines() if " succeeded" in line]
    trials = [name for name in dict.fromkeys(shown) if name.startswith("trial")]
    assert trials == [f"trial-{number}.{trial}" for number in (1, 2, 3) for trial in (1, 2)]
    assert "for-loop" not in result.stdout


def test_a_kubeflow_server_without_the_older_api_still_shows_runs(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer
) -> None:
    kubeflow.version, kubeflow.failing_step = "", "for-loop-2"
    result = wals("submit", "--config", kubeflow_config, "--pipeline", "wals-tune", "--wait", "--json")
    assert result.exit_code == 1
    assert "failed at trial-2, trial-2; see" in result.stderr
    names = [step["name"] for step in result.json["steps"] if step["name"].startswith("trial")]
    assert names == ["trial", "trial", "trial-2", "trial-2", "trial-3"]


def test_the_trials_on_vertex_have_their_round_and_number(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    wals("submit", "--config", vertex_config, "--pipeline", "wals-tune", "--name", "tuning")
    job = vertex.jobs[f"{PARENT}/pipelineJobs/tuning"]
    tasks = [("2", "1", "extract"), ("3", "1", "for-loop-2"), ("4", "1", "for-loop-3")]
    trials = [("6", "3", "trial-2"), ("5", "3", "trial-2")]
    job["state"] = "PIPELINE_STATE_SUCCEEDED"
    job["jobDetail"]["taskDetails"] = [
        {"taskId": "1", "taskName": "tuning", "state": "SUCCEEDED"},
        *(
            {"taskId": task, "parentTaskId": parent, "taskName": name, "state": "SUCCEEDED"}
            for task, parent, name in [*tasks, *trials]
        ),
    ]
    run = wals("runs", "tuning", "--config", vertex_config, "--json").json
    assert [step["name"] for step in run["steps"]] == ["extract", "trial-2.1", "trial-2.2"]


def test_the_dry_run_is_the_request_that_is_sent(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    arguments = ("--config", vertex_config, "--name", "monday", "-p", "num_iters=3")
    request = wals("submit", *arguments, "--dry-run", "--full").request
    assert vertex.calls == []
    assert wals("submit", *arguments).exit_code == 0
    sent = vertex.jobs[f"{PARENT}/pipelineJobs/monday"]
    assert request["parent"] == PARENT
    assert request["pipelineJobId"] == "monday"
    assert {name: sent[name] for name in request["pipelineJob"]} == request["pipelineJob"]
    assert request["pipelineJob"]["runtimeConfig"]["parameterValues"] == {
        "source": "bq://test-project.shop.ratings",
        "project": "test-project",
        "latent_factors": "16",
        "num_iters": 3,
    }


@pytest.mark.parametrize(
    ("given", "payer"),
    [
        (["source=bq://other-project.shop.ratings"], "test-project"),
        (["source=bq://other-project.shop.ratings", "project=third-project"], "third-project"),
        (["source=gs://test-bucket/ratings.csv"], None),
        (["source=gs://test-bucket/ratings.csv", "items=bq://other-project.shop.items"], "test-project"),
    ],
)
def test_the_project_of_the_environment_pays_for_bigquery(
    wals: Wals, vertex_config: Path, given: list[str], payer: str | None
) -> None:
    flags = [text for parameter in given for text in ("-p", parameter)]
    request = wals("submit", "--config", vertex_config, *flags, "--dry-run", "--full").request
    assert request["pipelineJob"]["runtimeConfig"]["parameterValues"].get("project") == payer


def test_the_dry_run_on_kubeflow_asks_nothing_of_the_server(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer
) -> None:
    request = wals("submit", "--config", kubeflow_config, "--name", "monday", "--dry-run", "--full").request
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


@pytest.mark.parametrize(
    ("flags", "name", "expected"),
    [
        (("--failure-policy", "fast"), "failurePolicy", "PIPELINE_FAILURE_POLICY_FAIL_FAST"),
        (("--preflight-validations",), "preflightValidations", True),
        (("--network", "projects/1/global/networks/n"), "network", "projects/1/global/networks/n"),
    ],
)
def test_options_of_vertex_reach_the_run(
    wals: Wals, vertex_config: Path, vertex: VertexServer, flags: tuple[str, ...], name: str, expected: object
) -> None:
    for run_id, options in (("plain", ()), ("given", flags)):
        assert wals("submit", "--config", vertex_config, "--name", run_id, *options).exit_code == 0
    jobs = [vertex.jobs[f"{PARENT}/pipelineJobs/{run_id}"] for run_id in ("plain", "given")]
    without, with_it = ({**job, **job["runtimeConfig"]} for job in jobs)
    assert name not in without
    assert with_it[name] == expected


def test_a_network_and_an_attachment_are_refused_together(wals: Wals, vertex_config: Path) -> None:
    attachment = "projects/p/regions/r/networkAttachments/private"
    flags = ("--network", "projects/1/global/networks/n", "--network-attachment", attachment)
    result = wals("submit", "--config", vertex_config, *flags)
    assert result.exit_code == 2
    assert f"platform.network_attachment '{attachment}': cannot be combined with a network" in result.stderr


def test_a_submitted_run_belongs_to_the_experiment(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    flags = ("--config", vertex_config, "--experiment", "nightly")
    ids = [wals("submit", *flags, "--name", name, "--json").json["id"] for name in ("one", "two")]
    experiment = f"{PARENT}/metadataStores/default/contexts/nightly"
    assert vertex.contexts[experiment]["schemaTitle"] == "system.Experiment"
    assert vertex.children[experiment] == [
        f"{PARENT}/metadataStores/default/contexts/{run_id}" for run_id in ids
    ]


def test_a_run_that_cannot_join_the_experiment_has_started_all_the_same(
    wals: Wals, vertex_config: Path, vertex: VertexServer, caplog: pytest.LogCaptureFixture
) -> None:
    taken = f"{PARENT}/metadataStores/default/contexts/taken"
    vertex.contexts[taken] = {"name": taken, "schemaTitle": "system.PipelineRun"}
    result = wals("submit", "--config", vertex_config, "--experiment", "taken", "--json")
    assert result.exit_code == 0
    assert f"{PARENT}/pipelineJobs/{result.json['id']}" in vertex.jobs
    (warning,) = caplog.messages
    assert "is the name of a system.PipelineRun" in warning


def test_steps_without_a_parent_are_steps_too(wals: Wals, vertex_config: Path, vertex: VertexServer) -> None:
    """The API's reference describes tasks outside of loops so."""
    run_id = wals("submit", "--config", vertex_config, "--wait", "--json").json["id"]
    (job,) = vertex.jobs.values()
    for task in job["jobDetail"]["taskDetails"]:
        task.pop("parentTaskId", None)
    run = wals("runs", run_id, "--config", vertex_config, "--json").json
    assert [step["name"] for step in run["steps"]] == STEPS


@pytest.mark.parametrize("pipeline", ["wals-tune"])
def test_the_other_pipeline_is_sent_the_same_way(wals: Wals, config: Path, pipeline: str) -> None:
    run = wals("submit", "--config", config, "--pipeline", pipeline, "-p", "width=2", "--json").json
    assert run["parameters"]["width"] == 2
    assert run["name"].startswith("wals-tune-")


def cached(request: dict[str, Any]) -> set[str]:
    """Return the tasks of a request's pipeline that may reuse earlier results, inside loops too."""
    spec = request["pipelineJob"]["pipelineSpec"] if "pipelineJob" in request else request["pipeline_spec"]
    dags = [part["dag"] for part in (spec["root"], *spec["components"].values()) if "dag" in part]
    tasks = [task for dag in dags for task in dag["tasks"].items()]
    return {name for name, task in tasks if task.get("cachingOptions", {}).get("enableCache")}


@pytest.mark.parametrize(
    ("arguments", "extracts_again"),
    [
        ((), True),
        (("-p", "window_days=90"), True),
        # Rows of this window are still to come.
        (("-p", "window_end=2199-01-01"), True),
        (("-p", "window_end=2026-01-01"), False),
        (("-p", "snapshot=2026-01-01T08:00"), False),
        # What is blocked is read as it is now.
        (("-p", "snapshot=2026-01-01T08:00", "-p", "blocked_items=gs://test-bucket/blocked.csv"), True),
    ],
)
def test_the_extraction_is_repeated_unless_the_parameters_determine_its_rows(
    wals: Wals, config: Path, arguments: tuple[str, ...], extracts_again: bool
) -> None:
    source = ("-p", f"source=bq://{PROJECT}.shop.ratings")
    request = wals("submit", "--config", config, *source, *arguments, "--dry-run", "--full").request
    assert cached(request) == CACHED - ({"extract"} if extracts_again else set())


@pytest.mark.parametrize("pipeline", ["wals-train", "wals-tune"])
def test_a_training_that_starts_from_another_model_is_not_cached(
    wals: Wals, config: Path, pipeline: str
) -> None:
    fixed = ("-p", "window_end=2026-01-01", "-p", "registry=gs://test-bucket/models")
    arguments = ("--config", config, "--pipeline", pipeline, *fixed, "--dry-run", "--full")
    cold = cached(wals("submit", *arguments).request)
    assert "train" in cold
    for start in ("champion", "gs://test-bucket/model"):
        warm = cached(wals("submit", *arguments, "-p", f"warm_start={start}").request)
        assert warm == cold - {"train"}


@pytest.mark.parametrize("pipeline", ["wals-train", "wals-tune"])
def test_without_the_cache_every_step_runs_again(wals: Wals, config: Path, pipeline: str) -> None:
    arguments = ("--config", config, "--pipeline", pipeline, "-p", "window_end=2026-01-01")
    assert "extract" in cached(wals("submit", *arguments, "--dry-run", "--full").request)
    assert cached(wals("submit", *arguments, "--no-cache", "--dry-run", "--full").request) == set()


def test_reading_runs_does_not_create_the_experiment(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer
) -> None:
    assert wals("runs", "--config", kubeflow_config, "--json").json["runs"] == []
    assert wals("schedule", "list", "--config", kubeflow_config, "--json").json["schedules"] == []
    assert kubeflow.experiments == {}


def test_lists_and_objects_among_the_parameters_are_json(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    wals("submit", "--config", vertex_config, "--name", "other")
    given = {"depths": [1, 2.5, None], "shape": {"rows": [3]}}
    vertex.jobs[f"{PARENT}/pipelineJobs/other"]["runtimeConfig"]["parameterValues"] = given
    (run,) = wals("runs", "--config", vertex_config, "--json").json["runs"]
    assert run["parameters"] == given


def test_metrics_of_another_pipeline_are_shown_by_their_names(
    wals: Wals, vertex_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METRICS, "auc", 0.8)
    shown = wals("submit", "--config", vertex_config, "--wait").stdout
    rows = [line for line in shown.splitlines() if "0.8000" in line or "Recall@20" in line]
    assert len(rows) == 2
    assert "auc" in rows[1]


def test_runs_are_listed_newest_first_and_shown_one_by_one(wals: Wals, config: Path) -> None:
    ids = [wals("submit", "--config", config, "--name", name, "--json").json["id"] for name in ("one", "two")]
    listed = wals("runs", "--config", config, "--json").json["runs"]
    assert [run["id"] for run in listed] == ids[::-1]
    assert ids[0] in wals("runs", "--config", config).stdout
    shown = wals("runs", ids[0], "--config", config, "--wait", "--json").json
    assert shown["state"] == "succeeded"
    assert [step["name"] for step in shown["steps"] if step["state"] == "succeeded"] == STEPS
    assert shown["parameters"]["latent_factors"] == "16"


def test_a_cancelled_run_is_reported_as_such(wals: Wals, config: Path) -> None:
    run_id = wals("submit", "--config", config, "--json").json["id"]
    assert wals("cancel", run_id, "--config", config, "--json").json["id"] == run_id
    result = wals("runs", run_id, "--config", config)
    assert result.exit_code == 1
    assert f"run {run_id} cancelled" in result.stderr


def test_compare_shows_what_differs_beside_the_metrics(wals: Wals, config: Path) -> None:
    submit = ("submit", "--config", config, "--wait", "--json")
    ids = [
        wals(*submit, "--name", f"d{factors}", "-p", f"latent_factors={factors}").json["id"]
        for factors in (8, 64)
    ]
    result = wals("compare", *ids, "--config", config)
    rows = {
        line.split("│")[1].strip(): line.split("│")[2:4] for line in result.stdout.splitlines() if "│" in line
    }
    assert [cell.strip() for cell in rows["latent_factors"]] == ["8", "64"]
    assert "source" not in rows
    assert [cell.strip() for cell in rows["recall_at_20"]] == ["0.3100", "0.3100"]
    assert wals("compare", *ids, "--config", config, "--json").json["runs"][1]["metrics"] == METRICS


def test_compare_shows_what_was_chosen_for_the_data(wals: Wals, config: Path) -> None:
    given = {"one": ("latent_factors=8", "alpha=auto"), "two": ("latent_factors=auto", "alpha=40")}
    ids = []
    for name, values in given.items():
        options = [part for value in values for part in ("-p", value)]
        ids.append(
            wals("submit", "--config", config, "--wait", "--json", "--name", name, *options).json["id"]
        )
    result = wals("compare", *ids, "--config", config)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines()]
    assert ["latent_factors", "8", "64 (auto)"] in rows
    assert ["alpha", "1 (auto)", "40.0"] in rows
    assert "regularization" not in result.stdout, "the same was chosen in both"
    compared = wals("compare", *ids, "--config", config, "--json").json["runs"]
    assert compared[1]["parameters"]["regularization"] == "0.018 (auto)"


def test_compare_says_that_runs_were_judged_on_different_holdouts(
    wals: Wals, config: Path, server: VertexServer | KubeflowServer
) -> None:
    ids = []
    for name, holdout in (("one", "a"), ("two", "a"), ("three", "b")):
        server.holdout = holdout * 64
        # A name from the time would be in use in the same second.
        ids.append(wals("submit", "--config", config, "--name", name, "--wait", "--json").json["id"])
    same, different = (wals("compare", *pair, "--config", config).stdout for pair in (ids[:2], ids[1:]))
    assert "not comparable" not in same
    assert "recall_at_20" in different
    assert different.splitlines()[-1] == (
        "The runs were judged on different holdouts, so that their metrics are not comparable"
    )


def test_compare_says_that_runs_are_equal(wals: Wals, config: Path) -> None:
    ids = [wals("submit", "--config", config, "--name", name, "--json").json["id"] for name in ("one", "two")]
    result = wals("compare", *ids, "--config", config)
    assert result.stdout == "The runs have the same parameters\nThere are no metrics to show\n"
    for run_id in ids:
        wals("runs", run_id, "--config", config, "--wait")
    result = wals("compare", *ids, "--config", config)
    assert "The runs have the same parameters" in result.stdout
    assert "recall_at_20" in result.stdout


@pytest.mark.parametrize(
    ("history", "state"),
    [
        (["PENDING", "RUNNING", "CANCELING", "FAILED"], "cancelled"),
        (["RUNNING", "CANCELING", "FAILED", "RUNNING", "FAILED"], "failed"),
    ],
)
def test_kubeflow_reports_a_cancelled_run_as_failed_after_canceling(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer, history: list[str], state: str
) -> None:
    kubeflow.failing_step = "train"
    run_id = wals("submit", "--config", kubeflow_config, "--wait", "--json").json["id"]
    kubeflow.runs[run_id]["state_history"] = [{"state": entry} for entry in history]
    shown = wals("runs", run_id, "--config", kubeflow_config, "--json").json
    assert shown["state"] == state
    assert {step["name"]: step["state"] for step in shown["steps"]}["train"] == state
    assert wals("runs", "--config", kubeflow_config, "--json").json["runs"][0]["state"] == state


def test_a_name_in_use_is_refused(wals: Wals, vertex_config: Path) -> None:
    assert wals("submit", "--config", vertex_config, "--name", "same").exit_code == 0
    result = wals("submit", "--config", vertex_config, "--name", "same")
    assert result.exit_code == 2
    assert "same" in result.stderr
    assert "already exists" in result.stderr


def test_a_run_outlives_a_network_that_comes_back(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    run_id = wals("submit", "--config", vertex_config, "--json").json["id"]
    vertex.refusals = [503, 503, 503]
    assert wals("runs", run_id, "--config", vertex_config, "--wait").exit_code == 0


def test_a_lost_network_says_how_to_follow_the_run_again(
    wals: Wals, vertex_config: Path, vertex: VertexServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = wals("submit", "--config", vertex_config, "--json").json["id"]
    monkeypatch.setattr(remote_run, "_SILENCE_SECONDS", 0.1)
    vertex.refusals = [503] * 99
    options = ("--config", vertex_config, "--endpoint", vertex.url)
    result = wals("runs", run_id, *options, "--wait")
    assert result.exit_code == 1
    assert "trying again" in result.stdout
    assert result.stderr.count("\n") == 1
    assert f"`wals runs {run_id} --config {vertex_config} --endpoint {vertex.url} --wait`" in result.stderr


@pytest.mark.parametrize("status", [401, 403])
def test_waiting_ends_when_access_to_the_run_is_denied(
    wals: Wals, vertex_config: Path, vertex: VertexServer, status: int
) -> None:
    run_id = wals("submit", "--config", vertex_config, "--json").json["id"]
    vertex.refusals = [status] * 9
    result = wals("runs", run_id, "--config", vertex_config, "--wait")
    assert result.exit_code == 1
    assert f"`wals runs {run_id} --config {vertex_config} --wait`" in result.stderr
    assert len(vertex.refusals) == 8


def test_an_interrupted_wait_says_how_to_continue(
    wals: Wals, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = wals("submit", "--config", config, "--json").json["id"]

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(remote_run.time, "sleep", interrupt)
    result = wals("runs", run_id, "--config", config, "--wait")
    assert result.exit_code == 130
    assert f"`wals runs {run_id} --config {config} --wait`" in result.stdout


def test_the_links_come_before_the_end(wals: Wals, vertex_config: Path) -> None:
    result = wals("submit", "--config", vertex_config, "--name", "monday", "--wait")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Submitted monday: https://console.cloud.google.com/vertex-ai/")
    running = next(line for line in lines if line.startswith("train     running"))
    assert "https://console.cloud.google.com/" in running
    assert "/training/703?project=test-project" in running


@pytest.mark.parametrize("run_id", ["nothing", "../../x", "a/b", ".."])
def test_an_unknown_run_is_named(wals: Wals, config: Path, run_id: str) -> None:
    for command in ("runs", "cancel", "compare"):
        result = wals(command, run_id, "--config", config)
        assert result.exit_code == 2, result.stderr
        assert repr(run_id) in result.stderr
        assert result.stderr.count("\n") == 1


def test_an_older_server_is_named_with_its_version(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer
) -> None:
    kubeflow.version = "2.5.1"
    result = wals("submit", "--config", kubeflow_config)
    assert result.exit_code == 2
    assert "2.5.1" in result.stderr
    assert kubeflow.runs == {}


def test_a_server_that_reports_its_version_elsewhere_is_accepted(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer
) -> None:
    kubeflow.health_path = "/apis/v2beta1/healthz"
    assert wals("submit", "--config", kubeflow_config).exit_code == 0
    kubeflow.version = "2.5.1"
    assert "2.5.1" in wals("submit", "--config", kubeflow_config).stderr


@pytest.mark.parametrize("command", [("submit", "--wait"), ("runs",), ("upload",), ("schedule", "list")])
def test_missing_credentials_are_reported_at_once(
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


@pytest.mark.parametrize(("status", "reported"), [(401, "gcloud auth"), (403, "403"), (429, "429")])
def test_what_the_service_refuses_is_one_line(
    wals: Wals, vertex_config: Path, vertex: VertexServer, status: int, reported: str
) -> None:
    vertex.refusals = [status]
    result = wals("runs", "any", "--config", vertex_config)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert reported in result.stderr
    assert vertex.url not in result.stderr


@pytest.fixture
def swallowing() -> Iterator[str]:
    """Address where packets are lost: with its queue full, the kernel drops requests for a connection."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as queue:
        for _ in range(3):
            caller = queue.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("silent", ["vertex", "token", "registry", "kubeflow"])
def test_a_network_that_drops_packets_is_reported_at_once(
    vertex_config: Path, swallowing: str, tmp_path: Path, silent: str
) -> None:
    command = {
        "vertex": ("runs", "--config", vertex_config, "--endpoint", swallowing),
        "token": ("runs", "--config", vertex_config, "--endpoint", "https://127.0.0.1:9"),
        "registry": ("upload", "--config", vertex_config, "--template-repository", f"{swallowing}/templates"),
        "kubeflow": ("runs", "--target", "kubeflow", "--host", swallowing),
    }[silent]
    key = {"GOOGLE_APPLICATION_CREDENTIALS": str(service_account(tmp_path, f"{swallowing}/token"))}
    began = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", "from pipeline.cli import main; main()", *map(str, command)],
        env=os.environ | (key if silent == "token" else {}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    took = time.monotonic() - began
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1, result.stderr
    # About 5 s on an idle machine; the clients' own limits range from 30 s to none.
    assert took < 28


def test_a_network_lost_in_between_is_noticed_soon(swallowing: str) -> None:
    platform = Vertex(
        project=PROJECT, region=REGION, pipeline_root=f"gs://{BUCKET}/runs", endpoint=swallowing
    )
    began = time.monotonic()
    with pytest.raises(WalsError, match="cannot be reached"):
        VertexBackend(platform).get("monday")
    # An answer may take 30 s.
    assert time.monotonic() - began < 28


def test_a_silent_server_is_given_up_on(wals: Wals, vertex_config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for options in (
            ("--config", vertex_config, "--endpoint", url),
            ("--target", "kubeflow", "--host", url),
        ):
            began = time.monotonic()
            result = wals("runs", *options)
            assert result.exit_code == 1
            assert result.stderr.count("\n") == 1
            # Its own read timeout would be 30 s.
            assert time.monotonic() - began < 28


@pytest.mark.parametrize(
    ("command", "status"),
    [
        *((command, 200) for command in (("submit",), ("upload",), ("runs", "monday"), ("schedule", "list"))),
        (("runs",), 302),
        (("runs",), 404),
    ],
)
@pytest.mark.parametrize("target", ["vertex", "kubeflow", "kubeflow with its health in the open"])
def test_a_login_page_is_not_an_answer(
    wals: Wals, request: pytest.FixtureRequest, target: str, command: tuple[str, ...], status: int
) -> None:
    def health(call: Call) -> Any:
        if target in ("vertex", "kubeflow"):
            return login(call)
        return {"tag_name": "2.17.0"}

    def login(call: Call) -> str:
        if status != 200:
            raise RefusedError(status, "Sign in")
        return "<html><body>Sign in</body></html>"

    config = request.getfixturevalue(f"{target.split()[0]}_config")
    routes = [("GET", ".*/healthz", health), ("GET", ".*", login), ("POST", ".*", login)]
    with serving(routes, lambda *_: "<html>", []) as url:
        if target == "vertex":
            repository = ("--template-repository", f"{url}/t") if command == ("upload",) else ()
            result = wals(*command, "--config", config, "--endpoint", url, *repository)
        else:
            result = wals(*command, "--config", config, "--host", url)
            assert url in result.stderr
    assert result.exit_code == 1, result.stdout
    assert result.stderr.count("\n") == 1, result.stderr


def test_a_bug_is_one_line_and_debug_shows_its_traceback(
    wals: Wals, vertex_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VertexBackend, "runs", lambda *_: [][0])
    result = wals("runs", "--config", vertex_config)
    assert result.exit_code == 1
    assert result.stderr.startswith("wals: error: bug: IndexError")
    assert result.stderr.count("\n") == 1
    with pytest.raises(IndexError):
        wals("runs", "--config", vertex_config, "--debug")


def test_an_unreachable_server_is_named(wals: Wals) -> None:
    result = wals("submit", "--target", "kubeflow", "--host", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "http://127.0.0.1:9" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_dry_run_says_what_it_would_be_and_what_it_would_cost(
    wals: Wals, vertex_config: Path, tmp_path: Path
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        """
train:
  accelerator: NVIDIA_L4
  accelerators: 1
  custom_job: {machine_type: g2-standard-8, strategy: SPOT, replicas: 3, timeout_seconds: 3600}
prepare:
  retries: 2
""",
        "utf-8",
    )
    arguments = ("submit", "--config", vertex_config, "--settings", settings, "--name", "monday", "--dry-run")
    summary = wals(*arguments, "-p", "num_iters=16", "--json").json
    assert (summary["kind"], summary["name"], summary["pipeline"]) == ("run", "monday", "wals-train")
    # Given, but no other than the default: num_iters.
    assert summary["parameters"].keys() == {"source", "latent_factors", "project"}
    assert summary["parameters"]["latent_factors"] == "16"
    steps = {step["step"]: step for step in summary["steps"]}
    assert list(steps) == list(TRAINING.steps)
    assert steps["train"] == {
        "step": "train",
        "image": "europe-west1-docker.pkg.dev/test-project/wals/train:0.1.0",
        "cpu": "",
        "memory": "",
        "machine_type": "g2-standard-8",
        "strategy": "SPOT",
        "accelerator": "NVIDIA_L4",
        "accelerators": 1,
        "replicas": 3,
        "retries": 0,
        "timeout": "3600s",
        "side_by_side": 1,
    }
    prepare = {name: steps["prepare"][name] for name in ("cpu", "memory", "retries")}
    assert prepare == {"cpu": "8", "memory": "32G", "retries": 2}
    shown = wals(*arguments, "--label", "team=ads", "--label", "stage=test").stdout
    for text in (
        *("Would create the run monday", "team=ads stage=test"),
        *("latent_factors", "g2-standard-8", "SPOT", "wals/publish:"),
    ):
        assert text in shown
    assert "num_iters" not in shown


def test_a_dry_run_counts_what_runs_side_by_side(wals: Wals, config: Path) -> None:
    arguments = ("submit", "--config", config, "--pipeline", "wals-tune", "-p", "width=7", "--dry-run")
    steps = wals(*arguments, "--json").json["steps"]
    assert {step["step"]: step["side_by_side"] for step in steps if step["step"].startswith("trial")} == {
        "trial": 7,
        "trial-2": 7,
        "trial-3": 7,
    }


def test_full_is_an_option_of_a_dry_run(wals: Wals, config: Path) -> None:
    result = wals("submit", "--config", config, "--full")
    assert result.exit_code == 2
    assert result.stderr == "wals: error: --full requires --dry-run\n"
