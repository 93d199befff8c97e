"""Exact solutions in TensorFlow, in batches of static shape, for accelerators.

Rows of a sparse matrix vary in length, but accelerators need arrays of one shape. As in ALX (Mehta et al.
2021, arXiv:2112.02194, sec. 4.3, "dense batching"), each row's entries are split into pieces of a fixed
length, the last one padded, and a batch is a fixed number of pieces. One batched matrix product computes each
piece's share of its row's equations, a segment sum adds the shares of a row's pieces, and one batched
Cholesky decomposition solves all rows of a group. The equations of a row longer than a batch are summed over
several batches.

Nothing here is compiled by XLA, whose Cholesky decomposition on CPUs is many times slower.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.extras import tensorflow
from trainer.matrix import Shard
from trainer.weighting import HalfProblem, too_small

tf: Any = tensorflow()

# On GPUs that have TF32, TensorFlow would otherwise multiply with its 10 bits of mantissa.
tf.config.experimental.enable_tensor_float_32_execution(False)

_PIECE_LENGTHS = (8, 16, 32, 64, 128)
# Fixed work per piece, expressed in entries.
_PIECE_COST = 8
_BATCH_BYTES = 32 << 20


class TensorFlowCholesky:
    """Solves every row exactly."""

    def sweep(
        self,
        shards: Sequence[Shard],
        problem: HalfProblem,
        minor: NDArray[np.float32],
        major: NDArray[np.float32],
    ) -> float:
        """Solve every row; see `trainer.solvers.Solver`.

        Raises:
            InputError: a row's system is singular in float32.
        """
        layout = _Layout.of(shards, minor.shape[1])
        equations = _Equations(layout, problem, minor)
        total = 0.0
        for shard in shards:
            regularization = problem.regularization[shard.first : shard.first + shard.rows]
            for group in _groups(shard, layout):
                for batch in _batches(shard, group, layout):
                    equations.add(batch, problem.major_weight[shard.first + group.first + batch.owners])
                solutions, loss = equations.solve(regularization[group.first : group.last])
                if not np.isfinite(loss):
                    _refuse_singular(solutions, shard.first + group.first, regularization[group.first :])
                _write(solutions, shard, group, major)
                total += loss
        return total


@dataclass(frozen=True)
class _Layout:
    """The static shapes of a sweep.

    Attributes:
        length: entries in a piece.
        pieces: pieces in a batch, and rows in a group.
    """

    length: int
    pieces: int

    @classmethod
    def of(cls, shards: Sequence[Shard], d: int) -> "_Layout":
        """Choose the length with the least overhead of padding and pieces, and batches that fit in memory."""
        counts = np.concatenate([np.diff(shard.indptr) for shard in shards])
        pieces = {length: int(np.sum(_pieces(counts, length))) for length in _PIECE_LENGTHS}
        length = min(_PIECE_LENGTHS, key=lambda length: pieces[length] * (length + _PIECE_COST))
        fitting = max(1, _BATCH_BYTES // (4 * d * max(d, length)))
        return cls(length, min(fitting, max(len(counts), pieces[length])))


@dataclass(frozen=True)
class _Group:
    """Consecutive rows of a shard that are solved together, from ``first`` up to ``last``."""

    first: int
    last: int


@dataclass(frozen=True)
class _Batch:
    """Pieces of the rows of a group.

    Attributes:
        indices: (pieces, length) int32 or int64 minor rows.
        values: (pieces, length) float32.
        lengths: (pieces,) int32, the number of entries of each piece, without padding.
        owners: (pieces,) int32, the row of each piece, counted from the group's first.
    """

    indices: NDArray[Any]
    values: NDArray[np.float32]
    lengths: NDArray[np.int32]
    owners: NDArray[np.int32]


class _Equations:
    """The equations A x = b of the rows of a group, on the device.

    A is the row's own part of the Gramian; the part that all rows share is added when they are solved.
    """

    def __init__(self, layout: _Layout, problem: HalfProblem, minor: NDArray[np.float32]) -> None:
        self._rows, d = layout.pieces, minor.shape[1]
        self._minor = tf.constant(minor)
        self._minor_weight = tf.constant(problem.minor_weight)
        self._unobs_weight = tf.constant(problem.unobs_weight, tf.float32)
        self._value_weight = tf.constant(problem.value_weight, tf.float32)
        self._binary = tf.constant(problem.binary)
        self._shared = self._unobs_weight * tf.matmul(self._minor, self._minor, transpose_a=True)
        self._empty = (tf.zeros((self._rows, d, d)), tf.zeros((self._rows, d)), tf.zeros(()))
        self._sums = self._empty

    def add(self, batch: _Batch, major_weight: NDArray[np.float32]) -> None:
        """Add the shares of the batch's pieces.

        Args:
            batch: a batch of the group's pieces.
            major_weight: (pieces,) weight of each piece's row.
        """
        self._sums = _add(
            *self._sums, self._minor, self._minor_weight, self._unobs_weight, self._value_weight,
            self._binary, batch.indices, batch.values, batch.lengths, batch.owners, major_weight,
        )  # fmt: skip

    def solve(self, regularization: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
        """Solve the group and begin the next.

        Args:
            regularization: (rows,) lambda of each row of the group.

        Returns:
            (rows, d) solutions, and their total loss; NaN where a system is singular.
        """
        padded = np.ones(self._rows, np.float32)
        padded[: len(regularization)] = regularization
        solutions, loss = _solve(*self._sums, self._shared, padded)
        self._sums = self._empty
        return solutions.numpy()[: len(regularization)], float(loss)


def _add_shares(
    systems: Any, rights: Any, constant: Any, minor: Any, minor_weight: Any, unobs_weight: Any,
    value_weight: Any, binary: Any, indices: Any, values: Any, lengths: Any, owners: Any, major_weight: Any,
) -> Any:  # fmt: skip
    """Return systems, right sides and the sum of (w0 + e) t^2 with the shares of some pieces added."""
    real = tf.sequence_mask(lengths, indices.shape[1], tf.float32)
    excess = major_weight[:, None] * tf.gather(minor_weight, indices) + value_weight * tf.abs(values)
    excess *= real
    targets = tf.where(binary, tf.cast(values > 0, tf.float32), values)
    weighted = (unobs_weight * real + excess) * targets
    factors = tf.gather(minor, indices)
    shares = tf.matmul(factors, excess[:, :, None] * factors, transpose_a=True)
    right_shares = tf.linalg.matvec(factors, weighted, transpose_a=True)
    rows = systems.shape[0]
    return (
        systems + tf.math.unsorted_segment_sum(shares, owners, rows),
        rights + tf.math.unsorted_segment_sum(right_shares, owners, rows),
        constant + tf.reduce_sum(weighted * targets),
    )


def _solve_all(systems: Any, rights: Any, constant: Any, shared: Any, regularization: Any) -> Any:
    """Return the solutions, and their total loss, (sum of (w0 + e) t^2) - b'x."""
    systems += shared + regularization[:, None, None] * tf.eye(shared.shape[0])
    factors = tf.linalg.cholesky(systems)
    # Cancellation leaves only rounding of a singular pivot, which must not be divided by.
    pivots, scales = tf.square(tf.linalg.diag_part(factors)), tf.linalg.diag_part(systems)
    definite = tf.reduce_all(pivots > 1e-6 * scales, axis=1)
    solutions = tf.linalg.cholesky_solve(factors, rights[:, :, None])[:, :, 0]
    solutions = tf.where(definite[:, None], solutions, np.nan)
    # A row without entries or of padding is 0, regardless of its equations.
    solutions = tf.where(tf.reduce_any(rights != 0, axis=1)[:, None], solutions, 0.0)
    return solutions, constant - tf.reduce_sum(rights * solutions)


