"""Checks of the places on Google Cloud that a model is delivered to, and of the webhook's secret."""

from collections.abc import Mapping
from typing import Any

import requests
from google.auth.credentials import Credentials
from google.auth.transport.requests import AuthorizedSession

from components import secret_manager
from components.answers import bounded
from components.deliver.bigquery_options import dataset_of
from components.deliver.vertex import VertexRegistry
from components.deliver.vertex_endpoint import VertexEndpoint
from components.deliver.vertex_names import model_of
from pipeline.platforms.findings import Findings
from pipeline.platforms.google.answers import Answer, typed
from pipeline.platforms.google.rights import BIGQUERY, ONCE, STORAGE, check_rights, google_errors
from pipeline.platforms.registries import check_champion
from trainer.errors import InputError, WalsError

# A pointer is replaced, for which Cloud Storage requires the right to delete.
_REGISTRY_RIGHTS = tuple(f"storage.objects.{right}" for right in ("create", "delete", "get", "list"))
_LOOK_UP = "storage.buckets.get"


class _SecretVersion(Answer):
    state: str


def is_delivered_on_google_cloud(parameters: Mapping[str, Any]) -> bool:
    """Return whether a run delivers to a place on Google Cloud, or reads a secret there."""
    named = any(parameters.get(name) for name in ("destination", "vertex_model", "webhook_secret"))
    return named or parameters.get("registry", "").startswith("gs://")


def look_for_deliveries(credentials: Credentials, parameters: Mapping[str, Any], findings: Findings) -> None:
    """Note if a place that a model is delivered to, a permission on it, or the webhook's secret is missing.

    Args:
        credentials: credentials of the user.
        parameters: parameters of the pipeline, without those that are known to be invalid.
        findings: findings to add to.
    """
    registry = parameters.get("registry", "")
    if registry.startswith("gs://"):
        with findings.noted(), google_errors("registry", registry, "roles/storage.objectUser", STORAGE):
            _check_registry(credentials, registry, parameters.get("vertex_model", ""))
    destination = parameters.get("destination", "")
    if destination:
        roles = "roles/bigquery.dataEditor and roles/bigquery.jobUser"
        with findings.noted(), google_errors("destination", destination, roles, BIGQUERY):
            _check_dataset(credentials, dataset_of(destination))
    model = parameters.get("vertex_model", "")
    if model:
        with findings.noted():
            # It need not exist, but must be allowed to be read.
            VertexRegistry(model).exists()
    endpoint = parameters.get("vertex_endpoint", "")
    if model and endpoint:
        with findings.noted():
            VertexEndpoint(endpoint, model).check()
    secret = parameters.get("webhook_secret", "")
    if secret:
        with (
            findings.noted(),
            google_errors("webhook_secret", secret, "roles/secretmanager.viewer", secret_manager.SERVICE),
        ):
            _check_secret(credentials, secret)


def _check_registry(credentials: Credentials, registry: str, vertex_model: str) -> None:
    from google.cloud import storage

    client = storage.Client(project="", credentials=credentials)
    bounded(client._http, STORAGE)
    bucket = client.bucket(registry.removeprefix("gs://").partition("/")[0])
    held = check_rights(bucket, "registry", registry, _REGISTRY_RIGHTS, optional=_LOOK_UP)
    check_champion(registry)
    if vertex_model and _LOOK_UP in held:
        bucket.reload(**ONCE)
        place, region = bucket.location.lower(), model_of(vertex_model).region
        if bucket.location_type == "region" and place != region:
            raise InputError(
                "registry",
                registry,
                f"is in {place}, and vertex_model in {region}",
                "give a bucket in the model's region, where Vertex AI reads the SavedModel",
            )


def _check_dataset(credentials: Credentials, dataset: str) -> None:
    """Try to create a table in a dataset, without doing it."""
    from google.cloud import bigquery

    client = bigquery.Client(project=dataset.rpartition(".")[0], credentials=credentials)
    bounded(client._http, BIGQUERY)
    location = client.get_dataset(dataset, **ONCE).location
    config = bigquery.QueryJobConfig(dry_run=True)
    sql = f"CREATE TABLE IF NOT EXISTS `{dataset}.deliveries` (version STRING, delivered TIMESTAMP)"
    client.query(sql, config, location=location, job_retry=None, **ONCE)


def _check_secret(credentials: Credentials, secret: str) -> None:
    """Look up a version of a secret, but not its text."""
    session = bounded(AuthorizedSession(credentials), secret_manager.SERVICE)  # type: ignore[no-untyped-call]
    answer = session.get(f"{secret_manager.endpoint()}/v1/{secret}")
    if answer.status_code == requests.codes.not_found:
        raise InputError("webhook_secret", secret, "does not exist", "create it with `gcloud secrets create`")
    if answer.status_code == requests.codes.forbidden:
        # Only the steps must be able to read it.
        raise WalsError(
            f"webhook_secret {secret!r}: access is denied; ask for roles/secretmanager.viewer on it"
        )
    if not answer.ok:
        raise WalsError(f"webhook_secret {secret!r}: {secret_manager.SERVICE} answers {answer.status_code}")
    state = typed(answer.content, _SecretVersion, secret_manager.SERVICE).state
    if state != "ENABLED":
        raise InputError(
            "webhook_secret", secret, f"is {state.lower()}", "enable it, or give another version"
        )
