"""Checks on Google Cloud whose answers have null or mistyped fields: used, or one line."""

import json
from functools import partial
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials

from pipeline.platforms.environments import Vertex
from pipeline.platforms.findings import Findings
from pipeline.platforms.google.deliveries import look_for_deliveries
from pipeline.platforms.google.rights import look_for_data, look_for_root
from tests.attack.changes import HOSTILE, changed, places
from tests.pipeline.serving import Call, Content, serving

pytestmark = pytest.mark.attack

PARENT = "projects/my-project/locations/europe-west1"
VERTEX = Vertex(
    target="vertex", project="my-project", region="europe-west1", pipeline_root="gs://bucket/root"
)
PERMISSIONS = [f"storage.objects.{right}" for right in ("create", "get", "list")]
RIGHTS = {"permissions": list(PERMISSIONS)}
OBJECTS = {"items": [{"name": "ratings/a.csv", "bucket": "bucket", "size": "3", "generation": "1"}]}
TABLE = {
    "tableReference": {"projectId": "my-project", "datasetId": "shop", "tableId": "ratings"},
    "location": "EU",
    "schema": {"fields": [{"name": "user", "type": "STRING"}, {"name": "item", "type": "STRING"}]},
}
TABLES = {"tables": [{"tableReference": TABLE["tableReference"]}]}
DATASET = {"datasetReference": {"projectId": "my-project", "datasetId": "shop"}, "location": "EU"}
DRY_RUN = {
    "jobReference": {"projectId": "my-project", "jobId": "7", "location": "EU"},
    "configuration": {"query": {"query": "SELECT 1"}, "dryRun": True},
    "status": {"state": "DONE"},
    "statistics": {"query": {"totalBytesProcessed": "1"}},
}
SECRET = "projects/p/secrets/webhook/versions/latest"
MODEL, ENDPOINT = f"{PARENT}/models/shop", f"{PARENT}/endpoints/7"
BUCKETS, TABLES_OF = "/storage/v1/b/bucket", "/bigquery/v2/projects/my-project/datasets/shop"
ANSWERS: dict[str, Any] = {
    f"{BUCKETS}/iam/testPermissions": RIGHTS,
    f"{BUCKETS}/o": OBJECTS,
    TABLES_OF: DATASET,
    f"{TABLES_OF}/tables": TABLES,
    f"{TABLES_OF}/tables/ratings": TABLE,
    "/bigquery/v2/projects/my-project/jobs": DRY_RUN,
    f"/v1/{SECRET}": {"state": "ENABLED"},
    f"/v1/{ENDPOINT}": {"name": ENDPOINT, "deployedModels": [{"id": "1"}], "trafficSplit": {"1": 100}},
    f"/v1/{MODEL}": {"name": MODEL},
}
QUERY = {"source": "bq://my-project", "data_type": "query", "query": "SELECT 1"}
CHECKS: list[tuple[dict[str, Any], list[str], str]] = [
    (
        {"source": "gs://bucket/ratings/*.csv"},
        [f"{BUCKETS}/iam/testPermissions", f"{BUCKETS}/o"],
        "Cloud Storage",
    ),
    (
        {**QUERY, "staging_dataset": "my-project.shop"},
        ["/bigquery/v2/projects/my-project/jobs", TABLES_OF],
        "BigQuery",
    ),
    ({"source": "bq://my-project.shop.rat*"}, [f"{TABLES_OF}/tables"], "BigQuery"),
    ({"source": "bq://my-project.shop.ratings"}, [f"{TABLES_OF}/tables/ratings"], "BigQuery"),
    ({"destination": "bq://my-project.shop"}, [TABLES_OF], "BigQuery"),
    ({"webhook_secret": SECRET}, [f"/v1/{SECRET}"], "Secret Manager"),
    ({"vertex_model": MODEL, "vertex_endpoint": ENDPOINT}, [f"/v1/{MODEL}", f"/v1/{ENDPOINT}"], "Vertex AI"),
]


@pytest.mark.parametrize(("parameters", "asked", "server"), CHECKS)
def test_an_answer_is_used_or_refused_in_one_line(
    parameters: dict[str, Any], asked: list[str], server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = dict(ANSWERS)
    routes = [
        (method, path, partial(respond, path, current)) for path in current for method in ("GET", "POST")
    ]
    with serving(routes, lambda status, text: {"error": {"code": status, "message": text}}, []) as address:
        for name in ("STORAGE_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST"):
            monkeypatch.setenv(name, address)
        for service in ("SECRETMANAGER", "AIPLATFORM"):
            monkeypatch.setenv(f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service}", address)
        assert check(parameters) == []
        lines = []
        for path in asked:
            for place in places(ANSWERS[path]):
                for value in HOSTILE:
                    current[path] = changed(ANSWERS[path], place, value)
                    lines += check(parameters)
            current[path] = ANSWERS[path]
    assert any(f"{server}: returned an unexpected response" in line for line in lines)
    assert not any("\n" in line for line in lines)


def respond(path: str, current: dict[str, Any], _: Call) -> Any:
    return Content(json.dumps(current[path]).encode(), "application/json")


def check(parameters: dict[str, Any]) -> list[str]:
    """Return the problems that checks note, and what could not be checked."""
    findings, credentials = Findings(), AnonymousCredentials()
    if parameters.get("source", "").startswith("gs://"):
        look_for_root(VERTEX, credentials, findings)
    look_for_data(credentials, {"project": "my-project", **parameters}, findings)
    look_for_deliveries(credentials, parameters, findings)
    return [*map(str, findings.problems), *findings.unchecked]
