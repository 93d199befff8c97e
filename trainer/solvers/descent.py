"""Exact solves for blocks of coordinates: iALS++, or Cholesky if one block holds them all.

For a block B of a row's coordinates x, with s_k = v_k . x of its entries (Rendle et al. 2021, sec. 3),

    H = (w0 V'V)_BB + l I + sum_k e_k v_kB v_kB'
    g = ((w0 V'V + l I) x)_B + sum_k (e_k s_k - (w0 + e_k) t_k) v_kB

the step x_B -= H^-1 g minimises the row's loss over the block and lowers it by g'H^-1 g.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.matrix import Shard
from trainer.solvers.kernels import (
    ShardProblem,
    adds,
    compiled,
    dots,
    in_threads,
    padded,
    prefetch,
    read_entries,
    room_for_entries,
    tile_of,
)
from trainer.solvers.simd import LANES, OUTER, ROWS, add_outer, take
from trainer.weighting import HalfProblem, too_small


class BlockDescent:
    """Solves each row block by block; exactly if one block holds all coordinates."""

    def __init__(self, block: int, threads: int) -> None:
        self._block = block
        self._threads = threads

    def sweep(
        self,
        shards: Sequence[Shard],
        problem: HalfProblem,
        minor: NDArray[np.float32],
        major: NDArray[np.float32],
    ) -> float:
        """Solve the blocks of every row one after the other; see `trainer.solvers.Solver`.

        Raises:
            InputError: a row's system is singular in float32.
        """
        shared = np.float32(problem.unobs_weight) * (minor.T @ minor)
        total = 0.0
        for shard in shards:
            part = ShardProblem.of(shard, problem, minor, major)
            losses, singular = np.zeros(len(part.bounds) - 1), np.full(len(part.bounds) - 1, -1)
            in_threads(
                self._threads, _sweep, part, shared, min(self._block, minor.shape[1]), losses, singular
            )
            failed = singular[singular >= 0]
            if failed.size:
                row = shard.first + int(failed[0])
                scaled = float(problem.regularization[row])
                raise too_small(scaled, f"leaves the equations of row {row} singular")
            total += float(losses.sum())
        return total


@compiled()
def _sweep(counter: Any, problem: Any, shared: Any, block: Any, losses: Any, singular: Any) -> None:
    """Solve the rows of the chunks that this thread takes.

    Args:
        counter: (1,) int64, the next chunk.
        problem: `ShardProblem`.
        shared: (d, d) float32, w0 V'V.
        block: coordinates in a block, d at most.
        losses: (chunks,) float64, to set.
        singular: (chunks,) int64, set to the first row of a chunk whose system is singular.
    """
    indptr, regularization, bounds = problem.indptr, problem.regularization, problem.bounds
    minor, major = problem.minor, problem.major
    d = minor.shape[1]
    every = np.minimum(np.arange(padded(d) + ROWS), d - 1)
    pivots, minus = np.arange(block), np.full(block, -1, np.float32)
    chunk = take(counter)
    while chunk < len(losses):
        first, last = bounds[chunk], bounds[chunk + 1]
        entries = room_for_entries(problem, first, last)
        rows, excess, weighted, sums = entries.rows, entries.excess, entries.weighted, entries.sums
        scratch = np.empty(len(sums), np.float32)
        # With rows a power of 2 apart, a column would compete for a few lines of the cache.
        system, step = np.zeros((block, block + LANES), np.float32), np.empty(block, np.float32)
        product = np.empty(padded(d), np.float32)
        loss = 0.0
        for i in range(first, last):
            start, stop = indptr[i], indptr[i + 1]
            if start == stop:
                major[i] = np.float32(0)
                continue
            loss += read_entries(problem, i, entries)
            count = padded(stop - start)
            prefetch(minor, problem.indices, stop, stop + count)
            x = major[i]
            if block >= d:
                # An exact solution needs no starting point, and from 0 nothing cancels.
                x[:] = np.float32(0)
            dots(minor, rows, 0, count, x, sums)
            for k in range(count):
                loss += (excess[k] * sums[k] - np.float32(2) * weighted[k]) * sums[k]
            for low in range(0, d, block):
                high = min(low + block, d)
                dots(shared, every[low:], 0, padded(high - low), x, product)
                for f in range(high - low):
                    step[f] = product[f] + regularization[i] * x[low + f]
                if low == 0:
                    for f in range(d):
                        loss += regularization[i] * x[f] * x[f]
                    loss += _quadratic(shared, every, x, product)
                part = minor[:, low:high]
                for k in range(count):
                    scratch[k] = excess[k] * sums[k] - weighted[k]
                adds(part, rows, 0, count, scratch, step)
                _assemble(part, rows, count, excess, shared[low:high, low:high], regularization[i], system)
                if not _factorize(system, high - low, pivots, minus):
                    singular[chunk] = i
                    break
                loss -= _solve(system, high - low, step)
                for f in range(high - low):
                    x[low + f] -= step[f]
                if high < d:
                    dots(part, rows, 0, count, step, scratch)
                    for k in range(count):
                        sums[k] -= scratch[k]
        losses[chunk] = loss
        chunk = take(counter)


@compiled(inlined=True)
def _quadratic(matrix: Any, every: Any, vector: Any, product: Any) -> Any:
    """Return vector' matrix vector."""
    dots(matrix, every, 0, padded(len(vector)), vector, product)
    total = np.float32(0)
    for f in range(len(vector)):
        total += product[f] * vector[f]
    return total


