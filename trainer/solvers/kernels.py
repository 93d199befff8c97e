"""What the CPU kernels share: entries of a row with their weights, and products with gathered rows."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from trainer.errors import InputError
from trainer.matrix import Shard
from trainer.solvers.simd import LANES, ROWS, add_rows, dot_rows, prefetch_row


def _compiled_kernels() -> str:
    """Return the folder for compiled kernels of these sources.

    Numba compiles a kernel again when its own file changes, but not when another does whose functions have
    become a part of it; so other sources get another folder.
    """
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    for caches in _caches():
        kernels = caches / digest
        try:
            kernels.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(kernels, os.W_OK):
            return str(kernels)
    raise InputError(
        "NUMBA_CACHE_DIR", str(_caches()[0]), "cannot be written", "name a folder for compiled kernels"
    )


def _caches() -> list[Path]:
    """Return where compiled kernels may be kept: a cache of the user, or a temporary one without a home."""
    if named := os.environ.get("NUMBA_CACHE_DIR"):
        return [Path(named)]
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return [folder / f"wals-kernels-{os.getuid()}" for folder in (users, Path(tempfile.gettempdir()))]


# Numba makes up its attributes at run time.
config: Any = numba.config
config.CACHE_DIR = _compiled_kernels()

_FAST = {"nnan", "ninf", "nsz", "arcp", "contract", "afn", "reassoc"}
_ORDERED = {"nnan", "nsz", "reassoc"}


def compiled(*, inlined: bool = False, infinities: bool = False) -> Callable[[Any], Any]:
    """Return a decorator that compiles a kernel, or a part of kernels, once and keeps it on disk.

    Args:
        inlined: it is a part of kernels and becomes a part of the code of each. As a function of its own it
            would be optimised once more for each kernel that calls it, and the process that compiles them
            and those that load them from disk would not run the same of these: results would differ by
            rounding.
        infinities: it meets infinite numbers, which the fastest arithmetic takes for impossible.
    """
    decorator: Callable[[Any], Any] = numba.njit(
        fastmath=_ORDERED if infinities else _FAST,
        cache=True,
        error_model="numpy",
        nogil=True,
        forceinline=inlined,
    )
    return decorator


def in_threads(threads: int, kernel: Callable[..., None], *arguments: Any) -> None:
    """Call ``kernel(counter, *arguments)`` in so many threads.

    They share ``counter``, (1,) int64, and by :func:`trainer.solvers.simd.take` the parts of the work.
    """
    counter = np.zeros(1, np.int64)
    with ThreadPoolExecutor(threads) as executor:
        for call in [executor.submit(kernel, counter, *arguments) for _ in range(threads)]:
            call.result()


_TILE_BYTES = 16 << 10
_CHUNKS = 256
# Work for a row that does not depend on its entries, counted in entries.
_ROW_COST = 8


def chunk_bounds(shard: Shard) -> NDArray[np.int64]:
    """Return the bounds of runs of rows of about equal work, which threads take one after the other."""
    cost = shard.indptr + _ROW_COST * np.arange(shard.rows + 1)
    return np.searchsorted(cost, np.linspace(0, cost[-1], _CHUNKS + 1)).astype(np.int64)


@compiled(inlined=True)
def padded(count: Any) -> Any:
    """Return ``count`` rounded up to whole groups of rows."""
    return (count + ROWS - 1) // ROWS * ROWS


@compiled(inlined=True)
def tile_of(d: Any) -> Any:
    """Return how many rows of d floats stay in the nearest cache between two uses."""
    return max(ROWS, _TILE_BYTES // (4 * d) // ROWS * ROWS)


@compiled(inlined=True)
def longest_row(indptr: Any, first: Any, last: Any) -> Any:
    """Return the most entries that a row from ``first`` up to ``last`` has, padded."""
    longest = 0
    for i in range(first, last):
        longest = max(longest, indptr[i + 1] - indptr[i])
    return padded(longest)


@compiled(inlined=True)
def read_entries(
    indices: Any, values: Any, start: Any, stop: Any,
    major_weight: Any, minor_weight: Any, value_weight: Any, binary: Any, w0: Any,
    rows: Any, excess: Any, weighted: Any,
) -> Any:  # fmt: skip
    """Read a row's entries; see `trainer.weighting` for the weights.

    Fills ``rows`` with the minor rows, ``excess`` with e and ``weighted`` with (w0 + e) t, all padded to
    whole groups by entries of no weight.

    Returns:
        The row's sum of (w0 + e) t^2, float32.
    """
    constant = np.float32(0)
    indices, values = indices[start:stop], values[start:stop]
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
                out[k] += minor[rows[k], f] * vector[f]


@compiled(inlined=True)
def adds(minor: Any, rows: Any, start: Any, stop: Any, coefficients: Any, out: Any) -> None:
    """Add ``coefficients[k] minor[rows[k]]`` to ``out`` for k from ``start`` up to ``stop``, whole groups."""
    d = minor.shape[1]
    for group in range(start, stop, ROWS):
        add_rows(minor, rows, group, coefficients, group, out, 0)
        for f in range(d - d % LANES, d):
            for k in range(group, group + ROWS):
                out[f] += coefficients[k] * minor[rows[k], f]


@compiled(inlined=True)
def prefetch(minor: Any, indices: Any, start: Any, stop: Any) -> None:
    """Start bringing the minor rows of these entries near."""
    for e in range(start, min(stop, len(indices))):
        prefetch_row(minor, indices[e])
