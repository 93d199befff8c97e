"""The GPU: whether the step has one, whether its driver can be used, and what the solver makes of it."""

import ctypes
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.probe.findings import Finding, fix, ok, warning

SECONDS = 120.0
"""Longest wait for the solver: TensorFlow is slow to import, and to start a GPU."""

_ROOT = Path("/")
# Where Vertex AI and GKE mount the driver's libraries and programs.
_MOUNTED = Path("usr/local/nvidia")
_LIBRARY = "libcuda.so.1"
_FOR_GPU = ("auto", "tensorflow")
_VERSION = re.compile(r"\b\d{3}\.\d+(\.\d+)?\b")
# In a process of its own, because a driver that does not fit can also end the process.
_TRY = ("-m", "components.probe.solving")


@dataclass(frozen=True)
class Driver:
    """What the system says about its GPUs.

    Attributes:
        devices: device files of GPUs.
        names: models of GPUs, with driver and memory where ``nvidia-smi`` says so.
        version: version of the kernel's driver; "" if there is none.
    """

    devices: Sequence[str]
    names: Sequence[str]
    version: str


def driver_of(root: Path = _ROOT) -> Driver:
    """Return what the system says about its GPUs.

    Args:
        root: folder of ``dev`` and ``proc``.
    """
    devices = sorted(str(path.relative_to(root)) for path in (root / "dev").glob("nvidia[0-9]*"))
    kernel = root / "proc" / "driver" / "nvidia"
    try:
        version = _VERSION.search((kernel / "version").read_text("utf-8"))
    except OSError:
        version = None
    models = [
        line.partition(":")[2].strip()
        for file in sorted(kernel.glob("gpus/*/information"))
        for line in file.read_text("utf-8").splitlines()
        if line.startswith("Model:")
    ]
    return Driver(devices, (_queried() if devices else []) or models, version[0] if version else "")


def gpu(settings: int, solver: str, root: Path = _ROOT) -> Iterator[Finding]:
    """Compare the GPUs of the step with its settings, and ask which solver would train.

    Args:
        settings: number of GPUs in the settings.
        solver: the pipeline's parameter.
        root: folder of ``dev`` and ``proc``.
    """
    driver = driver_of(root)
    if not driver.devices:
        if settings:
            yield fix(
                "gpu", f"none, where the settings say {settings}", "ask for quota, or for nodes with GPUs"
            )
        else:
            yield ok("gpu", "none, as in the settings")
    else:
        names = ", ".join(driver.names) or f"{len(driver.devices)} devices"
        text = f"{names}, kernel driver {driver.version or 'unknown'}"
        if len(driver.devices) < settings:
            yield fix("gpu", f"{text}: fewer than the {settings} in the settings", "check the machine type")
        else:
            yield ok("gpu", text)
        yield from _library(root / _MOUNTED)
    yield from _choice(solver, bool(driver.devices))


def _library(folder: Path) -> Iterator[Finding]:
    """Load the driver's library, without which no program can use the GPU."""
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError as error:
        mounted = sorted(str(path.parent) for path in folder.glob(f"lib*/{_LIBRARY}"))
        path = os.environ.get("LD_LIBRARY_PATH", "")
        if mounted and mounted[0] not in path.split(os.pathsep):
            problem = f"{_LIBRARY} is in {mounted[0]}, which is not in LD_LIBRARY_PATH ({path or 'empty'})"
            remedy = f"build the image with LD_LIBRARY_PATH={os.pathsep.join(mounted)}"
        else:
            problem = f"{_LIBRARY} cannot be loaded: {error}"
            remedy = "let the platform mount a driver that fits into the container"
        yield fix("gpu library", problem, remedy)
    else:
        yield ok("gpu library", f"{_LIBRARY} loads")


def _choice(solver: str, has_gpu: bool) -> Iterator[Finding]:
    """Let the solver that training would choose train a tiny model."""
    check = "solver"
    try:
        program = [sys.executable, *_TRY, solver]
        result = subprocess.run(program, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        problem = f"{solver}: no answer within {SECONDS:g} s"
        yield fix(check, problem, "see whether the driver, and the image's CUDA libraries, fit the GPU")
        return
    last = (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
    chosen, on_gpu = [*result.stdout.splitlines(), "", ""][:2]
    if "ModuleNotFoundError" in last and not chosen:
        yield ok(check, f"not applicable: {last}")
    elif result.returncode:
        yield fix(check, f"{solver} cannot be used: {last}", "fix what the line says, or set solver to cg")
    elif on_gpu:
        yield ok(check, f"{solver} trains with {chosen} on {on_gpu}")
    elif has_gpu and solver in _FOR_GPU:
        problem = f"{solver} trains with {chosen} on the CPU, and the GPU stays idle"
        yield fix(check, problem, "build the image with ACCELERATOR=gpu; see the line about the library")
    elif has_gpu:
        yield warning(check, f"{solver} does not use the GPU", "set solver to auto, or accelerators to 0")
    else:
        yield ok(check, f"{solver} trains with {chosen} on the CPU")


def _queried() -> list[str]:
    """Return name, driver and memory of each GPU as ``nvidia-smi`` has them; none if it is missing."""
    program = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path=str(_ROOT / _MOUNTED / "bin"))
    if not program:
        return []
    query = [program, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        result = subprocess.run(query, capture_output=True, text=True, timeout=SECONDS / 4, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return result.stdout.strip().splitlines() if result.returncode == 0 else []
