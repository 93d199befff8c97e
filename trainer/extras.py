"""TensorFlow, an optional dependency that takes seconds to import: loaded only where it is needed."""

import importlib.util
import os
from typing import Any

from trainer.errors import MissingExtraError
from trainer.gpus import Gpus, Obstacle

_WITH_CUDA = "set solver to cuda, or pip install 'tensorflow[and-cuda]'"


def tensorflow_is_installed() -> bool:
    """Return whether TensorFlow is installed, without importing it."""
    return importlib.util.find_spec("tensorflow") is not None


def tensorflow() -> Any:
    """Import TensorFlow and return it.

    Raises:
        MissingExtraError: it is not installed.
    """
    if not tensorflow_is_installed():
        raise MissingExtraError("tensorflow", "tensorflow")
    # Its log messages about a missing GPU are harmless, and real failures raise.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow

    return tensorflow


def tensorflow_obstacle(gpus: Gpus) -> Obstacle | None:
    """Return why TensorFlow cannot use this machine's GPUs; None if it can.

    Args:
        gpus: result of `trainer.gpus.find_gpus`, with at least one GPU.
    """
    if gpus.obstacle:
        return gpus.obstacle
    if not tensorflow_is_installed():
        return Obstacle("TensorFlow is not installed", _WITH_CUDA)
    library = tensorflow()
    build = library.sysconfig.get_build_info()
    if not build["is_cuda_build"]:
        return Obstacle("TensorFlow is built without CUDA", _WITH_CUDA)
    needed = int(build["cuda_version"].split(".")[0])
    if 0 < gpus.cuda[0] < needed:
        problem = f"the driver supports CUDA {gpus.cuda[0]}.{gpus.cuda[1]}, and TensorFlow needs {needed}"
        return Obstacle(problem, "install a newer driver")
    # Libraries of CUDA have no kernels for later generations either.
    newest = max(int(name.split("_")[1]) // 10 for name in build["cuda_compute_capabilities"])
    lacking = [gpu.name for gpu in gpus.devices if gpu.capability[0] > newest]
    if lacking:
        problem = f"TensorFlow {library.__version__} has no kernels for {lacking[0]}"
        return Obstacle(problem, "use a GPU of an earlier generation")
    if library.config.list_physical_devices("GPU"):
        return None
    # Those that solver cuda needs do not suffice.
    if importlib.util.find_spec("nvidia") is None or importlib.util.find_spec("nvidia.cudnn") is None:
        return Obstacle("libraries of CUDA that TensorFlow needs are not installed", _WITH_CUDA)
    return Obstacle("TensorFlow finds none", "set TF_CPP_MIN_LOG_LEVEL=0 to see why")
