"""What a folder for artifacts allows, and how fast it is: a mounted bucket is not a disk."""

import errno
import mmap
import os
import stat
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from components.probe.findings import Finding, fix, ok, warning

_CHUNK = 4 << 20
_SLOW = 20 * 10**6
"""Reading speed, in bytes per second, below which training mostly waits for its matrices."""

_SMALL_FILES, _SMALL_SECONDS = 30, 5.0

_MARKER = "_attempt"


@dataclass(frozen=True)
class Speed:
    """How fast a folder is, in bytes per second.

    Attributes:
        write: of writing a file until it is on disk and closed.
        read: of reading the same file, mapped into memory.
        files: small files that are written per second.
    """

    write: float
    read: float
    files: float

    def __str__(self) -> str:
        """Return the speeds in MB and files per second."""
        bytes_at = f"writes {self.write / 1e6:.0f} MB/s, reads a mapped file at {self.read / 1e6:.0f} MB/s"
        return f"{bytes_at}, writes {self.files:.0f} small files/s"


def artifact_folder(folder: Path, size: int, seconds: float) -> Iterator[Finding]:
    """Do in a step's output folder what steps do there.

    Args:
        folder: folder of an artifact; created if missing.
        size: bytes of the file to write.
        seconds: time after which to stop writing it, and after which to stop reading it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        measured = speed(folder, size, seconds)
        mode, owner = _written_as(folder)
    except OSError as error:
        yield fix("artifacts", f"{_kind(folder)}: {error.strerror or error}", _remedy(folder, error))
        return
    able = f"writes, syncs, renames and maps files, of uid {owner} and mode {mode:o}"
    yield ok("artifacts", f"{_kind(folder)}: {able}")
    if measured.read < _SLOW:
        minutes = 10**10 / measured.read / 60
        yield warning(
            "artifact speed",
            f"{measured}: 10 GB take {minutes:.0f} minutes",
            "use a bucket in the region of the run, and a machine with more network",
        )
    else:
        yield ok("artifact speed", str(measured))
    # Nothing that steps need: the answer explains what other tools may stumble over.
    extras = {
        "rename folders": _can(lambda: _rename_folder(folder)),
        "hard links": _can(lambda: _link(folder)),
        "chmod": _can(lambda: _chmod(folder)),
    }
    yield ok("artifact extras", ", ".join(f"{name} {'yes' if can else 'no'}" for name, can in extras.items()))


def attempt(folder: Path) -> Iterator[Finding]:
    """Look for what an earlier attempt of the same step left in the folder, and leave something there.

    Args:
        folder: folder of an artifact; created if missing.
    """
    marker = folder / _MARKER
    try:
        earlier = marker.read_text("utf-8") if marker.exists() else ""
        folder.mkdir(parents=True, exist_ok=True)
        marker.write_text(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "utf-8")
    except OSError as error:
        yield fix("attempt", f"cannot leave anything for a retry ({error.strerror})", _remedy(folder, error))
        return
    if earlier:
        yield ok("attempt", f"sees what an attempt left at {earlier}, so a retry can resume")
    else:
        yield ok("attempt", "the first one, or a retry that sees nothing of the one before")


def speed(folder: Path, size: int, seconds: float) -> Speed:
    """Write a file, rename it, map it into memory, read it, and remove it; then write small files.

    Args:
        folder: existing folder.
        size: bytes to write.
        seconds: time after which to stop writing, and after which to stop reading.

    Raises:
        OSError: one of these is not possible, or other bytes are read than were written.
    """
    path = folder / f".{os.getpid()}.probe"
    final = path.with_suffix(".renamed")
    try:
        written, checksum, write_seconds = _write(path, size, seconds)
        path.replace(final)
        read, read_checksum, read_seconds = _read(final, seconds)
        if read == written and checksum != read_checksum:
            raise OSError(errno.EIO, "reads other bytes than were written")
    finally:
        path.unlink(missing_ok=True)
        final.unlink(missing_ok=True)
    return Speed(written / write_seconds, read / read_seconds, _small_files(folder))


def _write(path: Path, size: int, seconds: float) -> tuple[int, int, float]:
    """Return the bytes that were written, their checksum, and the seconds until they were on disk."""
    chunk = os.urandom(min(size, _CHUNK))
    begin = time.perf_counter()
    written = checksum = 0
    with path.open("wb") as file:
        while written < size and time.perf_counter() - begin < seconds:
            written += file.write(chunk)
            checksum = zlib.crc32(chunk, checksum)
        file.flush()
        os.fsync(file.fileno())
    # A mounted bucket has a file only once it is closed.
    return written, checksum, max(time.perf_counter() - begin, 1e-9)


def _read(path: Path, seconds: float) -> tuple[int, int, float]:
    """Return the bytes that were read, their checksum, and the seconds it took."""
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):
            # Else the bytes come from memory.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        begin = time.perf_counter()
        read = checksum = 0
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            while read < len(mapped) and time.perf_counter() - begin < seconds:
                chunk = mapped[read : read + _CHUNK]
                checksum = zlib.crc32(chunk, checksum)
                read += len(chunk)
    return read, checksum, max(time.perf_counter() - begin, 1e-9)


def _small_files(folder: Path) -> float:
    """Return how many small files are written per second; a matrix has six for each shard."""
    paths = [folder / f".{os.getpid()}.{number}" for number in range(_SMALL_FILES)]
    begin = time.perf_counter()
    written = 0
    try:
        for path in paths:
            path.write_bytes(b"small")
            written += 1
            if time.perf_counter() - begin > _SMALL_SECONDS:
                break
        return written / max(time.perf_counter() - begin, 1e-9)
    finally:
        for path in paths[:written]:
            path.unlink(missing_ok=True)


def _written_as(folder: Path) -> tuple[int, int]:
    """Return the mode and the owner that a new file gets."""
    path = folder / f".{os.getpid()}.mode"
    try:
        path.touch()
        status = path.stat()
    finally:
        path.unlink(missing_ok=True)
    return stat.S_IMODE(status.st_mode), status.st_uid


def _can(do: Callable[[], object]) -> bool:
    try:
        do()
    except OSError:
        return False
    return True


def _rename_folder(folder: Path) -> None:
    before, after = folder / f".{os.getpid()}.before", folder / f".{os.getpid()}.after"
    before.mkdir()
    try:
        (before / "file").write_text("content", "utf-8")
        before.rename(after)
    finally:
        for place in (before, after):
            (place / "file").unlink(missing_ok=True)
            if place.exists():
                place.rmdir()


def _link(folder: Path) -> None:
    path, link = folder / f".{os.getpid()}.file", folder / f".{os.getpid()}.link"
    path.touch()
    try:
        link.hardlink_to(path)
    finally:
        link.unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def _chmod(folder: Path) -> None:
    path = folder / f".{os.getpid()}.file"
    path.touch()
    try:
        path.chmod(0o600)
        if stat.S_IMODE(path.stat().st_mode) != 0o600:
            raise OSError(errno.EPERM, "is ignored")
    finally:
        path.unlink(missing_ok=True)


def _kind(folder: Path) -> str:
    """Return what kind of place a folder is, which is the same for all steps."""
    return "the bucket under /gcs" if _is_mounted(folder) else "the artifact folder"


def _is_mounted(folder: Path) -> bool:
    return folder.parts[:2] == ("/", "gcs")


def _remedy(folder: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "give the step more disk"
    if _is_mounted(folder):
        return "give the account roles/storage.objectUser on the bucket of the pipeline root"
    return f"let uid {os.geteuid()} write there"
