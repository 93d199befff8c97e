"""Opening a store by its address."""

import re

from components.registry.stores import Store
from trainer.errors import InputError

_BUCKET = re.compile(r"[\w.-]+", re.ASCII)


def open_store(field: str, address: str) -> Store:
    """Return a folder of a bucket, which need not exist yet.

    Args:
        field: option that gave the address, for errors.
        address: ``gs://BUCKET/PATH``, ``s3://BUCKET/PATH`` or ``minio://BUCKET/PATH``.

    Raises:
        InputError: it is not such an address.
        WalsError: there are no credentials.
    """
    scheme, _, path = address.partition("://")
    bucket, _, folder = path.partition("/")
    folder = folder.strip("/")
    if not _BUCKET.fullmatch(bucket):
        raise InputError(
            field, address, f"is not a valid {field}", "give a folder, gs://BUCKET or s3://BUCKET"
        )
    # Their clients are slow to import.
    if scheme == "gs":
        from components.registry.cloud_storage import CloudStorage

        return CloudStorage(address, bucket, folder, field)
    from components.registry.s3 import S3

    return S3(address, bucket, folder, field)
