"""CuPy, an optional dependency that is slow to import: loaded only where it is needed."""

import importlib.util
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.gpus import Gpus, Obstacle
from trainer.solvers.cache import compiled_kernels

_WITH_CUPY = "use an image built with ACCELERATOR=gpu, or pip install 'wals-pipeline[gpu]'"
RANKING = ("nvrtc", "cublas")
"""The libraries of CUDA, besides its runtime, that ranking needs."""

SOLVING = (*RANKING, "cusolver")
"""Those that training needs."""


def cupy_is_installed() -> bool:
    """Return whether CuPy is installed, without importing it."""
    return importlib.util.find_spec("cupy") is not None


def cupy() -> Any:
    """Import CuPy, with a folder for its compiled kernels where only this user may write, and return it.

    Raises:
        ImportError: it, or a library that it needs at once, is not installed.
    """
    os.environ.setdefault("CUPY_CACHE_DIR", str(Path(compiled_kernels(), "cupy")))
    # The errors that follow say in a line what its warnings say in ten.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("cupy")


def cupy_obstacle(gpus: Gpus, libraries: Sequence[str]) -> Obstacle | None:
    """Return why CuPy cannot use this machine's GPUs; None if it can.

    Args:
        gpus: result of `trainer.gpus.find_gpus`, with at least one GPU.
        libraries: libraries of CUDA that are needed: `RANKING` or `SOLVING`.
    """
    if gpus.obstacle:
        return gpus.obstacle
    if not cupy_is_installed():
        return Obstacle("CuPy is not installed", _WITH_CUPY)
    try:
        library = cupy()
    except ImportError as error:
        return Obstacle(f"CuPy cannot be loaded ({_first_line(error)})", _WITH_CUPY)
    runtime = library.cuda.runtime
    needed = runtime.runtimeGetVersion() // 1000
    if 0 < gpus.cuda[0] < needed:
        problem = f"the driver supports CUDA {gpus.cuda[0]}.{gpus.cuda[1]}, and CuPy needs {needed}"
        return Obstacle(problem, "install a newer driver")
    try:
        # CuPy loads each when it is asked for.
        for name in libraries:
            getattr(library.cuda, name)
    except (ImportError, RuntimeError) as error:
        return Obstacle(f"a library of CUDA is not installed ({_first_line(error)})", _WITH_CUPY)
    try:
        library.zeros(1)
    except runtime.CUDARuntimeError as error:
        return _refusal(error)
    except MemoryError:
        return Obstacle("it has no memory left", "end other programs that use it")
    return None


def _refusal(error: Exception) -> Obstacle:
    """Return what CUDA's refusal to use a GPU means."""
    text = _first_line(error)
    if "DevicesUnavailable" in text:
        problem = "another program has it for itself, in the exclusive compute mode"
        return Obstacle(problem, "end that program, or set the compute mode to default")
    if "InsufficientDriver" in text:
        return Obstacle(f"its driver does not fit CuPy ({text})", "install a newer driver")
    return Obstacle(f"CUDA refuses it ({text})", "check it with nvidia-smi")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
