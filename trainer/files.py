"""Artifacts on disk: folders of documented files, completed by a manifest that is written last.

A folder is an artifact only once its ``_manifest.json`` exists. Writers remove an old manifest first, write
every other file, and then put the manifest in place in one step. So a reader never mistakes a half-written
folder for a complete one, even on file systems that cannot rename folders (Cloud Storage mounts).
"""

import contextlib
import fcntl
import hashlib
import json
import math
import mmap
import os
import re
import resource
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import pydantic
from pydantic import AfterValidator, Field, StringConstraints

from trainer.errors import InputError, translated
from trainer.mounts import copy, has_room, is_mounted_bucket, upload

MANIFEST = "_manifest.json"
"""Readers of Parquet folders skip names that begin with an underscore."""

_LOCK = ".running"

# Each read ends by taking the interpreter's lock, which other threads may hold for 5 ms.
_BYTES_AT_ONCE = 16 << 20
_TEMPORARY = re.compile(r"\..+\.(?P<process>\d+)\.tmp")
_OPEN_FILES = 10_240  # the maximum on macOS
_LARGEST_MANIFEST = 256 << 20
_RESTORE = "run the step that wrote its folder again"

Later = Callable[[Callable[[], None]], object]
"""Takes the function that finishes a file, and calls it at once or in another thread."""


class Schema(NamedTuple):
    """Kind and version of an artifact; readers refuse all others.

    Attributes:
        name: name such as ``wals.matrix``.
        version: version of the layout, from 1.
    """

    name: str
    version: int


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    # The C library would keep the memory of an array for later ones, in each thread.
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    chunk = memoryview(mmap.mmap(-1, min(_BYTES_AT_ONCE, path.stat().st_size + 1), flags=private))
    with path.open("rb", buffering=0) as file:
        while length := file.readinto(chunk):
            digest.update(chunk[:length])
    return digest.hexdigest()


def check_file(path: Path, digest: str) -> None:
    """Check that a file of an artifact holds the bytes that were written.

    Args:
        path: path of the file.
        digest: SHA-256 of the file, from the manifest.

    Raises:
        InputError: it is missing, truncated or changed.
    """
    _check(path, digest, lambda: sha256(path))


def local_file(path: Path, digest: str, scratch: Path) -> Path:
    """Return a file of an artifact, checked like `check_file`, where it can be read often and in any order.

    Args:
        path: path of the file.
        digest: SHA-256 of the file, from the manifest.
        scratch: local folder for a copy. A file in a mounted bucket is copied, unless the disk is too full,
            and read only once.

    Returns:
        The path of the copy, or else ``path``.

    Raises:
        InputError: the file is missing, truncated or changed.
    """
    if not is_mounted_bucket(path.parent) or not path.exists() or not has_room(scratch, path):
        check_file(path, digest)
        return path
    descriptor, name = tempfile.mkstemp(f"-{path.name}", dir=scratch)
    os.close(descriptor)
    _check(path, digest, lambda: copy(path, Path(name)))
    return Path(name)


def _check(path: Path, digest: str, read: Callable[[], str]) -> None:
    """Raise InputError if a file cannot be read, or its SHA-256, as returned by ``read``, is another."""
    with translated(
        (OSError, lambda e: InputError("file", str(path), f"cannot be read ({e.strerror})", _RESTORE))
    ):
        actual = read()
    if actual != digest:
        raise InputError("file", str(path), "does not match the checksum in its manifest", _RESTORE)


def settle_now(settle: Callable[[], None]) -> None:
    """Finish a file at once; the default of `replacing`."""
    settle()


@contextlib.contextmanager
def replacing(path: Path, later: Later = settle_now) -> Iterator[Path]:
    """Yield a temporary path on a local disk whose file replaces ``path`` when the block succeeds.

    It is next to ``path``, and its bytes are on disk (fsync) before it is renamed, so that after a crash
    ``path`` holds either its old or its new content. For a ``path`` in a mounted bucket it is in the
    temporary folder, and is copied: nothing is read back from the bucket or renamed there. When the block
    raises, the temporary file is removed and ``path`` is untouched.

    Args:
        path: path to replace.
        later: function that is called with the function that waits for the disk and renames, or copies.
    """
    mounted = is_mounted_bucket(path.parent)
    temporary = _temporary(path) if mounted else path.with_name(f".{path.name}.{os.getpid()}.tmp")

    def settle() -> None:
        try:
            if mounted:
                upload(temporary, path)
                return
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


def _temporary(path: Path) -> Path:
    descriptor, name = tempfile.mkstemp(f"-{path.name}", "wals-")
    os.close(descriptor)
    return Path(name)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON with sorted keys, replacing ``path`` in one step."""
    with replacing(path) as temporary:
        temporary.write_bytes(_json(content))


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def make_writable(folder: Path) -> None:
    """Create ``folder`` if it does not exist, and check that it can be written to.

    Raises:
        InputError: it cannot be created or written to.
    """

    def refused(error: OSError) -> InputError:
        problem = f"cannot be written by user {os.geteuid()} ({error.strerror})"
        remedy = "give a writable folder"
        if is_mounted_bucket(folder):
            remedy = (
                "allow writing to the bucket; if it is mounted for root only, build images with RUN_AS=0:0"
            )
        return InputError("output folder", str(folder), problem, remedy)

    with translated((OSError, refused)):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}.probe"
        probe.touch()
        probe.unlink()


def remove_left_behind(folder: Path) -> None:
    """Remove the temporary files in ``folder`` (see `replacing`) whose processes no longer run."""
    for path in folder.glob(".*.tmp"):
        found = _TEMPORARY.fullmatch(path.name)
        if found and not _runs(int(found["process"])):
            path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # another user's
    return True


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to ``folder`` during the block; see `is_held`.

    Temporary files that a killed process left there are removed.

    In a mounted bucket, which has no locks, this does nothing.

    Raises:
        InputError: another process, which still runs, holds it.
    """
    if is_mounted_bucket(folder):
        yield
        return
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            problem = "is the folder of a run that has not ended"
            raise InputError("output folder", str(folder), problem, "wait for it, or give another") from error
        remove_left_behind(folder)
        yield


