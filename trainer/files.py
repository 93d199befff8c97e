"""Artifacts on disk: folders of documented files made whole by a manifest that is written last.

A folder is an artifact only once its ``_manifest.json`` exists. Writers remove an old manifest first,
write every other file, and then put the manifest in place in one step, so that a reader never takes a
half-written folder for a whole one, also on file systems that cannot rename folders (Cloud Storage
mounts).
"""

import contextlib
import hashlib
import json
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from trainer.errors import InputError

MANIFEST = "_manifest.json"
"""Readers of Parquet folders pass over names that begin with an underscore."""

_CHUNK = 16 << 20
"""Bytes at a time: after each the interpreter's lock has to be had again, which others may hold for 5 ms."""


class Schema(NamedTuple):
    """Kind and version of an artifact; readers refuse other versions.

    Attributes:
        name: such as ``wals.matrix``.
        version: of the layout, from 1.
    """

    name: str
    version: int


_OPEN_FILES = 10_240  # macOS takes no more
_RESTORE = "run the step that wrote its folder again"


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    chunk = memoryview(bytearray(min(_CHUNK, path.stat().st_size + 1)))
    with path.open("rb", buffering=0) as file:
        while length := file.readinto(chunk):
            digest.update(chunk[:length])
    return digest.hexdigest()


def check_file(path: Path, digest: str) -> None:
    """Make sure that a file of an artifact has the bytes that were written.

    Args:
        path: of the file.
        digest: its SHA-256, from the manifest.

    Raises:
        InputError: it is missing, truncated or changed.
    """
    try:
        whole = sha256(path) == digest
    except OSError as error:
        raise InputError("file", str(path), f"cannot be read ({error.strerror})", _RESTORE) from error
    if not whole:
        raise InputError("file", str(path), "is not what its manifest says (checksum)", _RESTORE)


@contextlib.contextmanager
def replacing(
    path: Path, later: Callable[[Callable[[], None]], object] = lambda settle: settle()
) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that becomes ``path`` when the block ends well.

    The bytes are on disk (fsync) before the rename, so that after a crash ``path`` holds either its old
    or its new content. When the block raises, the temporary file is removed and ``path`` is untouched.

    Args:
        path: to replace.
        later: is given what waits for the disk and renames, to call it now or in another thread.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")

    def settle() -> None:
        try:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    try:
        yield temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    later(settle)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON with sorted keys, replacing ``path`` in one step."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n", "utf-8")


def make_writable(folder: Path) -> None:
    """Make ``folder`` if it is not there, and make sure that it can be written.

    Raises:
        InputError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            "output folder",
            str(folder),
            f"cannot be written ({error.strerror})",
            "give a folder you may write",
        ) from error


def allow_open_files() -> None:
    """Raise the soft limit of open files, which is often 1,024: some hundred shards already need more.

    A memory-mapped file counts, too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def begin_artifact(folder: Path) -> None:
    """Make ``folder`` ready for writing: it exists, and no manifest of an earlier attempt is left.

    Raises:
        InputError: ``folder`` cannot be made or written.
    """
    make_writable(folder)
    (folder / MANIFEST).unlink(missing_ok=True)


def finish_artifact(folder: Path, schema: Schema, content: dict[str, Any]) -> None:
    """Write the manifest that makes ``folder`` a whole artifact.

    Args:
        folder: where the artifact's files already are.
        schema: of the artifact.
        content: the other keys of the manifest; JSON values only.
    """
    write_json(folder / MANIFEST, {**content, "schema": schema.name, "schema_version": schema.version})


def read_manifest(folder: Path, schema: Schema) -> dict[str, Any]:
    """Return the manifest of the artifact in ``folder``.

    Raises:
        InputError: there is no folder or no manifest (not an artifact, or one never finished), it is not
            JSON, or it is of another schema or version.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            schema.name, str(folder), f"has no {MANIFEST}", "give a folder that a finished run wrote"
        ) from error
    except ValueError as error:
        raise InputError(
            schema.name, str(path), "is not valid JSON", "run the step that wrote it again"
        ) from error
    found = (manifest.get("schema"), manifest.get("schema_version")) if isinstance(manifest, dict) else None
    if found != schema:
        raise InputError(
            schema.name, str(path), f"is {found}, not {tuple(schema)}", "give the right artifact"
        )
    return dict(manifest)


def identity(folder: Path, schema: Schema) -> dict[str, Any]:
    """Return what tells an artifact from another of its kind, as metadata: checksum and schema_version.

    The checksum is the SHA-256 of the manifest, which has those of the files.
    """
    return {"checksum": sha256(folder / MANIFEST), "schema_version": schema.version}
