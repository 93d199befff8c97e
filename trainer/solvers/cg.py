"""Preconditioned conjugate gradients in the eigenbasis of the Gramian.

A row's system A x = b has A = w0 V'V + l I + sum_k e_k v_k v_k'. Rotating both sides' factors by the
eigenvectors of V'V changes no inner product and makes the part that all rows share diagonal, so that no
multiplication by the Gramian remains. The preconditioner M is that diagonal plus an estimate of the entries'
part, (sum_k e_k) times the mean of v v'. With it, two steps come as close as many plain ones. A step reads
each entry twice while its tile of rows is in the nearest cache.

A row that is near its solution, as all are after a few iterations, takes steps 1.4 times as long. This is
successive over-relaxation (Saad 2003, sec. 4.1) of the alternation between the sides, which then needs fewer
iterations. The objective still falls: conjugate steps that are w times as long lower it w (2 - w) times as
much. A row far from its solution, as in the first iteration, would only become too long.

Most of the time goes into fetching the other side's factors from memory. They are gathered from a copy whose
rows begin with cache lines. Where they are too many for the nearer caches, the copy is in half precision,
which halves what is fetched; with so many rows, the rounding averages out. Sums are in single precision.
"""

import math
import os
import platform
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.matrix import Shard
from trainer.solvers.agreement import Agreed, itself
from trainer.solvers.cache import prebuilt_level
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
from trainer.solvers.levels import best_level
from trainer.solvers.simd import half, take
from trainer.weighting import HalfProblem

_ROTATED_AT_ONCE = 1 << 13
_HALVED_AT_ONCE = 1 << 10
_LINE_BYTES = 64
_LARGE_BYTES = 8 << 20
# Half precision reaches to 2^16.
_LARGEST_EXPONENT = 15
# A squared residual that has fallen to this share is rounding; further steps would divide by zero.
_ROUNDING = np.float32(1e-13)
_RELAXATION = np.float32(1.4)
# The squared distance to the solution, as a share of the squared length, up to which steps go further.
_NEAR = np.float32(0.1)


class ConjugateGradients:
    """Improves every row by a few steps from its last factors."""

    def __init__(
        self, steps: int, threads: int, agreed: Agreed = itself, halves_from: int = _LARGE_BYTES
    ) -> None:
        """Create the solver.

        Args:
            steps: number of steps of each row in a sweep.
            threads: number of threads.
            agreed: see `trainer.solvers.agreement`.
            halves_from: size in bytes from which factors are gathered in half precision.
        """
        self._steps = steps
        self._threads = threads
        self._agreed = agreed
        self._halves_from = halves_from

    def sweep(
        self,
        shards: Sequence[Shard],
        problem: HalfProblem,
        minor: NDArray[np.float32],
        major: NDArray[np.float32],
    ) -> float:
        """Step every row towards its solution and rotate ``minor`` in place; see `trainer.solvers.Solver`."""
        eigenvalues = _to_eigenbasis(minor, major, self._agreed)
        shared = np.float32(problem.unobs_weight) * eigenvalues
        mean = eigenvalues / np.float32(len(minor))
        copies, unit = self._copies(minor, eigenvalues[-1])
        total = 0.0
        for shard in shards:
            part = ShardProblem.of(shard, problem, copies, major)
            losses = np.zeros(len(part.bounds) - 1)
            in_threads(self._threads, _sweep, part, unit, shared, mean, self._steps, losses)
            total += float(losses.sum())
        return total

    def _copies(self, factors: NDArray[np.float32], largest: np.float32) -> tuple[NDArray[Any], np.float32]:
        """Return factors to gather from, and what to multiply them by.

        Args:
            factors: (n, d).
            largest: the largest eigenvalue of their Gramian, the square of their longest column.
        """
        if factors.nbytes < self._halves_from or not _halves_are_fast():
            copies = _aligned(factors.shape, np.float32)
            copies[:] = factors
            return copies, np.float32(1)
        # No factor exceeds the length of its column. A power of two adds no rounding.
        _, exponent = np.frexp(np.sqrt(largest))
        unit = np.ldexp(np.float32(1), exponent - _LARGEST_EXPONENT)
        halves = _aligned(factors.shape, np.int16)
        in_threads(self._threads, _halve, factors, 1 / unit, halves)
        return halves, unit


