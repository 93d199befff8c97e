"""`wals logs` against the local servers."""

from pathlib import Path

import pytest

from tests.pipeline.conftest import Wals
from tests.pipeline.kubeflow_server import KubeflowServer
from tests.pipeline.serving import STEPS
from tests.pipeline.vertex_server import PARENT, VertexServer

DATA = ("--train-file", "gs://test-bucket/ratings.csv", "--data-type", "user_ratings")


@pytest.fixture(autouse=True)
def cloud_logging(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the local server stand in for Cloud Logging too."""
    for limit in ("_FIRST_POLL_SECONDS", "_LONGEST_POLL_SECONDS"):
        monkeypatch.setattr(f"pipeline.display.remote_run.{limit}", 0.01)
    for name in {"server", "vertex"} & set(request.fixturenames):
        url = request.getfixturevalue(name).url
        monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING", url)


@pytest.fixture
def ended(wals: Wals, config: Path) -> str:
    """The id of a run whose steps have all run."""
    run_id: str = wals("submit", "--config", config, "--wait", "--json").json["id"]
    return run_id


def write(server: VertexServer | KubeflowServer, step: str, *lines: str) -> None:
    """Let a step write lines; a later step runs after an earlier one."""
    if isinstance(server, KubeflowServer):
        server.logs[step] = "".join(f"{line}\n" for line in lines)
        return
    (job,) = server.jobs.values()
    tasks = {task["taskName"]: task for task in job["jobDetail"]["taskDetails"]}
    number = tasks[step]["executorDetail"]["containerDetail"]["mainJob"].rpartition("/")[2]
    for place, line in enumerate(lines):
        payload = {"textPayload": line} if place % 2 else {"jsonPayload": {"message": line}}
        server.logs.append((number, payload))


def test_the_output_of_all_steps_is_shown_in_order(
    wals: Wals, config: Path, server: VertexServer | KubeflowServer, ended: str
) -> None:
    for step in STEPS:
        write(server, step, f"{step} begins", "ends")
    result = wals("logs", ended, "--config", config)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        line for step in STEPS for line in (f"{step}: {step} begins", f"{step}: ends")
    ]


def test_the_output_of_one_step_is_shown_page_by_page(
    wals: Wals, config: Path, server: VertexServer | KubeflowServer, ended: str
) -> None:
    write(server, "extract", "other lines")
    lines = [f"iteration {number} of 7" for number in range(1, 8)]
    write(server, "train", *lines)
    assert wals("logs", ended, "train", "--config", config).stdout.splitlines() == lines
    reported = wals("logs", ended, "train", "--config", config, "--json").json["lines"]
    assert reported == [{"step": "train", "text": line} for line in lines]


def test_an_unknown_run_or_step_is_named(
    wals: Wals, config: Path, server: VertexServer | KubeflowServer, ended: str
) -> None:
    result = wals("logs", "nothing", "--config", config)
    assert result.exit_code == 2
    assert "run 'nothing': does not exist" in result.stderr
    assert result.stderr.count("\n") == 1
    result = wals("logs", ended, "fly", "--config", config)
    assert result.exit_code == 2
    assert "step 'fly': is not a step of the run" in result.stderr
    assert "train" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_run_that_has_not_started_has_no_logs(wals: Wals, kubeflow_config: Path) -> None:
    run_id = wals("submit", "--config", kubeflow_config, "--json").json["id"]
    result = wals("logs", run_id, "publish", "--config", kubeflow_config)
    assert result.exit_code == 1
    assert "step publish has no log" in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_the_right_to_the_logs_of_vertex_the_role_is_named(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    run_id = wals("submit", "--config", vertex_config, "--wait", "--json").json["id"]
    for status, reported in ((403, "roles/logging.viewer"), (401, "gcloud auth"), (503, "503")):
        vertex.logging_refuses = status
        result = wals("logs", run_id, "--config", vertex_config)
        assert result.exit_code == 1
        assert reported in result.stderr
        assert result.stderr.count("\n") == 1


def test_without_the_right_to_a_run_on_kubeflow_the_token_is_named(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer
) -> None:
    run_id = wals("submit", "--config", kubeflow_config, "--wait", "--json").json["id"]
    kubeflow.refuses_logs = True
    result = wals("logs", run_id, "--config", kubeflow_config)
    assert result.exit_code == 1
    assert "KUBEFLOW_TOKEN" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.fixture(params=["ui", "api"])
def either_kubeflow(request: pytest.FixtureRequest, kubeflow: KubeflowServer) -> KubeflowServer:
    """The server of the UI, or the API server behind it; they have logs at different addresses."""
    kubeflow.is_ui = request.param == "ui"
    return kubeflow


def test_both_servers_of_kubeflow_show_logs(
    wals: Wals, kubeflow_config: Path, either_kubeflow: KubeflowServer
) -> None:
    run_id = wals("submit", "--config", kubeflow_config, "--wait", "--json").json["id"]
    either_kubeflow.logs = {"train": "iteration 1\niteration 2\n"}
    result = wals("logs", run_id, "train", "--config", kubeflow_config)
    assert result.stdout == "iteration 1\niteration 2\n", result.stderr


def test_a_deleted_pod_is_an_error(
    wals: Wals, kubeflow_config: Path, either_kubeflow: KubeflowServer
) -> None:
    run_id = wals("submit", "--config", kubeflow_config, "--wait", "--json").json["id"]
    result = wals("logs", run_id, "train", "--config", kubeflow_config)
    assert result.exit_code == 1
    assert result.stdout == ""
    reason = "Could not get main container logs" if either_kubeflow.is_ui else "Failed to read logs"
    assert f"the log of train cannot be read: {reason}" in result.stderr
    assert "does not exist" not in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_archive_has_the_log_of_a_deleted_pod(
    wals: Wals, kubeflow_config: Path, either_kubeflow: KubeflowServer
) -> None:
    run_id = wals("submit", "--config", kubeflow_config, "--wait", "--json").json["id"]
    either_kubeflow.archive = {"train": "iteration 1\n"}
    result = wals("logs", run_id, "train", "--config", kubeflow_config)
    assert result.stdout == "iteration 1\n", result.stderr


def test_a_log_that_is_gone_does_not_hide_the_others(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer
) -> None:
    run_id = wals("submit", "--config", kubeflow_config, "--wait", "--json").json["id"]
    kubeflow.logs = {"prepare": "sorted\n", "publish": "written\n"}
    result = wals("logs", run_id, "--config", kubeflow_config)
    assert result.stdout == "prepare: sorted\npublish: written\n"
    assert result.exit_code == 1
    assert "the log of extract, train, evaluate, refit, deliver, notify cannot be read" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_pod_that_waits_for_its_image_does_not_hide_the_other_logs(
    wals: Wals,
    kubeflow_config: Path,
    either_kubeflow: KubeflowServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    either_kubeflow.waiting_step = "prepare"
    either_kubeflow.logs = {"extract": "read 100 rows\n"}
    run_id = wals("submit", "--config", kubeflow_config, "--json").json["id"]
    wals("runs", run_id, "--config", kubeflow_config)
    result = wals("logs", run_id, "--config", kubeflow_config)
    assert (result.exit_code, result.stdout) == (0, "extract: read 100 rows\n")
    (warning,) = caplog.messages
    assert "prepare has no log yet, its pod waits: ImagePullBackOff" in warning
    result = wals("logs", run_id, "prepare", "--config", kubeflow_config)
    assert result.exit_code == 1
    assert "prepare has no log yet, its pod waits: ImagePullBackOff" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_trials_of_kubeflow_have_logs_of_their_own(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer
) -> None:
    tune = ("--config", kubeflow_config, "--pipeline", "wals-tune", "--wait", "--json")
    run_id = wals("submit", *tune).json["id"]
    for task in ("trial", "trial-2", "trial-3"):
        kubeflow.logs |= {f"{task}.1": f"{task}, first\n", f"{task}.2": f"{task}, second\n"}
    logs = ("logs", run_id)
    assert wals(*logs, "trial-1.2", "--config", kubeflow_config).stdout == "trial, second\n"
    assert wals(*logs, "trial-2.1", "--config", kubeflow_config).stdout == "trial-2, first\n"
    lines = wals(*logs, "trial-2", "--config", kubeflow_config, "--json").json["lines"]
    assert sorted(line["step"] for line in lines) == ["trial-2.1", "trial-2.2"]
    refused = wals(*logs, "for-loop-1", "--config", kubeflow_config)
    assert "is not a step of the run" in refused.stderr


def test_a_server_without_the_older_api_says_so(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer
) -> None:
    kubeflow.version = ""
    run_id = wals("submit", "--config", kubeflow_config, "--json").json["id"]
    result = wals("logs", run_id, "--config", kubeflow_config)
    assert result.exit_code == 1
    assert "does not report a run's pods" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_log_of_a_retried_step_has_both_attempts_on_kubeflow(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer
) -> None:
    kubeflow.retried = frozenset({"train"})
    kubeflow.logs = {"train": "training\n"}
    run_id = wals("submit", "--config", kubeflow_config, "--wait", "--json").json["id"]
    assert wals("logs", run_id, "train", "--config", kubeflow_config).stdout == "training\ntraining\n"


def test_the_log_of_a_retried_step_has_both_attempts_on_vertex(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    run_id = wals("submit", "--config", vertex_config, "--wait", "--json").json["id"]
    (job,) = vertex.jobs.values()
    train = next(task for task in job["jobDetail"]["taskDetails"] if task["taskName"] == "train")
    train["executorDetail"]["containerDetail"]["failedMainJobs"] = [f"{PARENT}/customJobs/8999"]
    vertex.logs.append(("8999", {"textPayload": "out of memory"}))
    write(vertex, "train", "done")
    assert wals("logs", run_id, "train", "--config", vertex_config).stdout == "out of memory\ndone\n"


def test_the_trials_of_a_round_have_a_log_together_on_vertex(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    wals("submit", "--config", vertex_config, "--pipeline", "wals-tune", "--name", "tuning")
    job = vertex.jobs[f"{PARENT}/pipelineJobs/tuning"]
    job["state"] = "PIPELINE_STATE_SUCCEEDED"
    tasks = [("1", "0", "tuning"), ("2", "1", "for-loop-3"), ("3", "2", "trial-2"), ("4", "2", "trial-2")]
    job["jobDetail"]["taskDetails"] = [
        {
            "taskId": task,
            "parentTaskId": parent,
            "taskName": name,
            "state": "SUCCEEDED",
            "executorDetail": {"containerDetail": {"mainJob": f"{PARENT}/customJobs/800{task}"}},
        }
        for task, parent, name in tasks
    ]
    vertex.logs += [("8003", {"textPayload": "first"}), ("8004", {"textPayload": "second"})]
    logs = ("logs", "tuning", "--config", vertex_config)
    result = wals(*logs, "trial-2")
    assert (result.stderr, result.stdout) == ("", "first\nsecond\n")
    assert wals(*logs, "trial-2.2").stdout == "second\n"
    assert [line["step"] for line in wals(*logs, "trial-2", "--json").json["lines"]] == [
        "trial-2.1",
        "trial-2.2",
    ]


def test_a_training_job_has_a_log(wals: Wals, vertex_config: Path, vertex: VertexServer) -> None:
    job = wals("train-job", "train", "--config", vertex_config, "--json", *DATA).json["id"]
    vertex.logs.append((job.rpartition("/")[2], {"jsonPayload": {"message": "train RMSE = 0.7"}}))
    assert wals("logs", job, "--config", vertex_config).stdout == "train: train RMSE = 0.7\n"


def test_the_log_of_a_tuning_job_is_split_by_trial(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    tuning = wals("train-job", "tune", "--config", vertex_config, "--json", "--wait", "--max-trials=2",
                  "--parallel-trials=1", *DATA).json["id"]  # fmt: skip
    number = tuning.rpartition("/")[2]
    for trial, line in (("1", "begins"), ("2", "begins"), ("", "Trial 1 is over"), ("2", "test RMSE = 1.0")):
        labels = {"ml.googleapis.com/trial_id": trial} if trial else {}
        vertex.logs.append((number, {"textPayload": line, "labels": labels}))
    lines = wals("logs", tuning, "trial-2", "--config", vertex_config).stdout.splitlines()
    assert lines == ["begins", "test RMSE = 1.0"]
    assert wals("logs", tuning, "--config", vertex_config).stdout.splitlines() == [
        "trial-1: begins",
        "trial-2: begins",
        "tuning: Trial 1 is over",
        "trial-2: test RMSE = 1.0",
    ]
    result = wals("logs", tuning, "trial-3", "--config", vertex_config)
    assert result.exit_code == 2
    assert "trial-1, trial-2" in result.stderr


@pytest.fixture
def train_is_a_custom_job(vertex_config: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("train: {custom_job: {machine_type: n1-standard-8}}", "utf-8")
    with vertex_config.open("a", encoding="utf-8") as config:
        config.write(f"settings: {settings}\n")


@pytest.mark.usefixtures("train_is_a_custom_job")
def test_a_step_that_is_a_custom_job_has_that_jobs_log_and_link(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    run = wals("submit", "--config", vertex_config, "--wait", "--json").json
    links = {step["name"]: step["link"] for step in run["steps"]}
    launcher, launched = "703", "903"
    assert f"/training/{launched}?" in links["train"]
    assert "/training/702?" in links["prepare"]
    vertex.logs.append((launcher, {"textPayload": "the job is in a non-final state"}))
    vertex.logs.append((launched, {"textPayload": "iteration 1 of 16"}))
    result = wals("logs", run["id"], "train", "--config", vertex_config)
    assert result.stdout.splitlines() == ["the job is in a non-final state", "iteration 1 of 16"]


@pytest.mark.usefixtures("train_is_a_custom_job")
def test_a_cached_step_has_no_log_although_it_reports_the_job_of_an_earlier_run(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    run_id = wals("submit", "--config", vertex_config, "--wait", "--json").json["id"]
    (job,) = vertex.jobs.values()
    train = next(task for task in job["jobDetail"]["taskDetails"] if task["taskName"] == "train")
    train["state"] = "SKIPPED"
    del train["executorDetail"]
    vertex.run_jobs.clear()
    assert "output:gcp_resources" in train["execution"]["metadata"]
    result = wals("logs", run_id, "train", "--config", vertex_config)
    assert result.exit_code == 1
    assert "cached results were used" in result.stderr
    (step,) = (
        step
        for step in wals("runs", run_id, "--config", vertex_config, "--json").json["steps"]
        if step["name"] == "train"
    )
    assert (step["state"], step["link"]) == ("skipped", "")


@pytest.mark.usefixtures("train_is_a_custom_job")
def test_a_custom_job_that_its_step_does_not_report_is_found_by_the_runs_label(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    vertex.failing_step, vertex.reports_launched = "train", False
    for name in ("one", "two"):
        assert wals("submit", "--config", vertex_config, "--name", name, "--wait").exit_code == 1
    vertex.logs = [("903", {"textPayload": "of one"}), ("1903", {"textPayload": "of two"})]
    for name in ("one", "two"):
        lines = wals("logs", name, "train", "--config", vertex_config).stdout.splitlines()
        assert lines == [f"of {name}"]
