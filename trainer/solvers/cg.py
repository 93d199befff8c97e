"""Conjugate gradients in the eigenbasis of the Gramian.

A row's system is ``w0 V'V + l I + sum e v v'``. Rotating both sides' factors by the eigenvectors Q of V'V
changes no inner product and makes the part that all rows share diagonal: no multiplication by the Gramian
remains, and the diagonal, with the entries' part estimated by their weight times the mean of v v', is a
preconditioner under which two steps come as near as many plain ones. A step touches each entry twice while
its tile of rows is in the nearest cache.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.matrix import Shard
from trainer.solvers.kernels import (
    adds,
    chunk_bounds,
    compiled,
    dots,
    in_threads,
    longest_row,
    padded,
    prefetch,
    read_entries,
    tile_of,
)
from trainer.solvers.simd import take
from trainer.weighting import HalfProblem

_ROTATED_AT_ONCE = 1 << 13
# A squared residual that has fallen by this much is rounding; further steps would divide by nothing.
_ROUNDING = np.float32(1e-13)


class ConjugateGradients:
    """Improves every row by a few steps from its last factors."""

    def __init__(self, steps: int, threads: int) -> None:
        self._steps = steps
        self._threads = threads

    def sweep(
        self,
        shards: Sequence[Shard],
        problem: HalfProblem,
        minor: NDArray[np.float32],
        major: NDArray[np.float32],
    ) -> float:
        """Step every row towards its solution; see `trainer.solvers.Solver`. Rotates ``minor`` in place."""
        eigenvalues = _to_eigenbasis(minor, major)
        shared = np.float32(problem.unobs_weight) * eigenvalues
        mean = eigenvalues / np.float32(len(minor))
        total = 0.0
        for shard in shards:
            rows = slice(shard.first, shard.first + shard.rows)
            bounds = chunk_bounds(shard)
            losses = np.zeros(len(bounds) - 1)
            in_threads(
                self._threads, _sweep, shard.indptr, shard.indices, shard.values,
                problem.major_weight[rows], problem.minor_weight, np.float32(problem.value_weight),
                problem.binary, np.float32(problem.unobs_weight), problem.regularization[rows],
                shared, mean, minor, major[rows], self._steps, bounds, losses,
            )  # fmt: skip
            total += float(losses.sum())
        return total


def _to_eigenbasis(minor: NDArray[np.float32], major: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rotate both sides, in place, so that the Gramian of ``minor`` is diagonal; return its diagonal."""
    eigenvalues, vectors = np.linalg.eigh(minor.T @ minor)
    for factors in (minor, major):
        for start in range(0, len(factors), _ROTATED_AT_ONCE):
            block = factors[start : start + _ROTATED_AT_ONCE]
            block[:] = block @ vectors
    spectrum: NDArray[np.float32] = np.maximum(eigenvalues, np.float32(0))
    return spectrum


@compiled()
def _sweep(
    counter: Any, indptr: Any, indices: Any, values: Any, major_weight: Any, minor_weight: Any,
    value_weight: Any, binary: Any, w0: Any, regularization: Any, shared: Any, mean: Any, minor: Any,
    major: Any, steps: Any, bounds: Any, losses: Any,
) -> None:  # fmt: skip
    """Step the rows of the chunks that this thread takes, and set what their losses are."""
    d = minor.shape[1]
    chunk = take(counter)
    while chunk < len(losses):
        first, last = bounds[chunk], bounds[chunk + 1]
        longest = longest_row(indptr, first, last)
        rows = np.empty(longest, indices.dtype)
        excess, weighted = np.empty(longest, np.float32), np.empty(longest, np.float32)
        sums = np.empty(longest, np.float32)
        diagonal, scale = np.empty(d, np.float32), np.empty(d, np.float32)
        vectors = np.empty((3, d), np.float32)
        loss = 0.0
        for i in range(first, last):
            start, stop = indptr[i], indptr[i + 1]
            if start == stop:
                major[i] = np.float32(0)
                continue
            loss += read_entries(
                indices, values, start, stop, major_weight[i], minor_weight, value_weight, binary, w0,
                rows, excess, weighted,
            )  # fmt: skip
            weight = np.float32(0)
            for k in range(stop - start):
                weight += excess[k]
            for f in range(d):
                diagonal[f] = shared[f] + regularization[i]
                scale[f] = np.float32(1) / (diagonal[f] + max(weight, np.float32(0)) * mean[f])
            loss += _start(
                minor, indices, start, rows, excess, weighted, sums, padded(stop - start),
                diagonal, major[i], vectors[0],
            )  # fmt: skip
            loss -= _step(
                minor, rows, excess, sums, padded(stop - start), diagonal, scale, major[i], vectors, steps
            )
        losses[chunk] = loss
        chunk = take(counter)


