"""The GPU as the solver uses it: memory, kernels and copies, by CuPy."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.errors import Rule, WalsError
from trainer.solvers.cuda.library import cupy


class Kernels(Protocol):
    """Compiled kernels."""

    def launch(
        self, name: str, grid: int, block: int, arguments: tuple[Any, ...], *, shared: int = 0
    ) -> None:
        """Start a kernel after the work that was started before.

        Args:
            name: one of the kernels.
            grid: number of blocks.
            block: threads of a block.
            arguments: arrays of the device and NumPy scalars of the parameters' types.
            shared: bytes of shared memory of a block.
        """
        ...


class Copies(Protocol):
    """Copies to the device that run beside kernels, from memory that is pinned for them."""

    def pinned(self, size: int, dtype: Any) -> NDArray[Any]:
        """Return an uninitialised array of this machine's memory."""
        ...

    def start(self, slot: int, pairs: list[tuple[Any, NDArray[Any]]]) -> None:
        """Start to copy each pinned array to the array of the device before it.

        The copies wait for the kernels that were started before the last `used` of the slot, and later
        kernels wait for the copies.
        """
        ...

    def used(self, slot: int) -> None:
        """Note that the kernels which read the slot's arrays have been started."""
        ...

    def wait(self, slot: int) -> None:
        """Wait until the slot's pinned arrays have been copied and may be changed."""
        ...


class Device(Protocol):
    """A GPU.

    Attributes:
        xp: module for arrays on the device with the functions of NumPy.
        name: name and memory, to be shown.
        multiprocessors: number of multiprocessors.
        shared_bytes: shared memory of a multiprocessor.
    """

    xp: Any
    name: str
    multiprocessors: int
    shared_bytes: int

    def memory(self) -> tuple[int, int]:
        """Return the free bytes and the bytes in all."""
        ...

    def failures(self) -> tuple[Rule, ...]:
        """Return how errors of the device are reported; see `trainer.errors.translated`."""
        ...

    def compile(self, source: str, kernels: Sequence[str], macros: Mapping[str, int]) -> Kernels:
        """Compile CUDA C++.

        Args:
            source: the code.
            kernels: names of its kernels.
            macros: what to define.
        """
        ...

    def copies(self) -> Copies:
        """Return a queue of copies."""
        ...


class _CupyKernels:
    def __init__(self, cupy: Any, source: str, kernels: Sequence[str], options: tuple[str, ...]) -> None:
        module = cupy.RawModule(code=source, options=options, backend="nvrtc")
        self._functions = {name: module.get_function(name) for name in kernels}

    def launch(
        self, name: str, grid: int, block: int, arguments: tuple[Any, ...], *, shared: int = 0
    ) -> None:
        function = self._functions[name]
        # More than 48 KiB has to be asked for.
        if shared > function.max_dynamic_shared_size_bytes:
            function.max_dynamic_shared_size_bytes = shared
        function((grid,), (block,), arguments, shared_mem=shared)


class _CupyCopies:
    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._copied: dict[int, Any] = {}
        self._used: dict[int, Any] = {}

    def pinned(self, size: int, dtype: Any) -> NDArray[Any]:
        memory = self._cupy.cuda.alloc_pinned_memory(max(1, size) * np.dtype(dtype).itemsize)
        return np.frombuffer(memory, dtype, size)

    def start(self, slot: int, pairs: list[tuple[Any, NDArray[Any]]]) -> None:
        if slot in self._used:
            self._stream.wait_event(self._used[slot])
        for target, source in pairs:
            target.set(source, stream=self._stream)
        event = self._copied.setdefault(slot, self._cupy.cuda.Event(disable_timing=True))
        event.record(self._stream)
        self._cupy.cuda.get_current_stream().wait_event(event)

    def used(self, slot: int) -> None:
        event = self._used.setdefault(slot, self._cupy.cuda.Event(disable_timing=True))
        event.record()

    def wait(self, slot: int) -> None:
        if slot in self._copied:
            self._copied[slot].synchronize()


def open_device() -> Device:
    """Return the first GPU; `trainer.solvers.cuda.library` tells beforehand whether it can be used."""
    return CupyDevice(cupy())


def failures(name: str, out_of_memory: type[Exception], uncompiled: type[Exception]) -> tuple[Rule, ...]:
    """Return how errors of a device are reported.

    Args:
        name: the device.
        out_of_memory: error of an allocation.
        uncompiled: error of the compiler.
    """

    def full(error: Exception) -> WalsError:
        remedy = "end other programs that use it, lower latent_factors, or set solver to cg"
        return WalsError(f"{name} has no memory left: {error}; {remedy}")

    def untranslated(error: Exception) -> WalsError:
        return WalsError(f"{name}: the kernels cannot be compiled: {error}; set solver to cg")

    def lost(error: Exception) -> WalsError:
        remedy = "check the GPU with nvidia-smi and start again; training resumes from its last checkpoint"
        return WalsError(f"{name} failed: {error}; {remedy}")

    # The errors of the driver and of CUDA's libraries are all kinds of RuntimeError.
    return ((out_of_memory, full), (uncompiled, untranslated), (RuntimeError, lost))


class CupyDevice:
    """The first GPU that CuPy finds."""

    def __init__(self, cupy: Any) -> None:
        """Use the current device of ``cupy``, the module."""
        self.xp = cupy
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        self.multiprocessors = int(properties["multiProcessorCount"])
        self.shared_bytes = int(properties["sharedMemPerMultiprocessor"])
        memory = properties["totalGlobalMem"] / 2**30
        self.name = f"{properties['name'].decode()} ({memory:.0f} GiB)"

    def memory(self) -> tuple[int, int]:
        """See `Device`."""
        free, total = self.xp.cuda.runtime.memGetInfo()
        return free + self.xp.get_default_memory_pool().free_bytes(), total

    def failures(self) -> tuple[Rule, ...]:
        """See `Device`."""
        cuda = self.xp.cuda
        return failures(self.name, cuda.memory.OutOfMemoryError, cuda.compiler.CompileException)

    def compile(self, source: str, kernels: Sequence[str], macros: Mapping[str, int]) -> Kernels:
        """See `Device`."""
        options = ("--std=c++17", *(f"-D{name}={value}" for name, value in macros.items()))
        return _CupyKernels(self.xp, source, kernels, options)

    def copies(self) -> Copies:
        """See `Device`."""
        return _CupyCopies(self.xp)
