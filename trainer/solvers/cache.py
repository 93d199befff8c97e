"""The folder of compiled kernels.

Numba runs whatever it finds there, so only this user may be able to put files into it, or to replace it.
"""

import atexit
import hashlib
import logging
import os
import shutil
import stat
import tempfile
from pathlib import Path

from trainer.errors import InputError, translated

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_NAMED = "NUMBA_CACHE_DIR"

logger = logging.getLogger(__name__)


def compiled_kernels() -> str:
    """Return the folder for compiled kernels of these sources.

    Numba compiles a kernel again when its own file changes, but not when another file changes whose functions
    were inlined into it. So each version of the sources gets its own folder.

    Raises:
        InputError: there is no folder to write to.
    """
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    for caches in _caches():
        if folder := _private(caches, digest):
            return str(folder)
    if _NAMED in os.environ:
        logger.warning("%s %s is not used: others can write there, or you cannot", _NAMED, _caches()[0])
    return _of_this_process()


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
