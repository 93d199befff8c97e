"""Shared parts of the CPU kernels: compiling, threads, entries with weights, products with gathered rows."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Any, NamedTuple, Self

import numba
import numpy as np
from numba.core.caching import FunctionCache
from numba.core.runtime.nrt import rtsys
from numpy.typing import NDArray

from trainer.matrix import Shard
from trainer.solvers.cache import compiled_kernels, prebuilt_level
from trainer.solvers.part import bounds_of
from trainer.solvers.simd import LANES, ROWS, add_rows, dot_rows, element, prefetch_row
from trainer.weighting import HalfProblem

# Numba sets its attributes at run time, unseen by type checkers.
config: Any = numba.config
_level = prebuilt_level()
if _level:
    config.CPU_NAME, config.CPU_FEATURES = _level.cpu, _level.features
config.CACHE_DIR = compiled_kernels(_level)

KERNELS: list[Any] = []
"""All kernels of the modules that have been imported, without the parts that are inlined into them."""


class _Cache(FunctionCache):
    """Numba's cache, without preparing to compile before it looks.

    Numba imports and registers all that it can compile before it loads a kernel, which takes twenty times as
    long as the loading. It does so anyway before it compiles one that is not there.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the kernel for argument types; None if it is not there."""
        # The kernels allocate memory.
        rtsys.initialize(target_context)
        return self._load_overload(sig, target_context)  # type: ignore[no-untyped-call]


_FAST = {"nnan", "ninf", "nsz", "arcp", "contract", "afn", "reassoc"}
_ORDERED = {"nnan", "nsz", "reassoc"}


def compiled(*, inlined: bool = False, infinities: bool = False, exact: bool = False) -> Callable[[Any], Any]:
    """Return a decorator that compiles a kernel, or a part of kernels, once and caches it on disk.

    Args:
        inlined: whether this is a part of kernels, to be inlined into each. A separate function would be
            optimised again for each kernel that calls it, and the process that compiles a kernel would run
            another version than later ones that load it from disk: results would differ by rounding.
        infinities: whether the kernel has to handle infinite numbers, which the fastest arithmetic rules out.
        exact: whether operations on numbers keep their order and rounding.
    """
    fast = _ORDERED if infinities else _FAST
    jit: Callable[[Any], Any] = numba.njit(
        fastmath=False if exact else fast,
        cache=True,
        error_model="numpy",
        nogil=True,
        forceinline=inlined,
    )

    def decorate(function: Any) -> Any:
        kernel = jit(function)
        kernel._cache = _Cache(function)  # type: ignore[no-untyped-call]
        if not inlined:
            KERNELS.append(kernel)
        return kernel

    return decorate


def in_threads(threads: int, kernel: Callable[..., None], *arguments: Any) -> None:
    """Call ``kernel(counter, *arguments)`` in each of several threads.

    They share ``counter``, (1,) int64, from which `trainer.solvers.simd.take` hands out the work.
    """
    counter = np.zeros(1, np.int64)
    calls = [_executor(threads).submit(kernel, counter, *arguments) for _ in range(threads)]
    # All end before their arguments go, also if one fails.
    wait(calls)
    for call in calls:
        call.result()


@cache
def _executor(threads: int) -> ThreadPoolExecutor:
    """Return threads that are kept: to begin and to end them takes as long as many a kernel."""
    return ThreadPoolExecutor(threads)


# A forked process has none of its parent's threads.
os.register_at_fork(after_in_child=_executor.cache_clear)


_TILE_BYTES = 16 << 10
# Runs of rows that threads take one after the other.
_CHUNKS = 256


class ShardProblem(NamedTuple):
    """The problems of a shard's rows and the factors of both sides, as one argument of a kernel.

    Attributes:
        indptr: (rows + 1,) int64, offsets of each row's entries.
        indices: (entries,) int32 or int64, the minor row of each entry.
        values: (entries,) float32.
        major_weight: (rows,) float32.
        minor_weight: (minors,) float32.
        value_weight: float32, alpha.
        binary: bool, whether targets are 1 for positive values and 0 for others.
        unobs_weight: float32, w0.
        regularization: (rows,) float32, the lambda of each row.
        minor: (minors, d), the fixed factors: float32, or the bits of half precision (int16) for kernels that
            read them by `dots` and `adds` alone.
        major: (rows, d) float32, the factors that the kernel overwrites.
        bounds: (chunks + 1,) int64, the first row of each chunk of work, and the number of rows.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[Any]
    values: NDArray[np.float32]
    major_weight: NDArray[np.float32]
    minor_weight: NDArray[np.float32]
    value_weight: np.float32
    binary: bool
    unobs_weight: np.float32
    regularization: NDArray[np.float32]
    minor: NDArray[Any]
    major: NDArray[np.float32]
    bounds: NDArray[np.int64]

    @classmethod
    def of(cls, shard: Shard, half: HalfProblem, minor: NDArray[Any], major: NDArray[np.float32]) -> Self:
        """Return the problem of a shard.

        Args:
            shard: some rows of the major side.
            half: weights and regularisation of all rows of that side.
            minor: (minors, d); see the attribute.
            major: (majors, d) float32, the factors of all rows of the major side.
        """
        rows = slice(shard.first, shard.first + shard.rows)
        return cls(
            shard.indptr,
            shard.indices,
            shard.values,
            half.major_weight[rows],
            half.minor_weight,
            np.float32(half.value_weight),
            half.binary,
            np.float32(half.unobs_weight),
            half.regularization[rows],
            minor,
            major[rows],
            bounds_of(shard.indptr, _CHUNKS),
        )


