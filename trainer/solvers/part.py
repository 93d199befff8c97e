"""Some rows of a side of the matrix, which one of several processes solves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from trainer.matrix import Shard, rows_between
from trainer.weighting import HalfProblem

_ROW_COST = 8
"""Fixed work per row, expressed in entries."""


def bounds_of(indptr: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Divide rows into runs of about equal work.

    Args:
        indptr: (rows + 1,) offsets of the rows' entries.
        number: number of runs; some are empty if there are fewer rows.

    Returns:
        (number + 1,) int64, the first row of each run, and the number of rows.
    """
    cost = indptr + _ROW_COST * np.arange(len(indptr))
    return np.searchsorted(cost, np.linspace(0, cost[-1], number + 1)).astype(np.int64)


@dataclass(frozen=True)
class Part:
    """Consecutive rows of a side.

    Attributes:
        first: index in the whole matrix of the first row.
        stop: index of the row after the last one.
        shards: at least one, whose first row is row 0.
        problem: weights and regularisation of these rows.
    """

    first: int
    stop: int
    shards: Sequence[Shard]
    problem: HalfProblem

    @classmethod
    def of(cls, shards: Sequence[Shard], problem: HalfProblem, first: int, stop: int) -> Self:
        """Return the rows from ``first`` up to ``stop`` of a side.

        Args:
            shards: all rows of the side.
            problem: weights and regularisation of all its rows.
            first: the first row.
            stop: the row after the last one.
        """
        found = [replace(shard, first=shard.first - first) for shard in rows_between(shards, first, stop)]
        return cls(first, stop, found or [_empty(shards[0])], problem.rows(first, stop))


def _empty(like: Shard) -> Shard:
    return Shard(0, like.indptr[:1], like.indices[:0], like.values[:0])
