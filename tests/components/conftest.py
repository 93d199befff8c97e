"""Emulators of Google Cloud and S3: separate servers, used through the real clients."""

import contextlib
import fcntl
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, storage
from pyarrow.fs import S3FileSystem

from tests.components.read_relay import ReadRelay
from trainer.files import sha256

_EMULATORS = Path(__file__).parent / "emulators"
_LOCK = _EMULATORS / "requirements.lock.txt"
_BUILD = Path(__file__).parents[2] / "build" / "emulators"
_REQUIRED = "WALS_REQUIRE_EMULATORS"
_PROJECT = "test-project"


@pytest.fixture(scope="session")
def emulators():
    """Return the virtual environment of the emulators, which is created once for each lock file."""
    folder = _BUILD / sha256(_LOCK)[:12]
    _BUILD.mkdir(parents=True, exist_ok=True)
    with (_BUILD / "lock").open("w") as lock:
        # The other workers of pytest-xdist wait for the first one.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "whole").exists():
            try:
                _install(folder)
            except (OSError, subprocess.CalledProcessError) as error:
                reason = f"no emulators: {getattr(error, 'stderr', '') or error}"
                if os.environ.get(_REQUIRED):
                    pytest.fail(reason)
                pytest.skip(reason)
            (folder / "whole").touch()
    return folder


def _install(folder):
    uv = Path(sys.executable).with_name("uv")
    python = folder / "bin" / "python"
    extensions = ("httpfs", "icu", "ducklake", "spatial")
    imports = "".join(f"; duckdb_extensions.import_extension('{name}')" for name in extensions)
    for command in (
        [uv, "venv", "-q", "--clear", "--python", _python_3_13(), folder],
        [uv, "pip", "install", "-q", "--python", python, "--no-deps", "--require-hashes", "-r", _LOCK],
        [python, "-c", f"import duckdb_extensions{imports}"],
    ):
        # The extensions are installed in the home folder, so each environment has its own.
        environment = {**os.environ, "HOME": str(folder)} if command[0] == python else None
        subprocess.run(command, check=True, capture_output=True, text=True, env=environment)


def _python_3_13():
    """Return a Python 3.13, which the emulators' packages require."""
    installed = Path("~/.pyenv/versions").expanduser().glob("3.13*/bin/python3.13")
    for python in (os.environ.get("PYTHON_3_13"), shutil.which("python3.13"), *installed):
        if python and subprocess.run([python, "--version"], capture_output=True).returncode == 0:
            return python
    raise FileNotFoundError("Python 3.13 is neither on the PATH nor in PYTHON_3_13")


def free_port():
    """Return a free port outside the range of outgoing connections, which might take it first."""
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


class Server:
    """A process that serves HTTP until the end of a `with` block."""

    def __init__(self, command, address, environment, log):
        self._command, self._address, self._environment, self._log = command, address, environment, log

    def __enter__(self):
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(part) for part in self._command], env=self._environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self._log.read_text()
            try:
                urllib.request.urlopen(self._address, timeout=5)
            except urllib.error.HTTPError:
                return self
            except OSError:
                time.sleep(0.1)
            else:
                return self
        raise AssertionError(self._log.read_text())

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()