@cache
def _halves_are_fast() -> bool:
    """Return whether the kernels are compiled for a processor that converts numbers of half precision."""
    if platform.machine() != "x86_64":
        return True
    # Who names another processor may mean one without.
    return best_level() is not None and (bool(prebuilt_level()) or "NUMBA_CPU_NAME" not in os.environ)


def _aligned(shape: tuple[int, ...], kind: type[np.generic]) -> NDArray[Any]:
    """Return an uninitialised array that begins with a cache line."""
    size = math.prod(shape) * np.dtype(kind).itemsize
    room = np.empty(size + _LINE_BYTES, np.uint8)
    start = -room.ctypes.data % _LINE_BYTES
    return room[start : start + size].view(kind).reshape(shape)


@compiled()
def _halve(counter: Any, factors: Any, scale: Any, halves: Any) -> None:
    """Set ``halves``, (n, d) int16, to scaled factors in half precision; each thread takes some rows."""
    first = take(counter) * _HALVED_AT_ONCE
    while first < len(factors):
        for i in range(first, min(first + _HALVED_AT_ONCE, len(factors))):
            for f in range(factors.shape[1]):
                halves[i, f] = half(scale * factors[i, f])
        first = take(counter) * _HALVED_AT_ONCE


def _to_eigenbasis(
    minor: NDArray[np.float32], major: NDArray[np.float32], agreed: Agreed
) -> NDArray[np.float32]:
    """Rotate both sides in place so that the Gramian of ``minor`` is diagonal; return its diagonal."""
    basis = agreed(np.vstack(np.linalg.eigh(minor.T @ minor)))
    eigenvalues, vectors = basis[0], basis[1:]
    for factors in (minor, major):
        for start in range(0, len(factors), _ROTATED_AT_ONCE):
            block = factors[start : start + _ROTATED_AT_ONCE]
            block[:] = block @ vectors
    spectrum: NDArray[np.float32] = np.maximum(eigenvalues, np.float32(0))
    return spectrum


@compiled()
def _sweep(counter: Any, problem: Any, unit: Any, shared: Any, mean: Any, steps: Any, losses: Any) -> None:
    """Step the rows of the chunks that this thread takes.

    Args:
        counter: (1,) int64, the next chunk.
        problem: `ShardProblem`.
        unit: float32, what the minor factors are multiplied by.
        shared: (d,) float32, the diagonal of w0 V'V.
        mean: (d,) float32, the diagonal of the mean of v v'.
        steps: number of steps for each row.
        losses: (chunks,) float64, to set.
    """
    indptr, regularization, bounds = problem.indptr, problem.regularization, problem.bounds
    minor, major = problem.minor, problem.major
    d = minor.shape[1]
    chunk = take(counter)
    while chunk < len(losses):
        first, last = bounds[chunk], bounds[chunk + 1]
        entries = room_for_entries(problem, first, last)
        diagonal, inverse = np.empty(d, np.float32), np.empty(d, np.float32)
        vectors = np.empty((3, d), np.float32)
        loss = 0.0
        for i in range(first, last):
            count = indptr[i + 1] - indptr[i]
            if count == 0:
                major[i] = np.float32(0)
                continue
            loss += read_entries(problem, i, entries)
            weight = np.float32(0)
            for k in range(count):
                weight += entries.excess[k]
            # M = w0 V'V + l I + (sum_k e_k) mean(v v'), diagonal
            for f in range(d):
                diagonal[f] = shared[f] + regularization[i]
                inverse[f] = np.float32(1) / (diagonal[f] + max(weight, np.float32(0)) * mean[f])
            ahead = problem.indices[indptr[i] :]
            loss += _start(minor, unit, ahead, entries, padded(count), diagonal, major[i], vectors[0])
            loss -= _step(minor, unit, entries, padded(count), diagonal, inverse, major[i], vectors, steps)
        losses[chunk] = loss
        chunk = take(counter)


