"""Looking whether what a run needs on Google Cloud is there and may be used by the person who asks."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import requests
from google.api_core.exceptions import BadRequest, Forbidden, GoogleAPICallError, NotFound
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError

from pipeline.backends import REQUEST_SECONDS
from pipeline.environments import Vertex
from pipeline.findings import Findings
from trainer.errors import InputError, WalsError

_BUCKET_RIGHTS = ("storage.objects.create", "storage.objects.get", "storage.objects.list")
_ONCE: dict[str, Any] = {"timeout": REQUEST_SECONDS, "retry": None}
_READERS = {"bq": "roles/bigquery.dataViewer", "gs": "roles/storage.objectViewer"}


def is_on_google_cloud(source: str) -> bool:
    """Return whether a source is in BigQuery or Cloud Storage."""
    return source.startswith(("bq://", "gs://"))


def look_for_root(platform: Vertex, credentials: Credentials, findings: Findings) -> None:
    """Note what is missing of the pipeline root's bucket, or of the rights to it."""
    from google.cloud import storage

    root = platform.pipeline_root
    client = storage.Client(project=platform.project, credentials=credentials)
    bucket = client.bucket(root.removeprefix("gs://").partition("/")[0])
    with findings.noted(), _asking("pipeline_root", root, "roles/storage.objectUser"):
        held = bucket.test_iam_permissions(list(_BUCKET_RIGHTS), **_ONCE)
        missing = [right for right in _BUCKET_RIGHTS if right not in held]
        if missing:
            raise InputError(
                "pipeline_root",
                root,
                f"is closed to you: {', '.join(missing)} missing",
                "ask for roles/storage.objectUser on the bucket",
            )


def look_for_data(credentials: Credentials, parameters: Mapping[str, Any], findings: Findings) -> None:
    """Note what is missing of the source and the staging dataset, or of the rights to them.

    Args:
        credentials: of the person who asks.
        parameters: of the pipeline, without those that are known to be bad.
        findings: get the notes.
    """
    source = parameters.get("source", "")
    if source.startswith("gs://"):
        with findings.noted(), _asking("source", source, _READERS["gs"]):
            _find_objects(credentials, source)
    elif source.startswith("bq://"):
        _look_in_bigquery(credentials, source, parameters, findings)


def _look_in_bigquery(
    credentials: Credentials, source: str, parameters: Mapping[str, Any], findings: Findings
) -> None:
    from google.cloud import bigquery

    from components.extract.names import table_of

    owner, name = table_of(source, parameters.get("data_type", ""))
    client = bigquery.Client(
        project=parameters.get("project") or owner,
        location=parameters.get("location") or None,
        credentials=credentials,
    )
    query, staging = parameters.get("query"), parameters.get("staging_dataset")
    with findings.noted():
        if query:
            with _asking("query", query, f"roles/bigquery.jobUser and {_READERS['bq']}"):
                config = bigquery.QueryJobConfig(dry_run=True)
                client.query(query, config, job_retry=None, **_ONCE)
        else:
            with _asking("source", source, _READERS["bq"]):
                _find_table(client, source, name)
    if staging:
        with findings.noted(), _asking("staging_dataset", staging, "roles/bigquery.dataEditor"):
            client.get_dataset(staging, **_ONCE)


def _find_table(client: Any, source: str, name: str) -> None:
    if not name.endswith("*"):
        client.get_table(name, **_ONCE)
        return
    dataset, _, prefix = name.rstrip("*").rpartition(".")
    if not any(table.table_id.startswith(prefix) for table in client.list_tables(dataset, **_ONCE)):
        raise InputError("source", source, "matches no table", f"name tables that are in {dataset}")


def _find_objects(credentials: Credentials, source: str) -> None:
    from google.cloud import storage

    client = storage.Client(project="", credentials=credentials)
    name, _, path = source.removeprefix("gs://").partition("/")
    if "*" in path:
        listed = client.list_blobs(name, prefix=path.partition("*")[0], match_glob=path, **_ONCE)
        # A server that knows no patterns lists more than was asked for.
        found = any(fnmatchcase(blob.name, path) for blob in listed)
    else:
        folder = f"{path.rstrip('/')}/" if path else ""
        found = bool(path) and client.bucket(name).blob(path).exists(**_ONCE)
        found = found or any(client.list_blobs(name, prefix=folder, max_results=1, **_ONCE))
    if not found:
        raise InputError("source", source, "has no objects", "check the path")


@contextlib.contextmanager
def _asking(field: str, value: str, roles: str) -> Iterator[None]:
    """Turn what Google Cloud says about a value into one line.

    Raises:
        InputError: it does not exist, is no good, or is closed to the person who asks.
        WalsError: it could not be asked.
    """
    try:
        yield
    except NotFound as error:
        raise InputError(field, value, f"does not exist: {_said(error)}", "check the name") from error
    except Forbidden as error:
        raise InputError(field, value, "is closed to you", f"ask for {roles} on it") from error
    except BadRequest as error:
        raise InputError(field, value, f"is refused: {_said(error)}", "mend it") from error
    except (GoogleAPICallError, GoogleAuthError, requests.RequestException) as error:
        raise WalsError(f"{field} {value!r} could not be asked about ({error})") from error


def _said(error: GoogleAPICallError) -> str:
    """Return what the service says, without the address that the client puts before it."""
    return re.sub(r"^[A-Z]+ http\S+: ", "", str(error.message))
