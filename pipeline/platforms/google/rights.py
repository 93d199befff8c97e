"""Checks that what a run needs on Google Cloud exists and that the user may use it."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import requests
from google.api_core.exceptions import BadRequest, Forbidden, GoogleAPICallError, NotFound
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError

from components.extract.names import ITEM_SOURCES, table_of
from pipeline.platforms.environments import Vertex
from pipeline.platforms.findings import Findings
from pipeline.platforms.google.answers import bounded
from pipeline.platforms.network import REQUEST_SECONDS
from trainer.errors import InputError, WalsError, translated

_BUCKET_RIGHTS = ("storage.objects.create", "storage.objects.get", "storage.objects.list")
ONCE: dict[str, Any] = {"timeout": REQUEST_SECONDS, "retry": None}
"""Arguments of the clients' requests, which are sent once and with a time limit."""

_READERS = {"bq": "roles/bigquery.dataViewer", "gs": "roles/storage.objectViewer"}


def is_on_google_cloud(source: str) -> bool:
    """Return whether a source is in BigQuery or Cloud Storage."""
    return source.startswith(("bq://", "gs://"))


def look_for_root(platform: Vertex, credentials: Credentials, findings: Findings) -> None:
    """Note if the pipeline root's bucket or a permission on it is missing."""
    from google.cloud import storage

    root = platform.pipeline_root
    client = storage.Client(project=platform.project, credentials=credentials)
    bounded(client._http, "Cloud Storage")
    bucket = client.bucket(root.removeprefix("gs://").partition("/")[0])
    with findings.noted(), google_errors("pipeline_root", root, "roles/storage.objectUser"):
        check_rights(bucket, "pipeline_root", root, _BUCKET_RIGHTS)


def check_rights(
    bucket: Any, field: str, value: str, rights: Sequence[str], *, optional: str = ""
) -> list[str]:
    """Check that the user has permissions on a bucket, and return those held.

    Args:
        bucket: the bucket.
        field: parameter that names it, for the error.
        value: the parameter's value.
        rights: permissions that are required.
        optional: another one to ask for.

    Raises:
        InputError: one is missing.
    """
    held: list[str] = bucket.test_iam_permissions([*rights, *filter(None, [optional])], **ONCE)
    missing = [right for right in rights if right not in held]
    if missing:
        problem = f"denies you access: {', '.join(missing)} missing"
        raise InputError(field, value, problem, "ask for roles/storage.objectUser on the bucket")
    return held


def look_for_data(credentials: Credentials, parameters: Mapping[str, Any], findings: Findings) -> None:
    """Note if a source, the staging dataset or a permission on them is missing.

    Args:
        credentials: credentials of the user.
        parameters: parameters of the pipeline, without those that are known to be invalid.
        findings: findings to add to.
    """
    for field in ("source", *ITEM_SOURCES):
        place = parameters.get(field, "")
        if place.startswith("gs://"):
            with findings.noted(), google_errors(field, place, _READERS["gs"]):
                _find_objects(credentials, field, place)
        elif place.startswith("bq://") and field == "source":
            _look_in_bigquery(credentials, place, parameters, findings)
        elif place.startswith("bq://"):
            client, name = _bigquery(credentials, place, "", parameters)
            with findings.noted(), google_errors(field, place, _READERS["bq"]):
                _find_table(client, field, place, name)


def _bigquery(
    credentials: Credentials, place: str, data_type: str, parameters: Mapping[str, Any]
) -> tuple[Any, str]:
    """Return a client for a table's project, or the one that pays, and the table's name."""
    from google.cloud import bigquery

    owner, name = table_of(place, data_type)
    client = bigquery.Client(
        project=parameters.get("project") or owner,
        location=parameters.get("location") or None,
        credentials=credentials,
    )
    bounded(client._http, "BigQuery")
    return client, name


def _look_in_bigquery(
    credentials: Credentials, source: str, parameters: Mapping[str, Any], findings: Findings
) -> None:
    from google.cloud import bigquery

    client, name = _bigquery(credentials, source, parameters.get("data_type", ""), parameters)
    query, staging = parameters.get("query"), parameters.get("staging_dataset")
    location = ""
    with findings.noted():
        if query:
            with google_errors("query", query, f"roles/bigquery.jobUser and {_READERS['bq']}"):
                config = bigquery.QueryJobConfig(dry_run=True)
                location = client.query(query, config, job_retry=None, **ONCE).location
        else:
            with google_errors("source", source, _READERS["bq"]):
                location = _find_table(client, "source", source, name)
    if staging:
        with findings.noted(), google_errors("staging_dataset", staging, "roles/bigquery.dataEditor"):
            there = client.get_dataset(staging, **ONCE).location
            if location and there and location.lower() != there.lower():
                raise InputError(
                    "staging_dataset",
                    staging,
                    f"is in {there}, and the source in {location}",
                    "give a dataset in the source's location",
                )


def _find_table(client: Any, field: str, source: str, name: str) -> str:
    """Return the location of a table, or of those that match a wildcard."""
    if not name.endswith("*"):
        return client.get_table(name, **ONCE).location or ""
    dataset, _, prefix = name.rstrip("*").rpartition(".")
    if not any(table.table_id.startswith(prefix) for table in client.list_tables(dataset, **ONCE)):
        raise InputError(field, source, "matches no table", f"give a pattern of tables in {dataset}")
    return client.get_dataset(dataset, **ONCE).location or ""


def _find_objects(credentials: Credentials, field: str, source: str) -> None:
    from google.cloud import storage

    client = storage.Client(project="", credentials=credentials)
    bounded(client._http, "Cloud Storage")
    name, _, path = source.removeprefix("gs://").partition("/")
    if "*" in path:
        listed = client.list_blobs(name, prefix=path.partition("*")[0], match_glob=path, **ONCE)
        # A server that does not support patterns lists more than the matches.
        found = any(fnmatchcase(blob.name, path) for blob in listed)
    else:
        folder = f"{path.rstrip('/')}/" if path else ""
        found = bool(path) and client.bucket(name).blob(path).exists(**ONCE)
        found = found or any(client.list_blobs(name, prefix=folder, max_results=1, **ONCE))
    if not found:
        raise InputError(field, source, "has no objects", "check the path")


def google_errors(field: str, value: str, roles: str) -> contextlib.AbstractContextManager[None]:
    """Return a context that turns Google Cloud's errors about a value into one line."""
    return translated(
        (
            NotFound,
            lambda error: InputError(field, value, f"does not exist: {_message(error)}", "check the name"),
        ),
        (Forbidden, lambda _: InputError(field, value, "denies you access", f"ask for {roles} on it")),
        (BadRequest, lambda error: InputError(field, value, f"is invalid: {_message(error)}", "fix it")),
        (
            (GoogleAPICallError, GoogleAuthError, requests.RequestException),
            lambda error: WalsError(f"{field} {value!r} could not be checked ({error})"),
        ),
    )


def _message(error: GoogleAPICallError) -> str:
    """Return the service's message without the address that the client puts before it."""
    return re.sub(r"^[A-Z]+ http\S+: ", "", str(error.message))
