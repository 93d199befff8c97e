"""NumPy arrays as files of artifacts."""

import contextlib
import hashlib
import io
import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.files import Later, local_file, replacing, settle_now
from trainer.scratch import scratch_folder


def save_array(path: Path, array: NDArray[Any], later: Later = settle_now) -> str:
    """Write an array as a ``.npy`` file, replacing ``path`` in one step.

    Args:
        path: path of the file.
        array: array without Python objects; written in C order.
        later: as in `trainer.files.replacing`.

    Returns:
        The SHA-256 of the file, for the manifest.
    """
    content = np.ascontiguousarray(array)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(content))
    digest = hashlib.sha256()
    with replacing(path, later) as temporary, temporary.open("wb") as file:
        for part in (header.getbuffer(), content.reshape(-1).data):
            digest.update(part)
            file.write(part)
    return digest.hexdigest()


def load_array(path: Path, digest: str) -> NDArray[Any]:
    """Memory-map a ``.npy`` file after checking its bytes.

    Of a file in a mounted bucket, a local copy is mapped, whose space is free again once the array is gone.

    Args:
        path: path of the file.
        digest: SHA-256 of the file, from the manifest.

    Raises:
        InputError: it is missing, truncated or changed.
    """
    with scratch_folder() as scratch:
        file = local_file(path, digest, scratch)
        # Copy on write, because the kernels are compiled for writable arrays.
        return np.asarray(np.load(file, mmap_mode="c", allow_pickle=False))


def unload(array: NDArray[Any]) -> None:
    """Give back the memory of a mapped array, except for pages that it shares with others.

    It is read again from its file when it is needed, in general from the system's cache. An array in memory
    of `mmap.mmap` without a file holds zeros from then on, and any other array is left as it is.

    Args:
        array: contiguous; mapped by `load_array` and not written to, or no longer needed.
    """
    memory: Any = array
    while isinstance(memory, np.ndarray):
        memory = memory.base
    if isinstance(memory, memoryview):
        memory = memory.obj
    if not isinstance(memory, mmap.mmap):
        return
    begin = array.ctypes.data - np.frombuffer(memory, np.uint8).ctypes.data
    first = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (begin + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if first < end:
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_DONTNEED, first, end - first)