@pytest.fixture(scope="session")
def _bigquery_server(emulators, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bigquery")
    rest, grpc = free_port(), free_port()
    command = [
        *(emulators / "bin" / "python", _EMULATORS / "bigquery.py"),
        *("--host", "127.0.0.1", "--port", rest, "--grpc-port", grpc),
        *("--project", _PROJECT, "--dataset", "main", "--data-dir", folder, "serve"),
    ]
    environment = {**os.environ, "HOME": str(emulators)}
    with Server(command, f"http://127.0.0.1:{rest}/", environment, folder / "log"):
        yield SimpleNamespace(rest=f"http://127.0.0.1:{rest}", grpc=f"127.0.0.1:{grpc}")


class Warehouse:
    """A BigQuery with an empty dataset.

    Attributes:
        client: client for the test's own requests.
        project: project that runs the jobs.
        dataset: ``project.dataset``.
    """

    def __init__(self, dataset):
        self.client = bigquery.Client(_PROJECT, credentials=AnonymousCredentials())
        self.project = _PROJECT
        self.dataset = f"{_PROJECT}.{dataset}"

    def load(self, name, table, **options):
        """Load an Arrow table as the table ``name`` of the dataset; return its source."""
        path = name if "." in name else f"{self.dataset}.{name}"
        file = pa.BufferOutputStream()
        pq.write_table(table, file)
        parquet = bigquery.ParquetOptions()
        parquet.enable_list_inference = True
        config = bigquery.LoadJobConfig(source_format="PARQUET", parquet_options=parquet, **options)
        self.client.load_table_from_file(pa.BufferReader(file.getvalue()), path, job_config=config).result()
        return f"bq://{path}"


@pytest.fixture
def warehouse(_bigquery_server, monkeypatch, request):
    """A BigQuery with an empty dataset."""
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", _bigquery_server.rest)
    monkeypatch.setenv("BIGQUERY_STORAGE_EMULATOR_HOST", _bigquery_server.grpc)
    warehouse = Warehouse(f"d{abs(hash(request.node.nodeid))}")
    warehouse.client.create_dataset(warehouse.dataset)
    yield warehouse
    warehouse.client.delete_dataset(warehouse.dataset, delete_contents=True)


@pytest.fixture
def returned_rows(monkeypatch):
    """BigQuery's limit on results without a destination table, here 1,000 rows; the emulator has none."""
    real = bigquery.QueryJob.result

    def result(self, *arguments, **options):
        rows = real(self, *arguments, **options)
        # Tables without a destination are in a hidden dataset.
        if rows.total_rows > 1_000 and self.destination.dataset_id.startswith("_"):
            raise exceptions.Forbidden(
                "Response too large to return. Consider specifying a destination table in your job "
                "configuration. For more details, see https://cloud.google.com/bigquery/troubleshooting-errors"
            )
        return rows

    monkeypatch.setattr(bigquery.QueryJob, "result", result)


@pytest.fixture
def relay(warehouse, _bigquery_server, monkeypatch):
    """A server between the client and the warehouse's Storage Read API, which can inject faults."""
    with ReadRelay(_bigquery_server.grpc) as relay:
        monkeypatch.setenv("BIGQUERY_STORAGE_EMULATOR_HOST", relay.address)
        yield relay


@pytest.fixture(scope="session")
def googlesql():
    """GoogleSQL's analyzer and reference implementation."""
    # Slow to import, and few tests need it.
    from tests.components.googlesql.reference import GoogleSQL

    return GoogleSQL()


@pytest.fixture(scope="session")
def _reference_server(googlesql):
    from tests.components.googlesql.server import BigQueryServer

    with BigQueryServer(googlesql) as server:
        yield server


class Reference:
    """A BigQuery that runs SQL as BigQuery does, with an empty dataset.

    Attributes:
        queries: the queries sent so far, in order; see `tests.components.googlesql.server.Query`.
        project: project that runs the jobs.
        dataset: ``project.dataset``.
    """

    project = _PROJECT

    def __init__(self, server, dataset):
        self.queries = server.queries
        self.dataset = f"{_PROJECT}.{dataset}"
        self._tables = server.tables

    def load(self, name, table):
        """Make an Arrow table the table ``name`` of the dataset; return its source."""
        path = name if "." in name else f"{self.dataset}.{name}"
        # pandas has another type of text.
        fields = [(f.name, pa.string() if pa.types.is_large_string(f.type) else f.type) for f in table.schema]
        self._tables[path] = table.cast(pa.schema(fields))
        return f"bq://{path}"


@pytest.fixture(scope="module")
def reference_of_module(_reference_server, request):
    """A BigQuery that GoogleSQL itself analyzes and runs, behind the real clients."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIGQUERY_EMULATOR_HOST", _reference_server.rest)
        patch.setenv("BIGQUERY_STORAGE_EMULATOR_HOST", _reference_server.grpc)
        yield Reference(_reference_server, f"d{abs(hash(request.node.nodeid))}")


@pytest.fixture
def reference(_reference_server, monkeypatch, request):
    """The same for a single test."""
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", _reference_server.rest)
    monkeypatch.setenv("BIGQUERY_STORAGE_EMULATOR_HOST", _reference_server.grpc)
    _reference_server.queries.clear()
    return Reference(_reference_server, f"d{abs(hash(request.node.nodeid))}")


@pytest.fixture
def bucket(emulators, tmp_path, monkeypatch):
    """The empty Cloud Storage bucket ``gs://bucket``."""
    (server,) = emulators.rglob("fake-gcs-server-linux-amd64")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [server, *("-scheme", "http", "-host", "127.0.0.1", "-port", port, "-backend", "memory")]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    # If enabled, gcsfs sends requests that the emulator does not support, and waits.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    with Server(command, f"{address}/storage/v1/b", dict(os.environ), tmp_path / "log"):
        yield storage.Client(_PROJECT, AnonymousCredentials()).create_bucket("bucket")


@pytest.fixture(scope="session")
def _s3_server(emulators, tmp_path_factory):
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [emulators / "bin" / "python", _EMULATORS / "s3.py", port]
    with Server(command, address, dict(os.environ), tmp_path_factory.mktemp("s3") / "log"):
        yield address


@pytest.fixture
def s3_bucket(_s3_server, monkeypatch):
    """The empty bucket ``s3://bucket``: its store, with which to fill it."""
    urllib.request.urlopen(f"{_s3_server}/moto-api/reset", b"").close()
    environment = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_ENDPOINT_URL": _s3_server,
        "AWS_REGION": "eu-west-1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    store = S3FileSystem(
        allow_bucket_creation=True,
        region="eu-west-1",
        scheme="http",
        endpoint_override=_s3_server.removeprefix("http://"),
    )
    store.create_dir("bucket")
    return store
