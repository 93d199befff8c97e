"""Folders for temporary files. What a killed process left behind is removed by the next one."""

import contextlib
import ctypes
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_PREFIX = "wals-scratch-"
# Between its creation and its lock, a folder looks as if it were left behind.
_YOUNG_SECONDS = 60.0
# From Linux's falloc.h; Python has no function for it.
_PUNCH_HOLE_AND_KEEP_SIZE = 3


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield an empty local folder, which is removed at the end of the block."""
    root = tempfile.gettempdir()
    _remove_left_behind(root)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=root) as folder:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # It is released with the process. Where there are no locks, nothing is removed later.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Path(folder)
        finally:
            os.close(descriptor)


@cache
def _remove_left_behind(root: str) -> None:
    for folder in Path(root).glob(f"{_PREFIX}*"):
        # Others may write to the temporary folder as well.
        with contextlib.suppress(OSError):
            status = folder.lstat()
            young = time.time() - status.st_mtime < _YOUNG_SECONDS
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or young:
                continue
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def release(descriptor: int, offset: int, length: int) -> None:
    """Give back the space on disk of a part of a file that nobody reads again; does nothing where that fails.

    Args:
        descriptor: descriptor of the file, which keeps its length and reads as zeros in that part.
        offset: first byte.
        length: number of bytes.
    """
    punch = getattr(_libc(), "fallocate", None)
    if punch and length:
        punch(descriptor, _PUNCH_HOLE_AND_KEEP_SIZE, ctypes.c_int64(offset), ctypes.c_int64(length))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