@compiled(inlined=True)
def _start(
    minor: Any, indices: Any, start: Any, rows: Any, excess: Any, weighted: Any, sums: Any, count: Any,
    diagonal: Any, solution: Any, residual: Any,
) -> Any:  # fmt: skip
    """Set the residual b - A x; return x'A x - 2 b'x."""
    d, tile = minor.shape[1], tile_of(minor.shape[1])
    loss = np.float32(0)
    for f in range(d):
        residual[f] = -diagonal[f] * solution[f]
        loss -= residual[f] * solution[f]
    for begin in range(0, count, tile):
        end = min(begin + tile, count)
        prefetch(minor, indices, start + end, start + end + tile)
        dots(minor, rows, begin, end, solution, sums)
        tile_excess, tile_weighted, tile_sums = excess[begin:end], weighted[begin:end], sums[begin:end]
        for k in range(len(tile_sums)):
            loss += (tile_excess[k] * tile_sums[k] - np.float32(2) * tile_weighted[k]) * tile_sums[k]
            tile_sums[k] = tile_weighted[k] - tile_excess[k] * tile_sums[k]
        adds(minor, rows, begin, end, sums, residual)
    return loss


@compiled(inlined=True)
def _step(
    minor: Any, rows: Any, excess: Any, sums: Any, count: Any, diagonal: Any, scale: Any, solution: Any,
    vectors: Any, steps: Any,
) -> Any:  # fmt: skip
    """Take preconditioned steps from the residual in ``vectors[0]``; return how much they lower the loss."""
    residual, direction, product = vectors[0], vectors[1], vectors[2]
    d, tile = minor.shape[1], tile_of(minor.shape[1])
    gain = np.float32(0)
    slope = np.float32(0)
    for f in range(d):
        direction[f] = scale[f] * residual[f]
        slope += residual[f] * direction[f]
    least = _ROUNDING * slope
    for step in range(steps):
        if slope <= least:
            break
        final = step == steps - 1
        curvature = np.float32(0)
        for f in range(d):
            product[f] = diagonal[f] * direction[f]
            curvature += product[f] * direction[f]
        for begin in range(0, count, tile):
            end = min(begin + tile, count)
            dots(minor, rows, begin, end, direction, sums)
            tile_excess, tile_sums = excess[begin:end], sums[begin:end]
            for k in range(len(tile_sums)):
                curvature += tile_excess[k] * tile_sums[k] * tile_sums[k]
                tile_sums[k] *= tile_excess[k]
            # The last step needs its length but no residual after it.
            if not final:
                adds(minor, rows, begin, end, sums, product)
        length = slope / curvature
        gain += length * slope
        ahead = np.float32(0)
        for f in range(d):
            solution[f] += length * direction[f]
            residual[f] -= length * product[f]
            ahead += residual[f] * residual[f] * scale[f]
        for f in range(d):
            direction[f] = scale[f] * residual[f] + ahead / slope * direction[f]
        slope = ahead
    return gain
