"""Looking whether what a run on Vertex AI needs is there and may be used."""

from typing import Any

import requests
from google.api_core.exceptions import Forbidden, GoogleAPICallError, NotFound
from google.auth.credentials import Credentials

from pipeline.backends import REQUEST_SECONDS
from pipeline.environments import Vertex
from trainer.errors import InputError, WalsError

_BUCKET_RIGHTS = ("storage.objects.create", "storage.objects.get", "storage.objects.list")
_ONCE: dict[str, Any] = {"timeout": REQUEST_SECONDS, "retry": None}


def bucket_problems(platform: Vertex, credentials: Credentials) -> list[InputError]:
    """Return the problem of the pipeline root's bucket, if it has one, for the person who asks.

    Raises:
        WalsError: Cloud Storage cannot be asked.
    """
    from google.cloud import storage

    name = platform.pipeline_root.removeprefix("gs://").partition("/")[0]
    client = storage.Client(project=platform.project, credentials=credentials)
    try:
        held = client.bucket(name).test_iam_permissions(list(_BUCKET_RIGHTS), **_ONCE)
    except NotFound:
        return [
            InputError(
                "pipeline_root", platform.pipeline_root, "has no such bucket", "make it, or name another"
            )
        ]
    except Forbidden:
        held = []
    except (GoogleAPICallError, requests.RequestException) as error:
        raise WalsError(f"gs://{name} cannot be asked ({error})") from error
    missing = [right for right in _BUCKET_RIGHTS if right not in held]
    if not missing:
        return []
    return [
        InputError(
            "pipeline_root",
            platform.pipeline_root,
            f"is closed to you: {', '.join(missing)} missing",
            "ask for roles/storage.objectUser on the bucket",
        )
    ]


def table_problems(platform: Vertex, credentials: Credentials, source: str) -> list[InputError]:
    """Return the problem of a BigQuery table, if it has one, for the person who asks.

    Raises:
        WalsError: BigQuery cannot be asked.
    """
    from google.cloud import bigquery

    table = source.removeprefix("bq://")
    client = bigquery.Client(project=platform.project, credentials=credentials)
    try:
        client.get_table(table, **_ONCE)
    except ValueError:
        return [InputError("source", source, "names no table", "give bq://project.dataset.table")]
    except NotFound:
        return [InputError("source", source, "does not exist", "name a table that does")]
    except Forbidden:
        return [InputError("source", source, "is closed to you", "ask for roles/bigquery.dataViewer on it")]
    except (GoogleAPICallError, requests.RequestException) as error:
        raise WalsError(f"{source} cannot be asked ({error})") from error
    return []
