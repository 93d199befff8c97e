"""Where registries and checkpoints are kept: what each place can do, and the place on a file system."""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from trainer.errors import InputError, WalsError, translated
from trainer.files import replacing
from trainer.storage import copy_file

LARGEST_DOCUMENT = 64 << 20
"""Size in bytes above which a document is damaged, and not read into memory."""

DOCUMENT_SECONDS = 60.0
"""Longest time in which a store reads, writes, lists or removes; a file takes as long as it takes."""

_LOCK = ".lock"


class ChangedError(Exception):
    """A document was not written, because it is not the one that was expected."""


@dataclass(frozen=True)
class Stored:
    """A document as it was read.

    Attributes:
        content: its bytes.
        token: identifies this state of it, for `Store.write`.
    """

    content: bytes
    token: str


class Store(Protocol):
    """A place for files and documents. Paths are relative to its root, with ``/``.

    Errors of the place become one line: `InputError` if the user can fix it, else `WalsError`.
    """

    @property
    def folder(self) -> Path | None:
        """The root, if it is a local folder; else None."""
        ...

    def read(self, path: str) -> Stored | None:
        """Return a document, or None if it does not exist."""
        ...

    def write(self, path: str, content: bytes, expected: str | None) -> str:
        """Replace a document in one step, if nobody else has.

        Args:
            path: path of the document.
            content: its new bytes.
            expected: token of the document to replace; None if there must be none.

        Returns:
            The token of the new document.

        Raises:
            ChangedError: it is another one.
        """
        ...

    def folders(self, path: str) -> list[str]:
        """Return the names of the folders in a folder, in no particular order; none if it does not exist."""
        ...

    def put(self, file: Path, path: str) -> None:
        """Copy a local file to ``path``, replacing what is there."""
        ...

    def get(self, path: str, target: Path) -> None:
        """Copy a file to a local path whose folder exists."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file, or a folder and everything in it, if it exists."""
        ...


class LocalStore:
    """A folder of a file system, which must support ``flock`` if several machines write to it.

    Attributes:
        folder: see `Store`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, path: str) -> Stored | None:
        """See `Store.read`."""
        file = self.folder / path
        with self._errors():
            try:
                if file.stat().st_size > LARGEST_DOCUMENT:
                    raise too_large(str(file))
                content = file.read_bytes()
            except FileNotFoundError:
                return None
        return Stored(content, sha256(content).hexdigest())

    def write(self, path: str, content: bytes, expected: str | None) -> str:
        """See `Store.write`."""
        with self._errors(), self._locked():
            before = self.read(path)
            if (before.token if before else None) != expected:
                raise ChangedError
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as temporary:
                temporary.write_bytes(content)
        return sha256(content).hexdigest()

    def folders(self, path: str) -> list[str]:
        """See `Store.folders`."""
        with self._errors():
            try:
                return [entry.name for entry in (self.folder / path).iterdir() if entry.is_dir()]
            except FileNotFoundError:
                return []

    def put(self, file: Path, path: str) -> None:
        """See `Store.put`."""
        with self._errors():
            copy_file(file, self.folder / path)

    def get(self, path: str, target: Path) -> None:
        """See `Store.get`."""
        with self._errors():
            copy_file(self.folder / path, target)

    def remove(self, path: str) -> None:
        """See `Store.remove`."""
        target = self.folder / path
        with self._errors():
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK).open("a") as lock:
            # The system releases it when the process ends, however it ends.
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        place = str(self.folder)

        def refused(error: OSError) -> InputError:
            return InputError(
                "registry", place, f"cannot be used ({error.strerror})", "give a folder that you may write to"
            )

        return translated(
            ((PermissionError, NotADirectoryError, IsADirectoryError), refused),
            (OSError, lambda error: WalsError(f"registry {place!r}: {error.strerror}: {error.filename}")),
        )


def too_large(place: str) -> InputError:
    """Return the error for a document that is too large to be one."""
    return InputError(
        "registry", place, f"is larger than {LARGEST_DOCUMENT:,} bytes", "remove it, or restore the right one"
    )
