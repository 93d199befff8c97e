"""NumPy arrays as files of artifacts."""

import hashlib
import io
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
