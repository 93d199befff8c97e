"""The NVIDIA GPUs of this machine and whether programs can use them, found without TensorFlow or CUDA."""

import ctypes
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CUDA, _NVML = "libcuda.so.1", "libnvidia-ml.so.1"
_MOUNTED = ("usr/local/nvidia/lib64", "usr/local/nvidia/lib")
"""Where Vertex AI and GKE mount the driver's libraries."""

_TEXT = 96

Load = Callable[[str], Any]
"""Loads a shared library by name, like `ctypes.CDLL`."""


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        name: such as ``NVIDIA L4``; "" if unknown.
        memory: bytes; 0 if unknown.
        capability: CUDA compute capability, such as (8, 9); (0, 0) if unknown.
    """

    name: str = ""
    memory: int = 0
    capability: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        memory = f" ({self.memory / 2**30:.0f} GiB)" if self.memory else ""
        return f"{self.name or 'NVIDIA GPU'}{memory}"


@dataclass(frozen=True)
class Obstacle:
    """Why the GPUs cannot be used, and what to do."""

    problem: str
    remedy: str


@dataclass(frozen=True)
class Gpus:
    """The GPUs that this process was given.

    Attributes:
        devices: GPUs; empty if there are none.
        driver: version of the driver, such as ``550.90.07``; "" if unknown.
        cuda: highest version of CUDA that the driver supports; (0, 0) if unknown.
        obstacle: why no program can use them; None if programs can.
    """

    devices: tuple[Gpu, ...] = ()
    driver: str = ""
    cuda: tuple[int, int] = (0, 0)
    obstacle: Obstacle | None = None

    def __str__(self) -> str:
        kinds = Counter(map(str, self.devices))
        names = [f"{count} x {name}" if count > 1 else name for name, count in kinds.items()]
        return ", ".join([*names, *([f"driver {self.driver}"] if self.driver else [])]) or "no GPU"


def find_gpus(
    root: Path = Path("/"), environment: Mapping[str, str] = os.environ, load: Load = ctypes.CDLL
) -> Gpus:
    """Find the GPUs by their device files and the driver's libraries.

    Args:
        root: folder to look for ``dev``, ``proc`` and ``usr`` in.
        environment: ``CUDA_VISIBLE_DEVICES`` hides GPUs if it is empty or -1. ``NVIDIA_VISIBLE_DEVICES`` says
            that a container was given GPUs if it names some; "all" does not count, as images set it.
        load: loads a shared library; raises OSError if there is none.
    """
    if environment.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return Gpus()
    given = environment.get("NVIDIA_VISIBLE_DEVICES", "")
    named = 0 if given in ("", "all", "none", "void") else len(given.split(","))
    # The control file /dev/nvidiactl alone is of no use.
    files = len([path for path in (root / "dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)])
    driver, devices = _from_nvml(load)
    if not devices:
        unnamed = (Gpu(),) * (files or named)
        driver, devices = _driver_of(root), _from_proc(root)[: len(unnamed)] or unnamed
        if not files and named:
            problem = "the container has no device files /dev/nvidia*"
            remedy = "run the container with NVIDIA's container runtime"
            return Gpus(devices, driver, obstacle=Obstacle(problem, remedy))
    return Gpus(devices, driver, *_cuda(root, load)) if devices else Gpus()


def _cuda(root: Path, load: Load) -> tuple[tuple[int, int], Obstacle | None]:
    """Return the version of CUDA that the driver supports, and why its library cannot be used."""
    try:
        library = load(_CUDA)
    except OSError as error:
        for folder in _MOUNTED:
            if (root / folder / _CUDA).exists():
                problem = f"LD_LIBRARY_PATH lacks /{folder}, where the driver's library {_CUDA} is"
                return (0, 0), Obstacle(problem, f"set LD_LIBRARY_PATH=/{folder}")
        problem = f"the driver's library {_CUDA} cannot be loaded ({error})"
        return (0, 0), Obstacle(problem, "install the driver, or set LD_LIBRARY_PATH to the library's folder")
    version = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    return (version.value // 1000, version.value % 1000 // 10), None


def _from_nvml(load: Load) -> tuple[str, tuple[Gpu, ...]]:
    """Return the driver's version and the GPUs that its management library lists; ("", ()) without it."""
    try:
        library = load(_NVML)
    except OSError:
        return "", ()
    if library.nvmlInit_v2():
        return "", ()
    try:
        count = ctypes.c_uint()
        library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        driver = _text(library.nvmlSystemGetDriverVersion)
        return driver, tuple(_gpu(library, number) for number in range(count.value))
    finally:
        library.nvmlShutdown()


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def _gpu(library: Any, number: int) -> Gpu:
    device, memory = ctypes.c_void_p(), _Memory()
    if library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(number), ctypes.byref(device)):
        return Gpu()
    library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory))
    major, minor = ctypes.c_int(), ctypes.c_int()
    library.nvmlDeviceGetCudaComputeCapability(device, ctypes.byref(major), ctypes.byref(minor))
    name = _text(library.nvmlDeviceGetName, device)
    return Gpu(name, int(memory.total), (major.value, minor.value))


def _text(function: Any, *arguments: Any) -> str:
    buffer = ctypes.create_string_buffer(_TEXT)
    function(*arguments, buffer, ctypes.c_uint(_TEXT))
    return buffer.value.decode("utf-8", "replace")


def _from_proc(root: Path) -> tuple[Gpu, ...]:
    """Return the GPUs of the whole machine, which the kernel module lists by name."""
    folder = root / "proc/driver/nvidia/gpus"
    return tuple(Gpu(_matched(r"^Model:\s*(.+?)\s*$", file)) for file in sorted(folder.glob("*/information")))


def _driver_of(root: Path) -> str:
    return _matched(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", root / "proc/driver/nvidia/version")


def _matched(pattern: str, file: Path) -> str:
    """Return the group of a pattern in a file; "" if it does not match or cannot be read."""
    try:
        match = re.search(pattern, file.read_text("utf-8", "replace"), re.MULTILINE)
    except OSError:
        return ""
    return match.group(1) if match else ""
