"""A folder in Cloud Storage, whose preconditions on an object's generation make writes conditional."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import requests
from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from components.answers import bounded, documented
from components.limits import answered
from components.registry.stores import DOCUMENT_SECONDS, LARGEST_DOCUMENT, ChangedError, Stored, too_large
from components.threads import ordered_map
from trainer.errors import InputError, WalsError, translated

_RETRY = DEFAULT_RETRY.with_timeout(30)
"""Time for which requests that fail are repeated, so that a place that cannot be reached is told soon."""

T = TypeVar("T")

_ATTEMPTS = 5
_ROLE = "ask for roles/storage.objectUser on the bucket"


class CloudStorage:
    """A folder of a bucket; see `components.registry.stores.Store` for the methods."""

    folder = None

    def __init__(self, address: str, bucket: str, prefix: str, field: str) -> None:
        """Connect with the application default credentials.

        Args:
            address: address of the folder, for errors.
            bucket: name of the bucket.
            prefix: path of the folder in it; "" for the bucket itself.
            field: option that gave the address, for errors.
        """
        self._address, self._prefix, self._field = address, f"{prefix}/" if prefix else "", field
        with self._errors():
            # The project only matters for listing and creating buckets.
            self._client = storage.Client(project="")
            # Files have no bounds, so that they need another client.
            files = storage.Client(project="", credentials=self._client._credentials)
        bounded(self._client._http, f"{field} {address!r}")
        self._bucket, self._files = self._client.bucket(bucket), files.bucket(bucket)

    def read(self, path: str) -> Stored | None:
        """See `Store.read`."""
        return self._asked(lambda: self._read(path))

    def _read(self, path: str) -> Stored | None:
        for _ in range(_ATTEMPTS):
            blob = self._bucket.get_blob(self._prefix + path, retry=_RETRY)
            if blob is None:
                # A bucket that does not exist answers the same; listing tells the two apart.
                self._list(path, max_results=1)
                return None
            if blob.size > LARGEST_DOCUMENT:
                raise too_large(f"{self._address}/{path}")
            with contextlib.suppress(exceptions.NotFound, exceptions.PreconditionFailed):
                content = blob.download_as_bytes(if_generation_match=blob.generation, retry=_RETRY)
                return Stored(content, str(blob.generation))
        raise WalsError(f"{self._field} {self._address!r}: {path} keeps changing")

    def write(self, path: str, content: bytes, expected: str | None) -> str:
        """See `Store.write`."""
        blob = self._bucket.blob(self._prefix + path)
        # Readers of public buckets would otherwise see an old champion for an hour.
        blob.cache_control = "no-store"

        def upload() -> None:
            try:
                blob.upload_from_string(
                    content,
                    content_type="application/json",
                    if_generation_match=int(expected or 0),
                    retry=_RETRY,
                )
            except exceptions.PreconditionFailed as error:
                raise ChangedError from error

        self._asked(upload)
        return str(blob.generation)

    def folders(self, path: str) -> list[str]:
        """See `Store.folders`."""

        def prefixes() -> list[str]:
            listed = self._client.list_blobs(
                self._bucket, prefix=f"{self._prefix}{path}/", delimiter="/", retry=_RETRY
            )
            return [prefix for page in listed.pages for prefix in page.prefixes]

        return [prefix.split("/")[-2] for prefix in self._asked(prefixes)]

    def put(self, file: Path, path: str) -> None:
        """See `Store.put`."""
        with self._errors():
            self._files.blob(self._prefix + path).upload_from_filename(
                str(file), checksum="crc32c", retry=_RETRY
            )

    def get(self, path: str, target: Path) -> None:
        """See `Store.get`."""
        with self._errors():
            self._files.blob(self._prefix + path).download_to_filename(
                str(target), checksum="crc32c", retry=_RETRY
            )

    def remove(self, path: str) -> None:
        """See `Store.remove`."""

        def delete(blob: Any) -> None:
            with contextlib.suppress(exceptions.NotFound):
                blob.delete(retry=_RETRY)

        def asked_to_delete(blob: Any) -> None:
            self._asked(lambda: delete(blob))

        asked_to_delete(self._bucket.blob(self._prefix + path))
        for _ in ordered_map(asked_to_delete, self._asked(lambda: self._list(f"{path}/"))):
            pass

    def _list(self, path: str, **options: Any) -> list[Any]:
        return list(
            self._client.list_blobs(self._bucket, prefix=self._prefix + path, retry=_RETRY, **options)
        )

    def _asked(self, call: Callable[[], T]) -> T:
        """Return what a request for anything but a file returns, in the time that it has."""
        with self._errors(), documented(f"{self._field} {self._address!r}"):
            return answered(call, f"{self._field} {self._address!r}", DOCUMENT_SECONDS)

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        field, place = self._field, self._address
        return translated(
            (
                exceptions.NotFound,
                lambda _: InputError(field, place, "does not exist, or lacks a file", "check the bucket"),
            ),
            (exceptions.Forbidden, lambda _: InputError(field, place, "denies you access", _ROLE)),
            (exceptions.Unauthorized, lambda _: InputError(field, place, "denies you access", _ROLE)),
            (
                exceptions.GoogleAPICallError,
                lambda error: WalsError(f"{field} {place!r}: answers {error.code}: {error.message}"),
            ),
            (
                (GoogleAuthError, exceptions.RetryError, requests.RequestException, OSError),
                lambda error: WalsError(f"{field} {place!r}: {type(error).__name__}: {error}"),
            ),
        )