def is_held(folder: Path) -> bool:
    """Return whether a process holds ``folder``. It lets go at its end, even if it is killed."""
    try:
        with (folder / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def allow_open_files() -> None:
    """Raise the soft limit of open files, which is often 1,024: a few hundred shards need more.

    Memory-mapped files count as well.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def begin_artifact(folder: Path) -> None:
    """Prepare ``folder`` for writing: create it, and remove the manifest and leftovers of an earlier attempt.

    Raises:
        InputError: ``folder`` cannot be created or written to.
    """
    make_writable(folder)
    (folder / MANIFEST).unlink(missing_ok=True)
    remove_left_behind(folder)


def finish_artifact(folder: Path, schema: Schema, content: dict[str, Any]) -> None:
    """Write the manifest, which completes the artifact.

    Args:
        folder: folder that already holds the artifact's other files.
        schema: schema of the artifact.
        content: the other keys of the manifest; JSON values only.
    """
    with replacing(folder / MANIFEST) as temporary:
        temporary.write_bytes(encode_manifest(schema, content))


def encode_manifest(schema: Schema, content: dict[str, Any]) -> bytes:
    """Return the bytes of a manifest; the arguments are those of `finish_artifact`."""
    return _json({**content, "schema": schema.name, "schema_version": schema.version})


class Manifest(pydantic.BaseModel):
    """The content of a manifest. A schema whose fields are read has a model of its own, which bounds them."""

    model_config = pydantic.ConfigDict(frozen=True, strict=True)


Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ManifestModel = TypeVar("ManifestModel", bound=Manifest)


def having(*names: str) -> AfterValidator:
    """Return a validator of a mapping that must have these keys, such as digests by file."""

    def complete(mapping: dict[str, str]) -> dict[str, str]:
        for name in names:
            if name not in mapping:
                raise ValueError(f"lacks {name}")
        return mapping

    return AfterValidator(complete)


def read_manifest(folder: Path, schema: Schema, model: type[ManifestModel]) -> ManifestModel:
    """Return the manifest of the artifact in ``folder``; see `read_identified`."""
    return read_identified(folder, schema, model)[0]


def read_identified(folder: Path, schema: Schema, model: type[ManifestModel]) -> tuple[ManifestModel, str]:
    """Return the manifest of the artifact in ``folder``, and its checksum (see `identity`).

    Args:
        folder: folder of the artifact.
        schema: schema that it must have.
        model: model of the schema's fields.

    Raises:
        InputError: the folder or its manifest does not exist (not an artifact, or an unfinished one), the
            manifest is not JSON, it has another schema or version, or a field is missing or invalid.
    """
    path = folder / MANIFEST

    def missing(_: Exception) -> InputError:
        remedy = "give a folder that a finished run wrote"
        return InputError(schema.name, str(folder), f"has no {MANIFEST}", remedy)

    with translated(((FileNotFoundError, NotADirectoryError), missing)):
        if path.stat().st_size > _LARGEST_MANIFEST:
            raise InputError(schema.name, str(path), f"is larger than {_LARGEST_MANIFEST:,} bytes", _RESTORE)
        content = path.read_bytes()
    return parse_manifest(content, str(path), schema, model), hashlib.sha256(content).hexdigest()


def parse_manifest(
    content: bytes, place: str, schema: Schema, model: type[ManifestModel], remedy: str = _RESTORE
) -> ManifestModel:
    """Return the manifest that some bytes hold.

    Args:
        content: the bytes.
        place: where they are, for the error.
        schema: schema that it must have.
        model: model of the schema's fields.
        remedy: what to do if it is damaged.

    Raises:
        InputError: it is not JSON, it has another schema or version, or a field is missing or invalid.
    """

    def damaged(_: Exception) -> InputError:
        return InputError(schema.name, place, "is not valid JSON", remedy)

    with translated(((ValueError, RecursionError), damaged)):
        manifest = json.loads(content, parse_float=_finite, parse_constant=_finite)
    actual = (manifest.get("schema"), manifest.get("schema_version")) if isinstance(manifest, dict) else None
    # Other numbers and booleans may equal the version.
    if actual is None or actual != tuple(schema) or type(actual[1]) is not int:
        problem = f"is {actual}, not {tuple(schema)}"
        raise InputError(schema.name, place, problem, "give an artifact of that kind")
    try:
        return model.model_validate_json(content)
    except pydantic.ValidationError as error:
        detail = error.errors(include_url=False)[0]
        field = ".".join(map(str, detail["loc"])) or "content"
        problem = f"has an invalid {field}: {detail['msg'].removeprefix('Value error, ')}"
        raise InputError(schema.name, place, problem, remedy) from error


def _finite(text: str) -> float:
    """Return a number of a manifest; NaN and Infinity are not JSON, and 1e999 is no number of ours."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("is not finite")
    return number


def identity(schema: Schema, content: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata that identifies an artifact: checksum and schema_version.

    The checksum is the SHA-256 of the manifest, which holds the checksums of the files.

    Args:
        schema: schema of the artifact.
        content: as given to `finish_artifact`.
    """
    digest = hashlib.sha256(encode_manifest(schema, content)).hexdigest()
    return {"checksum": digest, "schema_version": schema.version}
