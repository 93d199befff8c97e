"""`wals check` of the places that a model is delivered to, and of the webhook's secret."""

import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from components.registry import open_registry
from tests.components.conftest import _s3_server, s3_bucket
from tests.components.deliver.model_server import ENDPOINT, MODEL, ModelServer, model_server
from tests.components.registry.conftest import make_parts, make_version
from tests.pipeline.conftest import Result, Wals, service_account
from tests.pipeline.serving import Call, Content, RefusedError, Route, serving
from tests.pipeline.vertex_server import BUCKET

__all__ = ["_s3_server", "s3_bucket"]

REGISTRY = f"gs://{BUCKET}/models"
SECRET = "projects/p/secrets/webhook/versions/latest"
OBJECTS = [f"storage.objects.{right}" for right in ("create", "delete", "get", "list")]
Check = Callable[..., list[str]]


def forward(call: Call) -> Content:
    """Answer as the emulator of Cloud Storage does."""
    address = f"{os.environ['EMULATOR']}{call.match.string}?{urlencode(call.query)}"
    try:
        with urllib.request.urlopen(address) as answer:
            return Content(answer.read(), answer.headers["Content-Type"])
    except urllib.error.HTTPError as error:
        raise RefusedError(error.code, error.reason) from error


@pytest.fixture
def rights(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The permissions on the bucket, which the emulator of Cloud Storage does not know."""
    bucket.blob("ratings.csv").upload_from_string("userId,movieId,rating\n")
    held = list(OBJECTS)

    def permissions(call: Call) -> Any:
        if call.match[1] != BUCKET:
            raise RefusedError(404, "The specified bucket does not exist.")
        return {"permissions": held}

    routes: list[Route] = [
        ("GET", r"/storage/v1/b/([^/]+)/iam/testPermissions", permissions),
        ("GET", r".*", forward),
    ]
    monkeypatch.setenv("EMULATOR", os.environ["STORAGE_EMULATOR_HOST"])
    with serving(routes, lambda status, text: {"error": {"code": status, "message": text}}, []) as address:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        yield held


@pytest.fixture
def check(wals: Wals, vertex_config: Path, rights: list[str]) -> Check:
    """Run `wals check` with parameters, and return the problems."""

    def run(**parameters: str) -> list[str]:
        given = {"source": f"gs://{BUCKET}/ratings.csv", **parameters}
        arguments = [text for name, value in given.items() for text in ("-p", f"{name}={value}")]
        result = wals("check", "--config", vertex_config, *arguments, "--json")
        assert result.exit_code == (2 if result.json["problems"] else 0)
        assert not any("\n" in problem for problem in result.json["problems"])
        return findings_of(result)

    return run


def findings_of(result: Result) -> list[str]:
    return [*result.json["problems"], *result.json["unchecked"]]


def fill(address: str, folder: Path) -> str:
    """Make a registry with a champion, and return its name."""
    registry, version = open_registry(address), make_version(0)
    registry.add(version, make_parts(folder))
    registry.promote(version.name, None)
    return version.name


def test_a_registry_that_is_empty_or_mounted(check: Check, bucket: Any) -> None:
    assert check(registry=REGISTRY) == [], "one that does not exist yet"
    bucket.blob("models/champion.json").upload_from_string("{")
    (problem,) = check(registry=f"/gcs/{BUCKET}/models")
    assert f"{REGISTRY}/champion.json" in problem, "the mount of Vertex AI is the bucket"


@pytest.mark.parametrize("name", [*OBJECTS])
def test_a_registry_names_the_missing_rights(check: Check, rights: list[str], name: str) -> None:
    rights.remove(name)
    found = [problem for problem in check(registry=REGISTRY) if problem.startswith("registry ")]
    assert found == [
        f"registry '{REGISTRY}': denies you access: {name} missing; ask for roles/storage.objectUser on the "
        "bucket"
    ]


def test_a_registry_in_no_bucket(check: Check) -> None:
    (problem,) = check(registry="gs://no-such-bucket/models")
    assert problem.startswith("registry 'gs://no-such-bucket/models': does not exist")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "wals.champion '{}': is not valid JSON; "),
        (
            '{"schema": "wals.champion", "schema_version": 99}',
            "wals.champion '{}': is ('wals.champion', 99), ",
        ),
    ],
)
def test_a_champion_that_is_damaged_or_of_another_schema(
    check: Check, bucket: Any, content: str, expected: str
) -> None:
    bucket.blob("models/champion.json").upload_from_string(content)
    (problem,) = check(registry=REGISTRY)
    assert problem.startswith(expected.format(f"{REGISTRY}/champion.json"))


def test_a_champion_that_is_gone(
    check: Check, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", os.environ["EMULATOR"])
        version = fill(REGISTRY, tmp_path)
    assert check(registry=REGISTRY) == []
    bucket.blob(f"models/versions/{version}/_manifest.json").delete()
    (problem,) = check(registry=REGISTRY)
    assert problem.startswith(f"version '{version}': is not in {REGISTRY}; ")


def test_the_model_to_start_from_and_the_folder_for_checkpoints(check: Check, bucket: Any) -> None:
    model, kept = f"gs://{BUCKET}/model", f"gs://{BUCKET}/kept"
    assert check(warm_start=model, checkpoint_dir=kept) == [
        f"warm_start '{model}': has no _manifest.json; give the folder of a finished model"
    ]
    bucket.blob("model/_manifest.json").upload_from_string('{"schema": "wals.matrix", "schema_version": 1}')
    (problem,) = check(warm_start=model)
    assert problem.startswith(f"wals.model '{model}/_manifest.json': is ('wals.matrix', 1), ")
    bucket.blob("model/_manifest.json").upload_from_string('{"schema": "wals.model", "schema_version": 1}')
    assert check(warm_start=model) == []
    (problem,) = check(checkpoint_dir="gs://no-such-bucket/kept")
    assert problem.startswith("checkpoint_dir 'gs://no-such-bucket/kept': does not exist")
    assert check(warm_start="champion", registry=REGISTRY) == []
    for name in ("warm_start", "checkpoint_dir"):
        assert check(**{name: "/home/me/folder"}) == [
            f"{name} '/home/me/folder': cannot be reached on vertex; give gs://BUCKET/PATH"
        ]


def test_checkpoints_on_kubeflow_need_a_folder_that_a_retry_finds(
    wals: Wals, kubeflow_config: Path, s3_bucket: Any
) -> None:
    def problems(command: str, *parameters: str) -> list[str]:
        arguments = [text for parameter in parameters for text in ("-p", parameter)]
        result = wals(
            command, "--config", kubeflow_config, "-p", "source=s3://bucket/ratings.csv", *arguments
        )
        lines = (result.stdout + result.stderr).splitlines()
        return [line for line in lines if "checkpoint_" in line or "warm_start" in line]

    for command in ("check", "submit"):
        (line,) = problems(command, "checkpoint_every=2")
        assert "checkpoint_every '2': requires checkpoint_dir on kubeflow" in line
        (line,) = problems(command, "checkpoint_every=2", "checkpoint_dir=kept")
        assert "checkpoint_dir 'kept': cannot be reached on kubeflow" in line
    for place in ("s3://bucket/kept", "/mnt/volume/kept"):
        assert problems("check", "checkpoint_every=2", f"checkpoint_dir={place}") == []
    (line,) = problems("check", "warm_start=s3://bucket/model")
    assert "warm_start 's3://bucket/model': has no _manifest.json" in line
    (line,) = problems("check", "warm_start=s3://nowhere/model")
    assert "does not exist; check the bucket, unless the steps have other keys" in line


def test_a_folder_does_not_outlive_a_run_on_vertex(check: Check) -> None:
    assert check(registry="models") == ["registry 'models': is gone after the run; give gs://BUCKET/PATH"]


def test_a_registry_in_s3(
    wals: Wals, kubeflow_config: Path, s3_bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("check", "--config", kubeflow_config, "-p", "source=ratings.csv", "--json")
    fill("s3://bucket/models", tmp_path)
    assert findings_of(wals(*arguments, "-p", "registry=s3://bucket/models")) == []
    with s3_bucket.open_output_stream("bucket/models/champion.json") as file:
        file.write(b"{")
    (problem,) = wals(*arguments, "-p", "registry=s3://bucket/models").json["problems"]
    assert problem.startswith("wals.champion 's3://bucket/models/champion.json': is not valid JSON; ")
    # Only the cluster may have the keys.
    found = wals(*arguments, "-p", "registry=s3://nowhere/models").json
    assert found["problems"] == []
    (line,) = found["unchecked"]
    assert line.startswith("registry 's3://nowhere/models': does not exist; ")
    assert line.endswith(", unless the steps have other keys")


def test_a_kubeflow_run_needs_google_credentials_only_for_what_is_there(
    wals: Wals, kubeflow_config: Path, rights: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("check", "--config", kubeflow_config, "-p", "source=ratings.csv", "--json")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    assert findings_of(wals(*arguments, "-p", "registry=/mnt/models")) == []
    (line,) = wals(*arguments, "-p", f"registry={REGISTRY}").json["unchecked"]
    assert line.startswith("no Google Cloud credentials were found")
    rights.remove("storage.objects.get")
    token: list[Route] = [("POST", "/token", lambda _: {"access_token": "token", "expires_in": 3600})]
    with serving(token, lambda _, text: text, []) as url:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(service_account(tmp_path, f"{url}/token")))
        (problem,) = wals(*arguments, "-p", f"registry={REGISTRY}").json["problems"]
    assert problem.startswith(f"registry '{REGISTRY}': denies you access: storage.objects.get missing")


def test_the_dataset_of_a_delivery(check: Check, warehouse: Any) -> None:
    assert check(destination=f"bq://{warehouse.dataset}") == []
    assert list(warehouse.client.list_tables(warehouse.dataset)) == [], "nothing is created"
    (problem,) = check(destination=f"bq://{warehouse.project}.nowhere")
    assert problem.startswith(f"destination 'bq://{warehouse.project}.nowhere': does not exist")


@pytest.mark.parametrize(
    ("path", "status", "reported"),
    [
        (
            r"/bigquery/v2/projects/my-project/datasets/d",
            403,
            "denies you access; ask for roles/bigquery.dataEditor",
        ),
        (
            r"/bigquery/v2/projects/my-project/(jobs|queries)",
            403,
            "ask for roles/bigquery.dataEditor and roles/bigquery.j",
        ),
        (r"/bigquery/v2/projects/my-project/datasets/d", 500, "could not be checked (500"),
    ],
)
def test_a_dataset_where_no_tables_may_be_created(
    check: Check, monkeypatch: pytest.MonkeyPatch, path: str, status: int, reported: str
) -> None:
    def refuse(_: Call) -> Any:
        raise RefusedError(status, "Permission bigquery.tables.create denied")

    dataset = {"datasetReference": {"projectId": "my-project", "datasetId": "d"}, "location": "EU"}
    routes: list[Route] = [
        ("GET", path, refuse),
        ("POST", path, refuse),
        ("GET", "/bigquery/v2/projects/my-project/datasets/d", lambda _: dataset),
    ]
    with serving(routes, lambda status, text: {"error": {"code": status, "message": text}}, []) as address:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", address)
        (problem,) = check(destination="bq://my-project.d")
    assert problem.startswith("destination 'bq://my-project.d'")
    assert reported in problem


@pytest.fixture
def models(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """A Model Registry without models, and an endpoint."""
    with model_server(bucket) as (server, address):
        monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM", address)
        yield server


PLACES = {
    "registry": REGISTRY,
    "export_saved_model": "true",
    "vertex_model": MODEL,
    "vertex_endpoint": ENDPOINT,
}


def test_a_model_and_an_endpoint_of_vertex(check: Check, models: ModelServer) -> None:
    assert check(**PLACES) == []
    assert [call.split(" ")[0] for call in models.calls] == ["GET", "GET"], "nothing is written"
    models.endpoint = None
    (problem,) = check(**PLACES)
    assert problem.startswith(f"vertex_endpoint '{ENDPOINT}': does not exist; create it with")


@pytest.mark.parametrize(("name", "end"), [("vertex_model", "shop"), ("vertex_endpoint", "endpoints/4711")])
def test_a_closed_model_or_endpoint(check: Check, models: ModelServer, name: str, end: str) -> None:
    models.refusals[end] = 403
    assert check(**PLACES) == [f"{name} '{PLACES[name]}': denies you access; ask for roles/aiplatform.user"]


def test_a_registry_far_from_the_model(
    check: Check, models: ModelServer, rights: list[str], bucket: Any
) -> None:
    rights.append("storage.buckets.get")
    bucket.reload()
    (problem,) = check(**PLACES)
    assert problem.startswith(f"registry '{REGISTRY}': is in us-central1, and vertex_model in europe-west1; ")


@pytest.mark.parametrize(
    ("answer", "reported"),
    [
        ({"name": SECRET, "state": "ENABLED"}, ""),
        ({"name": SECRET, "state": "DISABLED"}, "is disabled; enable it, or give another version"),
        (RefusedError(404, "no"), "does not exist; create it with `gcloud secrets create`"),
        (RefusedError(403, "no"), "access is denied; ask for roles/secretmanager.viewer on it"),
        (RefusedError(500, "no"), "Secret Manager answers 500"),
        ("<html>", "Secret Manager: returned an unexpected response"),
    ],
)
def test_the_secret_of_the_webhook_is_looked_up_but_never_read(
    check: Check, monkeypatch: pytest.MonkeyPatch, answer: Any, reported: str
) -> None:
    def give(_: Call) -> Any:
        if isinstance(answer, RefusedError):
            raise answer
        return answer

    calls: list[str] = []
    routes: list[Route] = [("GET", f"/v1/{SECRET}", give)]
    with serving(routes, lambda _, text: {"error": text}, calls) as address:
        monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER", address)
        found = check(webhook_secret=SECRET)
    assert calls == [f"GET /v1/{SECRET}"]
    assert len(found) == bool(reported)
    assert all(reported in line for line in found)
