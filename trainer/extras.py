"""TensorFlow, an optional dependency that takes seconds to import: loaded only where it is needed."""

import importlib.util
import os
from pathlib import Path
from typing import Any

from trainer.errors import InputError

# Created by the drivers of NVIDIA, AMD and the Windows Subsystem for Linux.
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def tensorflow_is_installed() -> bool:
    """Return whether TensorFlow is installed, without importing it."""
    return importlib.util.find_spec("tensorflow") is not None


def tensorflow() -> Any:
    """Import TensorFlow and return it.

    Raises:
        InputError: it is not installed.
    """
    if not tensorflow_is_installed():
        raise InputError("tensorflow", None, "is not installed", "pip install 'wals-pipeline[tensorflow]'")
    # Its log messages about a missing GPU are harmless, and real failures raise.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow

    return tensorflow


def tensorflow_sees_gpu() -> bool:
    """Return whether TensorFlow is installed and finds a GPU.

    Without a GPU driver the answer is immediate, as TensorFlow is not imported.
    """
    if not tensorflow_is_installed() or not any(Path(device).exists() for device in _GPU_DEVICES):
        return False
    return bool(tensorflow().config.list_physical_devices("GPU"))
