"""Putting compiled pipelines into Artifact Registry and Cloud Storage, under names made from their bytes."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import requests
from google.auth.credentials import Credentials

from pipeline.backends import REQUEST_SECONDS, Uploaded
from trainer.errors import WalsError
from trainer.files import sha256


def upload_to_registry(
    repository: str, credentials: Credentials, spec: Path, name: str, tags: Sequence[str]
) -> Uploaded:
    """Upload a compiled pipeline to a KFP repository of Artifact Registry.

    Args:
        repository: ``https://REGION-kfp.pkg.dev/PROJECT/REPOSITORY``.
        credentials: that may write to it.
        spec: the compiled pipeline.
        name: of the pipeline, which is the package's.
        tags: moved to this version, also when it was there before.

    Returns:
        The version ``sha256:…`` and its address, which Vertex AI takes as a template.

    Raises:
        WalsError: the repository cannot be reached, or refuses.
    """
    from kfp.registry import RegistryClient

    version = f"sha256:{sha256(spec)}"
    with _uploading(repository):
        client = RegistryClient(repository, auth=credentials if credentials.token else None)
        created = not _exists(client.get_version, name, version)
        if created:
            _, version = client.upload_pipeline(str(spec), tags=list(tags))
        else:
            for tag in tags:
                set_tag = client.update_tag if _exists(client.get_tag, name, tag) else client.create_tag
                set_tag(name, version=version, tag=tag)
    return Uploaded(f"{repository.rstrip('/')}/{name}/{version}", version, created)


def upload_to_bucket(pipeline_root: str, credentials: Credentials, spec: Path, name: str) -> Uploaded:
    """Upload a compiled pipeline to ``PIPELINE_ROOT/templates/NAME/SHA256.yaml``.

    Raises:
        WalsError: the bucket is not there, cannot be reached, or refuses.
    """
    from google.api_core import exceptions
    from google.cloud import storage

    version = sha256(spec)
    bucket, _, folder = pipeline_root.removeprefix("gs://").partition("/")
    path = "/".join(part for part in (folder.strip("/"), "templates", name, f"{version}.yaml") if part)
    location = f"gs://{bucket}/{path}"
    with _uploading(f"gs://{bucket}"):
        client = storage.Client(project="", credentials=credentials)
        try:
            # Made only if it is not there yet, by the server's own check.
            client.bucket(bucket).blob(path).upload_from_filename(
                str(spec),
                content_type="application/yaml",
                if_generation_match=0,
                timeout=REQUEST_SECONDS,
                retry=None,
            )
        except exceptions.PreconditionFailed:
            return Uploaded(location, version, created=False)
    return Uploaded(location, version, created=True)


def _exists(get: Callable[[str, str], Any], package: str, part: str) -> bool:
    try:
        get(package, part)
    except requests.HTTPError as error:
        if error.response.status_code == requests.codes.not_found:
            return False
        raise
    return True


@contextlib.contextmanager
def _uploading(place: str) -> Iterator[None]:
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError

    try:
        yield
    except requests.HTTPError as error:
        answer = error.response
        raise WalsError(f"{place}: answers {answer.status_code} {answer.reason}") from error
    except requests.RequestException as error:
        raise WalsError(f"{place}: cannot be reached; check the network and the address") from error
    except GoogleAPICallError as error:
        raise WalsError(f"{place}: answers {error.code}: {error.message}") from error
    except GoogleAuthError as error:
        raise WalsError(
            "no usable Google Cloud credentials were found; run `gcloud auth application-default login`"
        ) from error
