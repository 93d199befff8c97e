"""What a run's exit task finds out: from folders, and from the API server of Kubeflow Pipelines."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from components import answers, limits
from components.artifacts.evaluation import log_summary
from components.notify import facts
from components.notify.facts import KILLED, Facts, Failure, gather
from components.runtime import ERROR_FILE
from tests.components.notify import receiver as receivers
from tests.components.notify.examples import FAILED_TASKS, JOB, evaluation, status, write_evaluation
from tests.components.notify.receiver import receiver
from tests.pipeline import argo
from tests.pipeline.kubeflow_server import KubeflowServer, kubeflow_server
from trainer.errors import WalsError

LINE = "wals-error[2] source /x: does not exist; give another"
LINK = (
    "https://console.cloud.google.com/vertex-ai/locations/europe-west1/pipelines/runs/wals-train-20261126"
    "?project=271"
)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The place of the exit task's artifact, in the folder of a run on Vertex AI."""
    place = tmp_path / "root" / "271" / "wals-train-20261126" / "notify_-77" / "notification"
    place.mkdir(parents=True)
    # The exit task's own, which is running.
    (place.parent / ERROR_FILE).touch()
    return place


def leave(own: Path, task: str, line: str) -> None:
    folder = own.parents[1] / task
    folder.mkdir()
    (folder / ERROR_FILE).write_text(line, "utf-8")


def test_a_good_run_is_described_by_its_evaluation(own: Path) -> None:
    evaluated = own.parents[1] / "evaluate_-42"
    write_evaluation(evaluated / "evaluation", evaluation())
    (evaluated / "report").write_text("<html>")
    # The first attempt of a step that was retried on another machine.
    leave(own, "train_1", LINE)
    found = gather(status(), own)
    report = str(evaluated / "report")
    assert found == Facts("wals-train-20261126", "succeeded", "", (), evaluation(), LINK, report)


def test_the_steps_that_failed_are_told_with_their_lines(own: Path) -> None:
    leave(own, "extract_-9123", LINE)
    leave(own, "train_17", "")
    (own.parents[1] / "prepare_5").mkdir()
    found = gather(status("FAILED", FAILED_TASKS), own)
    assert found.state == "failed"
    assert found.reason == FAILED_TASKS
    assert sorted(found.failures, key=lambda failure: failure.step) == [
        Failure("extract", LINE),
        Failure("train", KILLED),
    ]
    assert found.evaluation is None


def test_a_line_of_any_length_and_bytes_is_read(own: Path) -> None:
    leave(own, "extract_1", "")
    (own.parents[1] / "extract_1" / ERROR_FILE).write_bytes(b"\xff" + b"a" * 1_000_000)
    (failure,) = gather(status("FAILED"), own).failures
    assert failure.line.startswith("\ufffdaaa")
    assert len(failure.line) < 5000


def test_a_damaged_evaluation_is_left_out(own: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_evaluation(own.parents[1] / "evaluate_1" / "evaluation", evaluation())
    manifest = own.parents[1] / "evaluate_1" / "evaluation" / "_manifest.json"
    manifest.write_text(manifest.read_text().replace('"value"', '"worth"'))
    assert gather(status(), own).evaluation is None
    assert "the evaluation is not reported: wals.evaluation" in caplog.text


@pytest.mark.parametrize(
    ("told", "state"),
    [("SUCCEEDED", "succeeded"), ("FAILED", "failed"), ("CANCELLED", "cancelled"), ("", "unknown")],
)
def test_the_state_is_the_platforms(told: str, state: str, own: Path) -> None:
    assert gather(status(told), own).state == state


def test_a_run_on_this_machine_has_no_page(own: Path) -> None:
    found = gather(status("FAILED", "Task exit-handler-1 failed.", "local-pipeline-exit-handler-1"), own)
    assert found == Facts("wals-train-20261126", "failed")


SPEC = {
    "root": {"dag": {"tasks": {
        "train": {"componentRef": {"name": "comp-train"}},
        "evaluate": {"componentRef": {"name": "comp-evaluate"}, "dependentTasks": ["train"]},
    }}},
    "components": {"comp-train": {}, "comp-evaluate": {}},
}  # fmt: skip


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeflowServer]:
    """The API server of Kubeflow Pipelines, as a pod of a run sees it."""
    monkeypatch.setenv("KFP_POD_NAME", "wals-train-x7k2p-notify")
    with kubeflow_server() as server:
        server.is_ui = False
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
        yield server


