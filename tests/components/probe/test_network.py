"""The account, the clock and the services, with real servers on real sockets."""

import base64
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.probe import network
from components.probe.identity import account, user
from components.probe.network import Cloud, clock, egress, google_cloud, services
from components.probe.options import ProbeOptions
from tests.components.probe.servers import ACCOUNT, Server, server


@pytest.fixture
def google() -> Iterator[Server]:
    with server() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_emulators(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BIGQUERY_EMULATOR_HOST", "STORAGE_EMULATOR_HOST", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    monkeypatch.setattr(network, "SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_the_metadata_server_says_who_and_where(google: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCE_METADATA_HOST", google.host)
    cloud = google_cloud()
    assert cloud is not None
    assert (cloud.account, cloud.region) == (ACCOUNT, "europe-west1")
    assert abs(cloud.offset or 0) < 5


def test_elsewhere_there_is_no_metadata_server(silent: str) -> None:
    assert google_cloud(silent) is None
    assert google_cloud("127.0.0.1:9") is None


def test_the_user_is_the_processes() -> None:
    (found,) = user()
    assert found.found.startswith("uid ")


@pytest.mark.parametrize(
    ("email", "status", "named"),
    [
        (ACCOUNT, "ok", ACCOUNT),
        ("service-1@gcp-sa-aiplatform-cc.iam.gserviceaccount.com", "fix", "Vertex AI's own agent"),
        ("123-compute@developer.gserviceaccount.com", "warning", "the project's default"),
        ("", "fix", "no service account"),
    ],
)
def test_the_account_is_the_one_that_was_meant(
    google: Server, tmp_path: Path, email: str, status: str, named: str
) -> None:
    google.account = email
    (found,) = account(google_cloud(google.host), tmp_path / "none")
    assert found.status == status
    assert named in found.found


def test_on_kubernetes_the_token_names_the_account(tmp_path: Path) -> None:
    subject = {"sub": "system:serviceaccount:kubeflow:pipeline-runner"}
    payload = base64.urlsafe_b64encode(json.dumps(subject).encode()).decode().rstrip("=")
    token = tmp_path / "token"
    token.write_text(f"header.{payload}.signature", "utf-8")
    (found,) = account(None, token)
    assert found.found == "Kubernetes kubeflow:pipeline-runner"
    assert len(list(account(Cloud(ACCOUNT, "", None), token))) == 2


def test_on_this_machine_there_is_no_account(tmp_path: Path) -> None:
    (found,) = account(None, tmp_path / "none")
    assert (found.status, found.found) == ("ok", "not applicable: neither on Google Cloud nor on Kubernetes")


@pytest.mark.parametrize(
    ("behind", "status"), [(0, "ok"), (-30, "warning"), (30, "warning"), (-7200, "fix"), (7200, "fix")]
)
@pytest.mark.parametrize("is_metadata", [True, False])
def test_the_clock_is_compared_with_a_servers(
    google: Server, behind: int, status: str, is_metadata: bool
) -> None:
    google.behind = behind
    cloud = google_cloud(google.host) if is_metadata else None
    (actual,) = clock(cloud, [] if is_metadata else ["http://127.0.0.1:9", google.url])
    assert actual.status == status
    if behind:
        offset = re.match(r"([+-]\d+) s from the server's", actual.found)
        assert offset
        # The server cuts off fractions of seconds.
        assert int(offset[1]) == pytest.approx(behind, abs=2)


def test_without_a_server_the_clock_is_not_applicable() -> None:
    (found,) = clock(None, ["http://127.0.0.1:9"])
    assert found.found.startswith("not applicable")


@pytest.mark.parametrize("status", [200, 404, 403, 503])
def test_a_service_that_answers_is_reached_whatever_it_says(google: Server, status: int) -> None:
    google.status = status
    (found,) = egress({google.url: True})
    assert (found.status, found.found) == ("ok", "127.0.0.1 answers")


@pytest.mark.parametrize(
    ("address", "remedy"),
    [
        ("http://127.0.0.1:9", "firewall"),
        ("https://storage.invalid", "DNS"),
        ("SILENT", "firewall"),
        ("NO TLS", "proxy"),
    ],
)
@pytest.mark.parametrize(("is_needed", "status"), [(True, "fix"), (False, "warning")])
def test_a_service_that_cannot_be_reached_is_to_fix_if_it_is_needed(
    google: Server, silent: str, address: str, remedy: str, is_needed: bool, status: str
) -> None:
    address = {"SILENT": f"http://{silent}", "NO TLS": f"https://{google.host}"}.get(address, address)
    (found,) = egress({address: is_needed})
    assert found.status == status
    assert " cannot be reached: " in found.found
    assert remedy in found.remedy


BIGQUERY, READ, STORAGE, VERTEX = (
    f"https://{name}.googleapis.com"
    for name in ("bigquery", "bigquerystorage", "storage", "europe-west1-aiplatform")
)


GOOGLE = Cloud(ACCOUNT, "europe-west1", 0.0)
S3 = "http://seaweedfs:8333"
STAGED = {"source": "bq://my-project.d.t", "staging_dataset": "my-project.s"}


@pytest.mark.parametrize(
    ("step", "options", "cloud", "called"),
    [
        ("extract", {"source": "ratings.csv"}, None, {}),
        ("extract", STAGED, None, {BIGQUERY: True, READ: True}),
        ("prepare", STAGED, None, {BIGQUERY: True, READ: True}),
        ("prepare", {"source": "bq://my-project.d.t"}, None, {}),
        ("train", STAGED, None, {}),
        ("extract", {"source": "gs://b/r.csv"}, None, {STORAGE: True}),
        ("extract", {"source": "gs://b/r.csv"}, GOOGLE, {STORAGE: True, VERTEX: False}),
        ("train", {"source": "gs://b/r.csv"}, GOOGLE, {STORAGE: False, VERTEX: False}),
        ("extract", {"source": "s3://b/r.csv"}, None, {S3: True}),
        ("train", {"checkpoint_dir": "gs://b/checkpoints"}, GOOGLE, {STORAGE: True, VERTEX: False}),
        (
            "train",
            {"checkpoint_dir": "s3://b/checkpoints", "warm_start": "gs://b/m"},
            None,
            {S3: True, STORAGE: True},
        ),
        ("train", {"registry": "s3://b/registry", "warm_start": "champion"}, None, {S3: True}),
        ("train", {"registry": "s3://b/registry"}, None, {}),
        (
            "evaluate",
            {"registry": "s3://b/registry", "checkpoint_dir": "gs://b/checkpoints"},
            None,
            {S3: True},
        ),
    ],
)
def test_only_the_services_of_the_step_and_the_parameters_are_called(
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    options: dict[str, str],
    cloud: Cloud | None,
    called: dict[str, bool],
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", S3)
    given = ProbeOptions(**{"source": "ratings.csv", **options})
    assert services(step, given, cloud) == called