@compiled(inlined=True)
def _assemble(
    part: Any, rows: Any, count: Any, excess: Any, shared: Any, regularization: Any, system: Any
) -> None:
    """Set the upper triangle of the system H."""
    size, tile = part.shape[1], tile_of(part.shape[1])
    whole = size - size % LANES
    for f in range(size):
        for g in range(size):
            system[f, g] = shared[f, g]
        system[f, f] += regularization
    for begin in range(0, count, tile):
        end = min(begin + tile, count)
        for f in range(0, size - size % OUTER, OUTER):
            for g in range(f - f % LANES, whole, LANES):
                add_outer(part, rows, begin, end, excess, f, g, system)
        for k in range(begin, end):
            for f in range(size if whole < size else 0):
                weighted = excess[k] * part[rows[k], f]
                for g in range(whole, size):
                    system[f, g] += weighted * part[rows[k], g]


@compiled(inlined=True)
def _factorize(system: Any, size: Any, pivots: Any, minus: Any) -> Any:
    """Replace the upper triangle with R, where R'R = system, row by row; return whether it is definite."""
    whole, scales = size - size % LANES, np.empty(OUTER, np.float32)
    for first in range(0, size, OUTER):
        last = min(first + OUTER, size)
        for i in range(first, last):
            scales[i - first] = system[i, i]
        # Everything above these rows is subtracted at once, and what remains row by row.
        for g in range(first - first % LANES, whole, LANES):
            add_outer(system, pivots, 0, first, minus, first, g, system)
        for i in range(first, last):
            for k in range(first if whole < size else 0):
                for g in range(max(i, whole), size):
                    system[i, g] -= system[k, i] * system[k, g]
            for k in range(first, i):
                for g in range(i, size):
                    system[i, g] -= system[k, i] * system[k, g]
            # Cancellation leaves only rounding of a singular pivot, which must not be divided by.
            if not system[i, i] > np.float32(1e-7) * scales[i - first]:
                return False
            inverse = np.float32(1) / np.sqrt(system[i, i])
            for g in range(i, size):
                system[i, g] *= inverse
    return True


@compiled(inlined=True)
def _solve(factor: Any, size: Any, right: Any) -> Any:
    """Replace ``right``, g, with H^-1 g, where H = R'R; return g'H^-1 g."""
    gain = np.float32(0)
    for i in range(size):
        right[i] /= factor[i, i]
        gain += right[i] * right[i]
        for g in range(i + 1, size):
            right[g] -= right[i] * factor[i, g]
    for i in range(size - 1, -1, -1):
        total = right[i]
        for g in range(i + 1, size):
            total -= factor[i, g] * right[g]
        right[i] = total / factor[i, i]
    return gain
