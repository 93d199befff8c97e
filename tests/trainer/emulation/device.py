"""A GPU that is none: the kernels, compiled for the CPU, with NumPy in place of CuPy.

Requires g++. `benchmarks/gpu.py --emulate` uses it too.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer import solvers
from trainer.errors import Rule
from trainer.gpus import Gpu, Gpus
from trainer.solvers.cuda import device as device_module
from trainer.solvers.cuda.device import Copies, Device, Kernels, failures

FOLDER = Path(__file__).parent
H100 = Gpus((Gpu("NVIDIA H100", 80 << 30, (9, 0)),), "580.65.06", (13, 0))

_OPTIONS = ("-std=c++17", "-O1", "-shared", "-fPIC", "-fno-stack-protector", "-U_FORTIFY_SOURCE")
_CTYPES = {np.dtype(np.int32): ctypes.c_int32, np.dtype(np.int64): ctypes.c_int64}
_CTYPES[np.dtype(np.float32)] = ctypes.c_float


# The emulator has one set of registers.
_IN_TURN = threading.Lock()


def require_compiler() -> None:
    """Skip a test without g++, or fail it where it must run."""
    if shutil.which("g++") is None:
        reason = "g++ is not installed (Debian: apt install g++)"
        (pytest.fail if os.environ.get("WALS_REQUIRE_EMULATORS") else pytest.skip)(reason)


def give(monkeypatch: pytest.MonkeyPatch, device: Device) -> None:
    """Let this machine have a GPU that can be used."""
    solvers._automatic.cache_clear()
    monkeypatch.setattr(solvers, "find_gpus", lambda: H100)
    monkeypatch.setattr(solvers, "cupy_is_installed", lambda: True)
    monkeypatch.setattr(solvers, "cupy_obstacle", lambda gpus, libraries: None)
    monkeypatch.setattr(device_module, "open_device", lambda: device)


@cache
def _library(source: str, macros: tuple[tuple[str, Any], ...]) -> Any:
    """Compile the kernels once for each process and, through a cache, for all processes of a user."""
    files = [(FOLDER / name).read_text("utf-8") for name in ("cuda_on_cpu.h", "emulator.cpp")]
    digest = hashlib.sha256("\n".join([source, *files, repr(macros), *_OPTIONS]).encode()).hexdigest()[:20]
    folder = Path(tempfile.gettempdir(), f"wals-emulation-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        folder = Path(tempfile.mkdtemp())
    library = folder / f"{digest}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as work:
            kernels = Path(work, "kernels.cu")
            kernels.write_text(source, "utf-8")
            defined = [f"-D{name}={value}" for name, value in macros]
            command = [
                "g++",
                *_OPTIONS,
                "-w",
                *defined,
                f'-DKERNELS="{kernels}"',
                str(FOLDER / "emulator.cpp"),
            ]
            built = Path(work, "library.so")
            subprocess.run([*command, "-o", str(built)], check=True)
            built.replace(library)
    loaded = ctypes.CDLL(str(library))
    loaded.emulate.restype = ctypes.c_char_p
    return loaded


class _EmulatedKernels:
    def __init__(
        self,
        source: str,
        kernels: Sequence[str],
        macros: Mapping[str, int],
        *,
        backwards: bool,
        launches: int,
    ) -> None:
        run = ("RUN_KERNELS", " ".join(f"RUN({name})" for name in kernels))
        self._library = _library(source, (*sorted(macros.items()), run))
        self._backwards, self._launches = backwards, launches
        self.launched: list[str] = []

    def launch(
        self, name: str, grid: int, block: int, arguments: tuple[Any, ...], *, shared: int = 0
    ) -> None:
        if len(self.launched) == self._launches:
            raise RuntimeError("cudaErrorLaunchFailure: unspecified launch failure")
        self.launched.append(name)
        values = [_value(argument) for argument in arguments]
        pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        with _IN_TURN:
            problem = self._library.emulate(
                name.encode(), grid, block, shared, len(values), pointers, int(self._backwards)
            )
        if problem:
            raise AssertionError(f"{name}: {problem.decode()}")


def _value(argument: Any) -> Any:
    """Return an argument as C has it; arrays must be as the kernels read them."""
    if isinstance(argument, np.ndarray):
        assert argument.flags.c_contiguous, "a kernel was given an array with gaps"
        return ctypes.c_void_p(argument.ctypes.data)
    return _CTYPES[argument.dtype](argument)


class _ImmediateCopies:
    """Copies that are made at once, in slots that must be used in turn."""

    def __init__(self) -> None:
        self._busy: set[int] = set()

    def pinned(self, size: int, dtype: Any) -> NDArray[Any]:
        return np.empty(size, dtype)

    def start(self, slot: int, pairs: list[tuple[Any, NDArray[Any]]]) -> None:
        assert slot not in self._busy, "an array is overwritten before its kernels were started"
        self._busy.add(slot)
        for target, source in pairs:
            target[...] = source
            # Whoever reads memory of this machine before it is filled again gets this.
            source[...] = -1

    def used(self, slot: int) -> None:
        self._busy.remove(slot)

    def wait(self, slot: int) -> None:
        assert slot not in self._busy


class EmulatedDevice:
    """A device of a given size.

    Attributes:
        xp: NumPy.
        name: shown name.
        multiprocessors: number of multiprocessors.
        shared_bytes: shared memory of each.
        compiled: the kernels that were compiled.
    """

    def __init__(
        self,
        *,
        memory: int = 4 << 30,
        free: int | None = None,
        multiprocessors: int = 4,
        backwards: bool = False,
        launches: int = 1 << 30,
    ) -> None:
        """Make a device.

        Args:
            memory: its bytes.
            free: bytes that are free; all if None.
            multiprocessors: number of multiprocessors.
            backwards: whether warps and lanes run in reverse order.
            launches: number of kernels that it runs before it is lost.
        """
        self.xp = np
        self.name = f"an emulated GPU ({memory / 2**30:.0f} GiB)"
        self.multiprocessors = multiprocessors
        self.shared_bytes = 228 << 10
        self.compiled: list[_EmulatedKernels] = []
        self._memory = memory if free is None else free, memory
        self._backwards, self._launches = backwards, launches

    def memory(self) -> tuple[int, int]:
        return self._memory

    def failures(self) -> tuple[Rule, ...]:
        return failures(self.name, MemoryError, subprocess.CalledProcessError)

    def compile(self, source: str, kernels: Sequence[str], macros: Mapping[str, int]) -> Kernels:
        how = {"backwards": self._backwards, "launches": self._launches}
        compiled = _EmulatedKernels(source, kernels, macros, **how)
        self.compiled.append(compiled)
        return compiled

    def copies(self) -> Copies:
        return _ImmediateCopies()
