"""Ranking: the k best items of each query, by the inner products of factors."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.matrix import Shard
from trainer.solvers.kernels import compiled, in_threads
from trainer.solvers.simd import take
from trainer.threads import usable_cores

# Scores of a block of queries: enough rows for a fast matrix product, near the size of a last-level cache.
_BLOCK_BYTES = 32 << 20
_STRIDE = 64


def top_k(
    queries: NDArray[np.float32],
    items: NDArray[np.float32],
    k: int,
    *,
    masked: Shard | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the k items with the largest inner products with each query.

    Args:
        queries: (n, d) float32 factors.
        items: (items, d) float32 factors.
        k: number of items, at least 1.
        masked: n rows of items that must not be returned.

    Returns:
        (n, k) int32 indices, best first and among equals the smaller index first, and their (n, k) float32
        scores; -1 and -inf where fewer than k items remain.
    """
    count = len(queries)
    indices = np.full((count, k), -1, np.int32)
    scores = np.full((count, k), -np.inf, np.float32)
    block = max(1, _BLOCK_BYTES // (4 * max(1, len(items))))
    if masked is None:
        masked = Shard(0, np.zeros(count + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
    for start in range(0, count, block):
        stop = min(start + block, count)
        product = np.ascontiguousarray(queries[start:stop] @ items.T)
        in_threads(
            min(usable_cores(), stop - start),
            _rank,
            *(product, masked.indptr[start : stop + 1], masked.indices),
            *(indices[start:stop], scores[start:stop]),
        )
    return indices, scores


@compiled(infinities=True)
def _rank(
    counter: Any, product: Any, masked_indptr: Any, masked_indices: Any, indices: Any, scores: Any
) -> None:
    i = take(counter)
    while i < len(product):
        for e in range(masked_indptr[i], masked_indptr[i + 1]):
            product[i, masked_indices[e]] = -np.inf
        _select(product[i], indices[i], scores[i])
        i = take(counter)


@compiled(inlined=True, infinities=True)
def _select(row: Any, indices: Any, scores: Any) -> None:
    """Insert each score above the worst of the best so far; most strides are skipped by their maximum."""
    worst = scores[len(scores) - 1]
    for begin in range(0, len(row), _STRIDE):
        stride = row[begin : begin + _STRIDE]
        highest = stride[0]
        for f in range(len(stride)):
            highest = max(highest, stride[f])
        if not highest > worst:
            continue
        for f in range(len(stride)):
            if stride[f] > worst:
                _insert(stride[f], begin + f, indices, scores)
                worst = scores[len(scores) - 1]


@compiled(inlined=True, infinities=True)
def _insert(score: Any, index: Any, indices: Any, scores: Any) -> None:
    place = len(scores) - 1
    while place > 0 and scores[place - 1] < score:
        scores[place] = scores[place - 1]
        indices[place] = indices[place - 1]
        place -= 1
    scores[place] = score
    indices[place] = index