_add = tf.function(_add_shares)
_solve = tf.function(_solve_all)


def _pieces(counts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    return -(-counts // length)


def _groups(shard: Shard, layout: _Layout) -> Iterator[_Group]:
    """Yield groups of up to ``layout.pieces`` rows whose pieces fit one batch, unless a row exceeds it."""
    starts = np.concatenate([[0], np.cumsum(_pieces(np.diff(shard.indptr), layout.length))])
    first = 0
    while first < shard.rows:
        fitting = int(np.searchsorted(starts, starts[first] + layout.pieces, side="right")) - 1
        last = min(max(fitting, first + 1), first + layout.pieces)
        yield _Group(first, last)
        first = last


def _batches(shard: Shard, group: _Group, layout: _Layout) -> Iterator[_Batch]:
    """Yield the pieces of a group's rows in as many batches as they need."""
    starts = shard.indptr[group.first : group.last + 1]
    counts = np.diff(starts)
    pieces = _pieces(counts, layout.length)
    owners = np.repeat(np.arange(len(counts), dtype=np.int32), pieces)
    numbers = np.arange(len(owners)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begins = starts[owners] + numbers * layout.length
    lengths = np.minimum(starts[owners + 1] - begins, layout.length)
    for first in range(0, len(owners), layout.pieces):
        chosen = slice(first, first + layout.pieces)
        yield _batch(shard, begins[chosen], lengths[chosen], owners[chosen], layout)


def _batch(
    shard: Shard, begins: NDArray[np.int64], lengths: NDArray[Any], owners: NDArray[np.int32], layout: _Layout
) -> _Batch:
    shape = (layout.pieces, layout.length)
    real = np.zeros(shape, bool)
    real[: len(begins)] = np.arange(layout.length) < lengths[:, None]
    # The pieces of consecutive rows are consecutive entries.
    entries = slice(begins[0], begins[-1] + lengths[-1])
    indices, values = np.zeros(shape, shard.indices.dtype), np.zeros(shape, np.float32)
    indices[real], values[real] = shard.indices[entries], shard.values[entries]
    return _Batch(indices, values, _padded(lengths, layout.pieces), _padded(owners, layout.pieces))


def _padded(numbers: NDArray[Any], size: int) -> NDArray[np.int32]:
    result = np.zeros(size, np.int32)
    result[: len(numbers)] = numbers
    return result


def _write(solutions: NDArray[np.float32], shard: Shard, group: _Group, major: NDArray[np.float32]) -> None:
    major[shard.first + group.first : shard.first + group.last] = solutions


def _refuse_singular(solutions: NDArray[np.float32], first: int, regularization: NDArray[np.float32]) -> None:
    row = int(np.argmin(np.isfinite(solutions).all(axis=1)))
    raise too_small(float(regularization[row]), f"leaves the equations of row {first + row} singular")
