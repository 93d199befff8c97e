"""The folder of compiled kernels.

Numba runs whatever it finds there, so only this user may be able to put files into it, or to replace it. An
image brings kernels for several levels of processors, which are copied there.
"""

import atexit
import contextlib
import hashlib
import logging
import os
import shutil
import stat
import tempfile
from functools import cache
from pathlib import Path

from trainer.errors import InputError, translated
from trainer.solvers.levels import Level, best_level

PREBUILT = "WALS_KERNELS"
"""Environment variable of our images: the folder with a cache of kernels for each level."""

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_NAMED = "NUMBA_CACHE_DIR"

logger = logging.getLogger(__name__)


def prebuilt_level() -> Level | None:
    """Return the level whose kernels the image brings; None to compile for this very processor."""
    # Whoever names another processor wants kernels for that one.
    if PREBUILT not in os.environ or "NUMBA_CPU_NAME" in os.environ:
        return None
    level = best_level()
    return level if level and _prebuilt(level) else None


def compiled_kernels(level: Level | None = None) -> str:
    """Return the folder for compiled kernels of these sources.

    Numba compiles a kernel again when its own file changes, but not when another file changes whose functions
    were inlined into it. So each version of the sources gets its own folder.

    Args:
        level: from `prebuilt_level`; the folder then has copies of the image's kernels.

    Raises:
        InputError: there is no folder to write to.
    """
    name = f"{_digest()}-{level.cpu}" if level else _digest()
    folder = next(filter(None, (_private(caches, name) for caches in _caches())), None)
    if not folder and _NAMED in os.environ:
        logger.warning(
            "%s %s is not used, because others can write there or you cannot", _NAMED, _caches()[0]
        )
    folder = folder or Path(_of_this_process())
    if level and (prebuilt := _prebuilt(level)):
        _copy_missing(prebuilt, folder)
    return str(folder)


@cache
def _digest() -> str:
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]


def _prebuilt(level: Level) -> Path | None:
    """Return the image's kernels of these sources, if only root or this user could have put them there."""
    folder = Path(os.environ[PREBUILT], level.cpu, _digest()).resolve()
    return folder if folder.is_dir() and not any(map(_is_open, (folder, *folder.parents))) else None


def _copy_missing(prebuilt: Path, folder: Path) -> None:
    """Copy kernels that are not there yet; an index (.nbi) comes after the files that it names."""
    # Numba compiles whatever is missing.
    with contextlib.suppress(OSError):
        for file in sorted(prebuilt.rglob("*.nb[ci]")):
            copy = folder / file.relative_to(prebuilt)
            if not copy.exists():
                copy.parent.mkdir(mode=0o700, exist_ok=True)
                temporary = copy.with_name(f"{copy.name}.{os.getpid()}")
                shutil.copyfile(file, temporary)
                temporary.replace(copy)


def _caches() -> list[Path]:
    """Return the folders to try for compiled kernels: the user's cache, then the temporary folder."""
    if folder := os.environ.get(_NAMED):
        return [Path(folder)]
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return [folder / f"wals-kernels-{os.getuid()}" for folder in (users, Path(tempfile.gettempdir()))]


def _private(caches: Path, name: str) -> Path | None:
    """Return a folder in ``caches``, created unless it exists, if only this user can write there."""
    folder = caches / name
    try:
        caches.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        # Links may be made to point elsewhere later.
        here = folder.resolve()
        return here if _is_ours(here) and not any(map(_is_open, here.parents)) else None
    except OSError:
        return None


def _is_ours(folder: Path) -> bool:
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & _OTHERS_WRITE and os.access(folder, os.W_OK)


def _is_open(folder: Path) -> bool:
    """Return whether another user than this one and root could replace what is in a folder."""
    status = folder.stat()
    shared = bool(status.st_mode & _OTHERS_WRITE) and not status.st_mode & stat.S_ISVTX
    return shared or status.st_uid not in (os.getuid(), 0)


def _of_this_process() -> str:
    with translated(
        (
            OSError,
            lambda _: InputError(
                "TMPDIR", tempfile.gettempdir(), "cannot be written", "name a writable folder"
            ),
        )
    ):
        folder = tempfile.mkdtemp(prefix="wals-kernels-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
