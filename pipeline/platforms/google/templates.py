"""Compiled pipelines in Artifact Registry and Cloud Storage, under names derived from their bytes."""

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import requests
import yaml
from google.auth.credentials import Credentials

from components.answers import LARGEST_ANSWER, bounded
from components.limits import CONNECT_SECONDS, TIMEOUT, answered
from pipeline.platforms.backend import Uploaded
from pipeline.platforms.google.addresses import REGISTRY_TEMPLATE
from pipeline.platforms.google.credentials import REFUSED
from trainer.errors import InputError, WalsError, translated
from trainer.files import sha256

Asked = TypeVar("Asked")

_MAX_DEPTH = 100
_BUCKET_TEMPLATE = re.compile(r"gs://([^/]+)/(.+)")


def upload_to_registry(
    repository: str, credentials: Credentials, spec: Path, name: str, tags: Sequence[str]
) -> Uploaded:
    """Upload a compiled pipeline to a KFP repository of Artifact Registry.

    Args:
        repository: ``https://REGION-kfp.pkg.dev/PROJECT/REPOSITORY``.
        credentials: credentials with write access to it.
        spec: the compiled pipeline.
        name: name of the pipeline, which is also the package's.
        tags: tags to move to this version, even if it already exists.

    Returns:
        The version ``sha256:…`` and its address, which Vertex AI takes as a template.

    Raises:
        WalsError: the repository cannot be reached, or denies access.
    """
    from kfp.registry import RegistryClient

    version = f"sha256:{sha256(spec)}"
    with _upload_errors(repository):
        client = RegistryClient(repository, auth=credentials if credentials.token else None)

        def ask(call: Callable[..., Asked], *arguments: Any, **named: Any) -> Asked:
            # The client has no time limits of its own.
            return answered(partial(call, *arguments, **named), repository)

        # The first answer is short, so this also notices soon that nothing is there.
        exists = partial(_exists, client.get_version, name, version)
        created = not answered(exists, repository, CONNECT_SECONDS)
        if created:
            _, version = ask(client.upload_pipeline, str(spec), tags=list(tags))
        else:
            for tag in tags:
                is_known = ask(_exists, client.get_tag, name, tag)
                set_tag = client.update_tag if is_known else client.create_tag
                ask(set_tag, name, version=version, tag=tag)
    return Uploaded(f"{repository.rstrip('/')}/{name}/{version}", version, created)


def upload_to_bucket(pipeline_root: str, credentials: Credentials, spec: Path, name: str) -> Uploaded:
    """Upload a compiled pipeline to ``PIPELINE_ROOT/templates/NAME/SHA256.yaml``.

    Raises:
        WalsError: the bucket does not exist, cannot be reached, or denies access.
    """
    from google.api_core import exceptions
    from google.cloud import storage

    version = sha256(spec)
    bucket, _, folder = pipeline_root.removeprefix("gs://").partition("/")
    path = "/".join(part for part in (folder.strip("/"), "templates", name, f"{version}.yaml") if part)
    location = f"gs://{bucket}/{path}"
    with _upload_errors(f"gs://{bucket}"):
        client = storage.Client(project="", credentials=credentials)
        bounded(client._http, f"gs://{bucket}")
        try:
            # The server itself checks that it does not exist yet.
            client.bucket(bucket).blob(path).upload_from_filename(
                str(spec),
                content_type="application/yaml",
                if_generation_match=0,
                timeout=TIMEOUT,
                retry=None,
            )
        except exceptions.PreconditionFailed:
            return Uploaded(location, version, created=False)
    return Uploaded(location, version, created=True)


def read_template(location: str, credentials: Credentials) -> Mapping[str, Any]:
    """Return the compiled pipeline that one of the functions above put at a location.

    Raises:
        InputError: it is not such a location, or what was there has been deleted.
        WalsError: the place cannot be reached, or denies access.
    """
    from google.api_core.exceptions import NotFound

    bucket = _BUCKET_TEMPLATE.fullmatch(location)
    if not (bucket or REGISTRY_TEMPLATE.fullmatch(location)):
        raise InputError(
            "template",
            location,
            "is neither gs://BUCKET/PATH nor https://REGION-kfp.pkg.dev/…/sha256:…",
            "give a location that `wals upload` printed",
        )
    with _upload_errors(location):
        missing = InputError("template", location, "does not exist", "upload it again, or give another")
        with translated((NotFound, lambda _: missing)):
            text = (
                _read_bucket(bucket[1], bucket[2], credentials)
                if bucket
                else _read_registry(location, credentials)
            )
    spec = _spec(text)
    if not isinstance(spec, dict) or "root" not in spec:
        raise InputError(
            "template", location, "is not a compiled pipeline", "give a location that `wals upload` printed"
        )
    return spec


def _spec(text: bytes) -> Any:
    """Return what a compiled pipeline contains; None if no compiler writes such a text."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    try:
        # Before it is loaded, since aliases stand for any number of values, and levels use up the stack.
        for event in yaml.parse(text, loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH or isinstance(event, yaml.AliasEvent):
                return None
        return yaml.load(text, loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError):
        return None


def read_object(uri: str, credentials: Credentials) -> bytes:
    """Return an object of Cloud Storage.

    Args:
        uri: ``gs://BUCKET/PATH``.
        credentials: credentials with read access to it.

    Raises:
        WalsError: it does not exist, cannot be reached, or access is denied.
    """
    bucket, _, path = uri.removeprefix("gs://").partition("/")
    with _upload_errors(uri):
        return _read_bucket(bucket, path, credentials)


def _read_bucket(bucket: str, path: str, credentials: Credentials) -> bytes:
    from google.cloud import storage

    client = storage.Client(project="", credentials=credentials)
    bounded(client._http, f"gs://{bucket}")
    blob = client.bucket(bucket).blob(path)
    # A byte more than what is read at most.
    content: bytes = blob.download_as_bytes(end=LARGEST_ANSWER, timeout=TIMEOUT, retry=None)
    return content


def _read_registry(location: str, credentials: Credentials) -> bytes:
    from google.api_core.exceptions import NotFound

    headers = {"Authorization": f"Bearer {credentials.token}"} if credentials.token else {}
    with bounded(requests.Session(), location) as session:
        answer = session.get(location, headers=headers, timeout=TIMEOUT)
    if answer.status_code == requests.codes.not_found:
        raise NotFound(location)  # type: ignore[no-untyped-call]
    answer.raise_for_status()
    return answer.content


def _exists(get: Callable[[str, str], Any], package: str, part: str) -> bool:
    try:
        get(package, part)
    except requests.HTTPError as error:
        if error.response.status_code == requests.codes.not_found:
            return False
        raise
    return True


def _upload_errors(place: str) -> contextlib.AbstractContextManager[None]:
    """Return a context that turns the errors of both stores into one line."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage.exceptions import DataCorruption

    def refused(error: requests.HTTPError) -> WalsError:
        return WalsError(f"{place}: answers {error.response.status_code} {error.response.reason}")

    return translated(
        (requests.HTTPError, refused),
        (DataCorruption, lambda _: WalsError(f"{place}: cannot be read; try again")),
        (requests.JSONDecodeError, lambda _: WalsError(f"{place}: is not a template repository")),
        (
            requests.RequestException,
            lambda _: WalsError(f"{place}: cannot be reached; check the network and the address"),
        ),
        (GoogleAPICallError, lambda error: WalsError(f"{place}: answers {error.code}: {error.message}")),
        (GoogleAuthError, lambda _: WalsError(REFUSED)),
    )
