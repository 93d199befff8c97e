"""Buckets that are mounted as folders by Cloud Storage FUSE, as Vertex AI mounts all of them at ``/gcs``.

Such a file system shows the content of a file when it is closed. It has no hard links and does not rename
folders. It is slow where a local disk is fast: small pieces, memory maps, and many small files.
"""

import logging
import os
import shutil
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_TYPES = ("fuse", "fuse.gcsfuse")
_COPIED_AT_ONCE = 4 << 20
_FREE_SHARE = 0.1
"""Share of the local disk that copies leave free, for the other temporary files of a step."""

logger = logging.getLogger(__name__)


def is_mounted_bucket(folder: Path) -> bool:
    """Return whether a folder, or the nearest one above it that exists, is in a mounted bucket."""
    return file_system(folder) in _TYPES


def file_system(folder: Path) -> str:
    """Return the type of the file system of a folder, such as ``ext4``; "" if the system does not tell.

    Args:
        folder: the nearest folder above it that exists counts if it does not exist.
    """
    if not _MOUNTS.exists():
        return ""
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))  # noqa: PTH110
    device = existing.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in _MOUNTS.read_text("utf-8", "surrogateescape").splitlines():
        fields, _, source = line.partition(" - ")
        if fields.split()[2] == number:
            return source.split()[0]
    return ""


def upload(source: Path, target: Path) -> None:
    """Copy a local file to a mounted bucket; if that fails, no file is left there."""
    try:
        copy(source, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def copy(source: Path, target: Path) -> str:
    """Copy a file from its start to its end, and return the SHA-256 of its bytes."""
    digest = sha256()
    with source.open("rb", buffering=0) as reader, target.open("wb") as writer:
        while chunk := reader.read(_COPIED_AT_ONCE):
            digest.update(chunk)
            writer.write(chunk)
    return digest.hexdigest()


def has_room(scratch: Path, file: Path) -> bool:
    """Return whether a copy of a file fits in a local folder; if not, a warning is logged once.

    Args:
        scratch: local folder.
        file: file in a mounted bucket.
    """
    disk = shutil.disk_usage(scratch)
    if file.stat().st_size <= disk.free - _FREE_SHARE * disk.total:
        return True
    _warn(tempfile.gettempdir())
    return False


@cache
def _warn(folder: str) -> None:
    logger.warning(
        "reading from the mounted bucket in place, which is slow: %s has too little room for copies; "
        "give the machine a larger disk",
        folder,
    )