@compiled(inlined=True)
def _start(minor: Any, unit: Any, ahead: Any, entries: Any, count: Any, diagonal: Any, x: Any, r: Any) -> Any:
    """Set the residual r = b - A x.

    Args:
        minor: (minors, d), see `ShardProblem`.
        unit: see `_sweep`.
        ahead: (n,) minor rows of the entries from the row's first to the shard's last, for prefetching.
        entries: `Entries` of the row.
        count: number of the entries, padded.
        diagonal: (d,) float32, of w0 V'V + l I.
        x: (d,) float32, the factors so far.
        r: (d,) float32, to set.

    Returns:
        x'A x - 2 b'x, float32.
    """
    rows, excess, weighted, sums = entries.rows, entries.excess, entries.weighted, entries.sums
    d, tile = minor.shape[1], tile_of(minor.shape[1])
    loss = np.float32(0)
    for f in range(d):
        r[f] = -diagonal[f] * x[f]
        loss -= r[f] * x[f]
    for begin in range(0, count, tile):
        end = min(begin + tile, count)
        prefetch(minor, ahead, end, end + tile)
        dots(minor, rows, begin, end, x, sums)
        tile_excess, tile_weighted, tile_sums = excess[begin:end], weighted[begin:end], sums[begin:end]
        for k in range(len(tile_sums)):
            predicted = unit * tile_sums[k]
            loss += (tile_excess[k] * predicted - np.float32(2) * tile_weighted[k]) * predicted
            tile_sums[k] = unit * (tile_weighted[k] - tile_excess[k] * predicted)
        adds(minor, rows, begin, end, sums, r)
    return loss


@compiled(inlined=True)
def _step(
    minor: Any,
    unit: Any,
    entries: Any,
    count: Any,
    diagonal: Any,
    inverse: Any,
    x: Any,
    vectors: Any,
    steps: Any,
) -> Any:
    """Take steps of preconditioned conjugate gradients (Saad 2003, alg. 9.1), in its notation.

    Args:
        minor: (minors, d), see `ShardProblem`.
        unit: see `_sweep`.
        entries: `Entries` of the row.
        count: number of the entries, padded.
        diagonal: (d,) float32, of w0 V'V + l I.
        inverse: (d,) float32, the diagonal of M^-1.
        x: (d,) float32, to improve.
        vectors: (3, d) float32: the residual r of x, and room for p and q.
        steps: number of steps.

    Returns:
        The amount by which the steps lower x'A x - 2 b'x, float32.
    """
    rows, excess, sums = entries.rows, entries.excess, entries.sums
    r, p, q = vectors[0], vectors[1], vectors[2]
    d, tile = minor.shape[1], tile_of(minor.shape[1])
    gain = np.float32(0)
    # z = M^-1 r,  p = z
    rz, size = np.float32(0), np.float32(0)
    for f in range(d):
        z = inverse[f] * r[f]
        p[f] = z
        rz += r[f] * z
        size += x[f] * x[f] / inverse[f]
    least = _ROUNDING * rz
    # The squares of both are about r'M^-1 r and x'M x.
    length = _RELAXATION if rz <= _NEAR * size else np.float32(1)
    for step in range(steps):
        if rz <= least:
            break
        final = step == steps - 1
        # q = A p,  with A = w0 V'V + l I + sum_k e_k v_k v_k'
        pq = np.float32(0)
        for f in range(d):
            q[f] = diagonal[f] * p[f]
            pq += q[f] * p[f]
        for begin in range(0, count, tile):
            end = min(begin + tile, count)
            dots(minor, rows, begin, end, p, sums)
            tile_excess, tile_sums = excess[begin:end], sums[begin:end]
            for k in range(len(tile_sums)):
                product = unit * tile_sums[k]
                pq += tile_excess[k] * product * product
                tile_sums[k] = unit * tile_excess[k] * product
            # The last step needs p'q but no residual after it.
            if not final:
                adds(minor, rows, begin, end, sums, q)
        # alpha = r'z / p'q,  which lowers the loss by alpha r'z
        alpha = rz / pq
        gain += alpha * rz
        # x = x + w alpha p;  without w:  r = r - alpha q,  z = M^-1 r
        next_rz = np.float32(0)
        for f in range(d):
            x[f] += length * alpha * p[f]
            r[f] -= alpha * q[f]
            next_rz += r[f] * r[f] * inverse[f]
        # beta = next r'z / r'z,  p = z + beta p
        beta = next_rz / rz
        for f in range(d):
            p[f] = inverse[f] * r[f] + beta * p[f]
        rz = next_rz
    return length * (np.float32(2) - length) * gain
