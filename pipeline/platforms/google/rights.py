"""Checks that what a run needs on Google Cloud exists and that the user may use it."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import requests
from google.api_core.exceptions import BadRequest, Forbidden, GoogleAPICallError, NotFound
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError

from components.answers import bounded, documented
from components.extract.names import ITEM_SOURCES, table_of
from components.extract.options import ExtractOptions
from components.extract.query import Request
from components.limits import REQUEST_SECONDS
from pipeline.platforms.environments import Vertex
from pipeline.platforms.findings import Findings
from trainer.errors import InputError, WalsError, translated

STORAGE, BIGQUERY = "Cloud Storage", "BigQuery"
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
    bounded(client._http, STORAGE)
    bucket = client.bucket(root.removeprefix("gs://").partition("/")[0])
    with findings.noted(), google_errors("pipeline_root", root, "roles/storage.objectUser", STORAGE):
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
            with findings.noted(), google_errors(field, place, _READERS["gs"], STORAGE):
                _find_objects(credentials, field, place)
        elif place.startswith("bq://") and field == "source":
            _look_in_bigquery(credentials, place, parameters, findings)
        elif place.startswith("bq://"):
            client, name = _bigquery(credentials, place, "", parameters)
            with findings.noted(), google_errors(field, place, _READERS["bq"], BIGQUERY):
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
    bounded(client._http, BIGQUERY)
    return client, name


def _look_in_bigquery(
    credentials: Credentials, source: str, parameters: Mapping[str, Any], findings: Findings
) -> None:
    from google.cloud import bigquery

    client, name = _bigquery(credentials, source, parameters.get("data_type", ""), parameters)
    query, staging = parameters.get("query"), parameters.get("staging_dataset")
    location = ""
    schema: Mapping[str, str] = {}
    with findings.noted():
        if query:
            with google_errors("query", query, f"roles/bigquery.jobUser and {_READERS['bq']}", BIGQUERY):
                config = bigquery.QueryJobConfig(dry_run=True)
                job = client.query(query, config, job_retry=None, **ONCE)
                location = job.location
                schema = _named({field.name: field.field_type for field in job.schema or ()})
        else:
            with google_errors("source", source, _READERS["bq"], BIGQUERY):
                location, schema = _find_table(client, "source", source, name)
    with findings.noted():
        findings.columns = _columns(schema, parameters)
    if staging:
        with (
            findings.noted(),
            google_errors("staging_dataset", staging, "roles/bigquery.dataEditor", BIGQUERY),
        ):
            there = client.get_dataset(staging, **ONCE).location
            if location and there and location.lower() != there.lower():
                raise InputError(
                    "staging_dataset",
                    staging,
                    f"is in {there}, and the source in {location}",
                    "give a dataset in the source's location",
                )


def _named(schema: Mapping[Any, Any]) -> Mapping[str, str]:
    """Return a schema whose columns have names and types, which Google's clients do not check."""
    if not all(isinstance(text, str) for column in schema.items() for text in column):
        raise TypeError("a column has no name or no type")
    return schema


def _columns(schema: Mapping[str, str], parameters: Mapping[str, Any]) -> str:
    """Return the columns of a table of ratings by role, in words; "" if they are not known.

    Raises:
        InputError: they cannot be used.
    """
    given = {name: parameters[name] for name in ExtractOptions.model_fields if name in parameters}
    try:
        request = Request(ExtractOptions(**given).with_window())
    except InputError:
        # Reported with the parameters.
        return ""
    return str(request.columns(schema)) if schema and request.is_ratings else ""


def _find_table(client: Any, field: str, source: str, name: str) -> tuple[str, Mapping[str, str]]:
    """Return the location of a table, or of those that match a wildcard, and the types of its columns."""
    from components.engines.bigquery import source_of

    if not name.endswith("*"):
        table = client.get_table(name, **ONCE)
        return table.location or "", _named(source_of(table).schema)
    dataset, _, prefix = name.rstrip("*").rpartition(".")
    if not any(table.table_id.startswith(prefix) for table in client.list_tables(dataset, **ONCE)):
        raise InputError(field, source, "matches no table", f"give a pattern of tables in {dataset}")
    return client.get_dataset(dataset, **ONCE).location or "", {}


def _find_objects(credentials: Credentials, field: str, source: str) -> None:
    from google.cloud import storage

    client = storage.Client(project="", credentials=credentials)
    bounded(client._http, STORAGE)
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


@contextlib.contextmanager
def google_errors(field: str, value: str, roles: str, server: str) -> Iterator[None]:
    """Turn Google Cloud's errors about a value into one line.

    Args:
        field: parameter that names what is checked.
        value: the parameter's value.
        roles: roles that allow it.
        server: name of the service, for answers that are not as they are documented.

    Raises:
        InputError: the value does not exist, is invalid, or access to it is denied.
        WalsError: the service cannot be reached, or its answer is not as it is documented.
    """
    with (
        documented(server),
        translated(
            (
                NotFound,
                lambda error: InputError(
                    field, value, f"does not exist: {_message(error)}", "check the name"
                ),
            ),
            (Forbidden, lambda _: InputError(field, value, "denies you access", f"ask for {roles} on it")),
            (BadRequest, lambda error: InputError(field, value, f"is invalid: {_message(error)}", "fix it")),
            (
                (GoogleAPICallError, GoogleAuthError, requests.RequestException),
                lambda error: WalsError(f"{field} {value!r} could not be checked ({error})"),
            ),
        ),
    ):
        yield


def _message(error: GoogleAPICallError) -> str:
    """Return the service's message without the address that the client puts before it."""
    return re.sub(r"^[A-Z]+ http\S+: ", "", str(error.message))
