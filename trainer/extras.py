"""TensorFlow, which is an optional dependency and slow to import: only when it is needed."""

import importlib.util
import os
from pathlib import Path
from typing import Any

from trainer.errors import InputError

# Made by the drivers of NVIDIA, of AMD, and of Windows' Linux subsystem.
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def tensorflow_is_installed() -> bool:
    """Tell whether `tensorflow` would succeed, without importing it."""
    return importlib.util.find_spec("tensorflow") is not None


def tensorflow() -> Any:
    """Import TensorFlow and return it.

    Raises:
        InputError: it is not installed.
    """
    if not tensorflow_is_installed():
        raise InputError("tensorflow", None, "is not installed", "pip install 'wals-pipeline[tensorflow]'")
    # What it logs about a machine without a GPU is nothing that went wrong; what does go wrong is raised.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow

    return tensorflow


def tensorflow_sees_gpu() -> bool:
    """Tell whether TensorFlow is installed and finds a GPU.

    A machine without a GPU's driver is told at once, without the seconds that importing TensorFlow takes.
    """
    if not tensorflow_is_installed() or not any(Path(device).exists() for device in _GPU_DEVICES):
        return False
    return bool(tensorflow().config.list_physical_devices("GPU"))
