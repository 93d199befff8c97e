"""A folder in S3 or a store like it, with conditional writes (``If-Match``, ``If-None-Match``)."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from components.answers import documented
from components.limits import answered
from components.registry.stores import DOCUMENT_SECONDS, LARGEST_DOCUMENT, ChangedError, Stored, too_large
from components.s3 import endpoint
from components.threads import ordered_map
from trainer.errors import InputError, WalsError, translated

# The signature covers the bytes anyway, and older stores reject the trailers of the newer checksums.
_CONFIG = Config(
    connect_timeout=10,
    read_timeout=60,
    retries={"mode": "standard", "max_attempts": 4},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
_MISSING = {"NoSuchKey", "404"}
_NO_BUCKET = {"NoSuchBucket"}
_CHANGED = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_DENIED = {
    *("AccessDenied", "AllAccessDisabled", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken"),
    *("SignatureDoesNotMatch", "401", "403"),
}
_NO_ETAG = '"00000000000000000000000000000000"'
_PROBE = ".conditions"

T = TypeVar("T")


class S3:
    """A folder of a bucket; see `components.registry.stores.Store` for the methods."""

    folder = None

    def __init__(self, address: str, bucket: str, prefix: str, field: str) -> None:
        """Connect with the credentials that AWS' tools find: variables, profiles, and roles of the machine.

        Args:
            address: address of the folder, for errors.
            bucket: name of the bucket.
            prefix: path of the folder in it; "" for the bucket itself.
            field: option that gave the address, for errors.
        """
        self._address, self._bucket, self._prefix = address, bucket, f"{prefix}/" if prefix else ""
        self._field = field
        with self._errors():
            session = boto3.session.Session()
            self._client = session.client("s3", endpoint_url=endpoint() or None, config=_CONFIG)

    def read(self, path: str) -> Stored | None:
        """See `Store.read`."""

        def read() -> Stored | None:
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + path)
            except ClientError as error:
                if _code(error) in _MISSING:
                    return None
                raise
            with answer["Body"] as body:
                content = body.read(LARGEST_DOCUMENT + 1)
                if len(content) > LARGEST_DOCUMENT:
                    raise too_large(f"{self._address}/{path}")
                return Stored(content, answer["ETag"])

        return self._asked(read)

    def write(self, path: str, content: bytes, expected: str | None) -> str:
        """See `Store.write`."""
        self._check_conditions()
        try:
            return self._write(path, content, {"IfMatch": expected} if expected else {"IfNoneMatch": "*"})
        except _RefusedError as error:
            raise ChangedError from error

    def _check_conditions(self) -> None:
        """Refuse a store that ignores conditions, and would let two runs replace the same champion."""
        with contextlib.suppress(_RefusedError):
            self._write(_PROBE, b"", {"IfMatch": _NO_ETAG})
            raise InputError(
                self._field,
                self._address,
                "is in a store that ignores If-Match, so that runs could overwrite each other's champion",
                "use a store with conditional writes",
            )

    def _write(self, path: str, content: bytes, condition: dict[str, str]) -> str:
        def put() -> str:
            try:
                answer = self._client.put_object(
                    Bucket=self._bucket,
                    Key=self._prefix + path,
                    Body=content,
                    ContentType="application/json",
                    CacheControl="no-store",
                    **condition,
                )
            except ClientError as error:
                if _code(error) in _CHANGED | _MISSING:
                    raise _RefusedError from error
                raise
            return str(answer["ETag"])

        return self._asked(put)

    def folders(self, path: str) -> list[str]:
        """See `Store.folders`."""
        pages = self._asked(lambda: list(self._pages(f"{path}/", Delimiter="/")))
        return [entry["Prefix"].split("/")[-2] for page in pages for entry in page.get("CommonPrefixes", ())]

    def put(self, file: Path, path: str) -> None:
        """See `Store.put`."""
        with self._errors():
            self._client.upload_file(str(file), self._bucket, self._prefix + path)

    def get(self, path: str, target: Path) -> None:
        """See `Store.get`."""
        with self._errors():
            self._client.download_file(self._bucket, self._prefix + path, str(target))

    def remove(self, path: str) -> None:
        """See `Store.remove`."""

        def delete(key: str) -> None:
            self._asked(lambda: self._client.delete_object(Bucket=self._bucket, Key=key))

        delete(self._prefix + path)
        pages = self._asked(lambda: list(self._pages(f"{path}/")))
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        for _ in ordered_map(delete, keys):
            pass

    def _pages(self, path: str, **options: str) -> Iterator[Any]:
        pages = self._client.get_paginator("list_objects_v2")
        yield from pages.paginate(Bucket=self._bucket, Prefix=self._prefix + path, **options)

    def _asked(self, call: Callable[[], T]) -> T:
        """Return what a request for anything but a file returns, in the time that it has."""
        with self._errors(), documented(f"{self._field} {self._address!r}"):
            return answered(call, f"{self._field} {self._address!r}", DOCUMENT_SECONDS)

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        field, place = self._field, self._address

        def answered(error: ClientError) -> WalsError:
            code = _code(error)
            if code in _NO_BUCKET:
                return InputError(field, place, "does not exist", "check the bucket")
            if code in _MISSING:
                return InputError(field, place, "lacks a file", "restore it, or give another")
            if code in _DENIED:
                remedy = (
                    "allow s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject and s3:DeleteObject"
                )
                return InputError(field, place, f"denies you access ({code})", remedy)
            return WalsError(f"{field} {place!r}: answers {error}")

        def failed(error: Exception) -> WalsError:
            # The error of an upload hides the store's own.
            cause = error.__context__
            return (
                answered(cause)
                if isinstance(cause, ClientError)
                else WalsError(f"{field} {place!r}: {error}")
            )

        return translated(
            (ClientError, answered),
            ((BotoCoreError, Boto3Error, OSError), failed),
        )


class _RefusedError(Exception):
    """The condition of a write does not hold."""


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
