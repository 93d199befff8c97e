"""One set of functions for files on this machine and on Cloud Storage (``gs://``)."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from trainer.errors import InputError, WalsError, missing_extra, translated
from trainer.files import MANIFEST, replacing
from trainer.mounts import is_mounted_bucket, upload
from trainer.scratch import scratch_folder

_COPIED_AT_ONCE = 16 << 20


def is_remote(path: str) -> bool:
    """Return whether ``path`` is on Cloud Storage."""
    return path.startswith("gs://")


def joined(folder: str, name: str) -> str:
    """Return the path of ``name`` in ``folder``."""
    return f"{folder.rstrip('/')}/{name}" if folder.strip("/") else f"{folder}{name}"


def exists(field: str, path: str) -> bool:
    """Return whether a file or a folder exists at ``path``.

    Args:
        field: the option that gave the path.
        path: local or remote.

    Raises:
        WalsError: Cloud Storage cannot be read.
    """
    with _storage_errors(field, path):
        return bool(_cloud_storage().exists(path)) if is_remote(path) else Path(path).exists()


@contextlib.contextmanager
def local_copy(field: str, path: str) -> Iterator[Path]:
    """Yield a local path: ``path`` itself if it is local, else a copy that lasts as long as the block.

    Args:
        field: the option that gave the path.
        path: path of a file or a folder.

    Raises:
        InputError: the remote path does not exist.
        WalsError: Cloud Storage cannot be read.
    """
    if not is_remote(path):
        yield Path(path)
        return
    with scratch_folder() as scratch:
        target = scratch / path.rstrip("/").rpartition("/")[2]
        with _storage_errors(field, path):
            filesystem = _cloud_storage()
            if filesystem.isfile(path):
                filesystem.get_file(path, str(target))
            else:
                filesystem.get(joined(path, ""), f"{target}/", recursive=True)
        yield target


def deliver(folder: Path, field: str, destination: str, last: str) -> None:
    """Copy a folder to ``destination``, replacing the files of an earlier delivery.

    The file ``last`` is removed first and copied last: while it exists, the destination is complete. So are
    the artifacts in the folder with their manifests.

    Args:
        folder: local folder, with ``last`` among its files.
        field: the option that gave the destination.
        destination: local or remote folder; its other contents stay.
        last: name of a file in ``folder``.

    Raises:
        WalsError: the destination cannot be written.
    """
    with _storage_errors(field, destination):
        store = _RemoteStore(destination) if is_remote(destination) else _LocalStore(Path(destination))
        store.remove(last)
        for entry in folder.iterdir():
            store.remove(entry.name)
        files = [path for path in folder.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: (path == folder / last, path.name == MANIFEST, path)):
            store.put(path, path.relative_to(folder).as_posix())


def copy_file(source: Path, target: Path) -> None:
    """Copy a local file, creating the folders above ``target`` and replacing it in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_mounted_bucket(target.parent):
        upload(source, target)
        return
    with replacing(target) as temporary, source.open("rb") as reader, temporary.open("wb") as writer:
        shutil.copyfileobj(reader, writer, _COPIED_AT_ONCE)


class _Store(Protocol):
    def remove(self, name: str) -> None:
        """Remove a file or a folder if it exists."""

    def put(self, path: Path, name: str) -> None:
        """Copy a local file to ``name``."""


class _LocalStore:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def remove(self, name: str) -> None:
        target = self._folder / name
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    def put(self, path: Path, name: str) -> None:
        copy_file(path, self._folder / name)


class _RemoteStore:
    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._filesystem = _cloud_storage()

    def remove(self, name: str) -> None:
        target = joined(self._folder, name)
        if self._filesystem.exists(target):
            self._filesystem.rm(target, recursive=True)

    def put(self, path: Path, name: str) -> None:
        self._filesystem.put_file(str(path), joined(self._folder, name))


def _cloud_storage() -> Any:
    import fsspec

    return fsspec.filesystem("gs")


def _storage_errors(field: str, path: str) -> contextlib.AbstractContextManager[None]:
    """Return a context that turns the failures of file systems into one line."""
    return translated(
        (FileNotFoundError, lambda _: InputError(field, path, "does not exist", "check the path")),
        (ImportError, lambda error: missing_extra(error) or WalsError(f"{path}: {error}")),
        # Cloud Storage's clients raise errors of several libraries, which share no base class.
        (Exception, lambda error: WalsError(f"{path}: {type(error).__name__}: {error}")),
    )