def pod_of(server: KubeflowServer, last: str, phase: str, **more: bool) -> Path:
    """Return the place of the exit task's artifact in its pod, of a run that has come to a step."""
    run = str(uuid.uuid4())
    server.runs[run] = {}
    phases = {"train": "Succeeded", last: phase}
    server.workflows[run] = argo.Workflow(SPEC, phases, unbegun="Omitted", **more)
    return Path(f"/minio/mlpipeline/v2/artifacts/wals-train/{run}/notify/{uuid.uuid4()}/notification")


def on_kubernetes(state: str) -> SimpleNamespace:
    """Return the status that Kubeflow Pipelines gives to an exit task."""
    return SimpleNamespace(state=state, pipeline_job_resource_name="wals-train-x7k2p", error_message="")


def logged(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the log of an evaluation."""
    log_summary(evaluation(parameters={"alpha": 1.0}))
    return f"wals: judged\n{capsys.readouterr().out}wals: done\n"


@pytest.mark.parametrize("state", ["COMPLETE", "RUNNING"])
def test_on_kubernetes_a_good_run_is_described_by_the_log_of_its_evaluation(
    state: str, server: KubeflowServer, capsys: pytest.CaptureFixture[str]
) -> None:
    own = pod_of(server, "evaluate", "Succeeded")
    server.logs["evaluate"] = logged(capsys)
    found = gather(on_kubernetes(state), own)
    assert found == Facts(own.parents[2].name, "succeeded", evaluation=evaluation())


@pytest.mark.parametrize("state", ["FAILED", "RUNNING"])
@pytest.mark.parametrize("place", ["pod", "archive"])
def test_on_kubernetes_the_failed_step_is_told_with_its_line(
    state: str, place: str, server: KubeflowServer
) -> None:
    own = pod_of(server, "train", "Failed")
    logs = server.logs if place == "pod" else server.archive
    logs["train"] = f"wals: begins\nwals-error[1] an earlier attempt\n{LINE}\n"
    found = gather(on_kubernetes(state), own)
    assert (found.state, found.failures) == ("failed", (Failure("train", LINE),))


def test_on_kubernetes_a_step_without_a_log_has_the_clusters_reason(server: KubeflowServer) -> None:
    found = gather(on_kubernetes("RUNNING"), pod_of(server, "train", "Failed"))
    assert found.failures == (Failure("train", "main: Error (exit code 1)"),)


def test_on_kubernetes_a_driver_that_fails_is_a_failed_step(server: KubeflowServer) -> None:
    (failure,) = gather(
        on_kubernetes("RUNNING"), pod_of(server, "train", "Failed", failed_driver=True)
    ).failures
    assert failure.step == "train"


def test_on_kubernetes_an_evaluation_from_the_cache_is_not_told(server: KubeflowServer) -> None:
    assert gather(on_kubernetes("COMPLETE"), pod_of(server, "evaluate", "Succeeded")).evaluation is None


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (receivers.answers("403 Forbidden"), "answers 403"),
        (receivers.answers("200 OK", body=b"<html>Login</html>"), "does not report the run's pods"),
        (receivers.answers("200 OK", body=b'{"pipeline_runtime": null}'), "does not report the run's pods"),
        (receivers.answers("200 OK", body=b"[" * 100_000), "does not report the run's pods"),
        (receivers.is_endless, "returned more than 1,048,576 bytes"),
        (receivers.is_slow, "did not answer in 1 s"),
        (receivers.breaks_off, "cannot be reached (ConnectionError)"),
    ],
)
def test_on_kubernetes_a_server_that_does_not_answer_well_has_one_line(
    answer: receivers.Answer, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KFP_POD_NAME", "notify")
    monkeypatch.setattr(answers, "LARGEST_ANSWER", 1 << 20)
    monkeypatch.setattr(limits, "REQUEST_SECONDS", 1.0)
    with receiver([answer]) as found:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", found.url.partition("/services")[0])
        with pytest.raises(WalsError) as unknown:
            gather(on_kubernetes("FAILED"), Path("/minio/a/b/RUN/notify/1/notification"))
    assert problem in str(unknown.value)


def test_only_on_kubernetes_an_evaluation_is_logged(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KFP_POD_NAME", raising=False)
    log_summary(evaluation())
    assert capsys.readouterr().out == ""


def test_the_job_is_the_one_of_the_status(own: Path) -> None:
    assert gather(status(job=JOB.replace("20261126", "other")), own).run == "wals-train-other"


def test_a_report_in_a_mounted_bucket_has_its_address_in_the_storage_browser(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "_MOUNTED", tmp_path)
    evaluated = own.parents[1] / "evaluate_-42"
    write_evaluation(evaluated / "evaluation", evaluation())
    (evaluated / "report").write_text("<html>")
    address = "https://storage.cloud.google.com/root/271/wals-train-20261126/evaluate_-42/report"
    assert gather(status(), own).report == address