class Entries(NamedTuple):
    """Scratch space for one row's entries, which are padded to whole groups with entries of weight 0.

    Attributes:
        rows: (size,) int32 or int64, the minor row of each entry.
        excess: (size,) float32, e, the weight beyond w0.
        weighted: (size,) float32, (w0 + e) t.
        sums: (size,) float32, a result for each entry, such as an inner product.
    """

    rows: NDArray[Any]
    excess: NDArray[np.float32]
    weighted: NDArray[np.float32]
    sums: NDArray[np.float32]


@compiled(inlined=True)
def padded(count: Any) -> Any:
    """Return ``count`` rounded up to whole groups of rows."""
    return (count + ROWS - 1) // ROWS * ROWS


@compiled(inlined=True)
def tile_of(d: Any) -> Any:
    """Return the number of rows of d floats that stay in the nearest cache between two uses."""
    return max(ROWS, _TILE_BYTES // (4 * d) // ROWS * ROWS)


@compiled(inlined=True)
def room_for_entries(problem: Any, first: Any, last: Any) -> Any:
    """Return uninitialised `Entries` that any row from ``first`` up to ``last`` fits into."""
    indptr = problem.indptr
    longest = 0
    for i in range(first, last):
        longest = max(longest, indptr[i + 1] - indptr[i])
    size = padded(longest)
    return Entries(
        np.empty(size, problem.indices.dtype),
        np.empty(size, np.float32),
        np.empty(size, np.float32),
        np.empty(size, np.float32),
    )


@compiled(inlined=True)
def read_entries(problem: Any, i: Any, entries: Any) -> Any:
    """Fill in a row's entries, except the sums; see `trainer.weighting` for the weights.

    Returns:
        The row's sum of (w0 + e) t^2, float32.
    """
    start, stop = problem.indptr[i], problem.indptr[i + 1]
    indices, values = problem.indices[start:stop], problem.values[start:stop]
    major_weight, minor_weight = problem.major_weight[i], problem.minor_weight
    value_weight, binary, w0 = problem.value_weight, problem.binary, problem.unobs_weight
    rows, excess, weighted = entries.rows, entries.excess, entries.weighted
    constant = np.float32(0)
    for k in range(len(indices)):
        j, value = indices[k], values[k]
        e = major_weight * minor_weight[j] + value_weight * abs(value)
        target = np.float32(value > 0) if binary else value
        rows[k], excess[k], weighted[k] = j, e, (w0 + e) * target
        constant += (w0 + e) * target * target
    for k in range(len(indices), padded(len(indices))):
        rows[k], excess[k], weighted[k] = rows[0], np.float32(0), np.float32(0)
    return constant


@compiled(inlined=True)
def dots(minor: Any, rows: Any, start: Any, stop: Any, vector: Any, out: Any) -> None:
    """Set ``out[k] = minor[rows[k]] . vector`` for k from ``start`` up to ``stop``, whole groups."""
    d = minor.shape[1]
    for group in range(start, stop, ROWS):
        dot_rows(minor, rows, group, vector, out, group)
        for f in range(d - d % LANES, d):
            for k in range(group, group + ROWS):
                out[k] += element(minor, rows[k], f) * vector[f]


@compiled(inlined=True)
def adds(minor: Any, rows: Any, start: Any, stop: Any, coefficients: Any, out: Any) -> None:
    """Add ``coefficients[k] minor[rows[k]]`` to ``out`` for k from ``start`` up to ``stop``, whole groups."""
    d = minor.shape[1]
    for group in range(start, stop, ROWS):
        add_rows(minor, rows, group, coefficients, group, out, 0)
        for f in range(d - d % LANES, d):
            for k in range(group, group + ROWS):
                out[f] += coefficients[k] * element(minor, rows[k], f)


@compiled(inlined=True)
def prefetch(minor: Any, indices: Any, start: Any, stop: Any) -> None:
    """Start loading the minor rows of these entries into the cache."""
    for e in range(start, min(stop, len(indices))):
        prefetch_row(minor, indices[e])
