"""`wals report` against the local servers."""

from pathlib import Path

import pytest
from google.cloud import storage

from pipeline.display import remote_run
from tests.pipeline.conftest import Wals
from tests.pipeline.kubeflow_server import KubeflowServer
from tests.pipeline.serving import REPORT
from tests.pipeline.vertex_server import REPORT_PATH


@pytest.fixture(autouse=True)
def _poll_quickly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(remote_run, "_FIRST_POLL_SECONDS", 0.01)
    monkeypatch.setattr(remote_run, "_LONGEST_POLL_SECONDS", 0.01)
    monkeypatch.chdir(tmp_path)


def submit(wals: Wals, config: Path, *more: str) -> str:
    run_id: str = wals("submit", "--config", config, "--json", *more).json["id"]
    return run_id


def test_the_report_is_written_to_a_file(wals: Wals, config: Path, bucket: storage.Bucket) -> None:
    bucket.blob(REPORT_PATH).upload_from_string(REPORT)
    run_id = submit(wals, config, "--wait")
    result = wals("report", run_id, "--config", config)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"runs/{run_id}/report.html\n"
    assert Path(result.stdout.strip()).read_text("utf-8") == REPORT
    reported = wals("report", run_id, "--config", config, "--output-dir", "here", "--json").json
    assert reported == {"id": run_id, "report": "here/report.html"}
    assert Path("here/report.html").read_text("utf-8") == REPORT


def test_a_run_that_has_not_been_evaluated_has_no_report(wals: Wals, config: Path) -> None:
    run_id = submit(wals, config)
    result = wals("report", run_id, "--config", config)
    assert result.exit_code == 1
    assert f"run {run_id}: has no report" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not Path("runs").exists()


def test_a_training_job_has_no_report(wals: Wals, vertex_config: Path) -> None:
    result = wals("report", "customJobs/8001", "--config", vertex_config)
    assert result.exit_code == 1
    assert "run customJobs/8001: has no report" in result.stderr


def test_a_report_that_was_deleted_is_named(wals: Wals, vertex_config: Path, bucket: storage.Bucket) -> None:
    run_id = submit(wals, vertex_config, "--wait")
    result = wals("report", run_id, "--config", vertex_config)
    assert result.exit_code == 1
    assert f"gs://{bucket.name}/{REPORT_PATH}: answers 404" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_api_server_of_kubeflow_has_no_reports(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer
) -> None:
    run_id = submit(wals, kubeflow_config, "--wait")
    kubeflow.is_ui = False
    result = wals("report", run_id, "--config", kubeflow_config)
    assert result.exit_code == 1
    assert "only the address of the UI serves it" in result.stderr
    assert result.stderr.count("\n") == 1
