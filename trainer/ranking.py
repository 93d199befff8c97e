"""Ranking: the k best items of each query, by the inner products of factors."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.matrix import Shard
from trainer.solvers.kernels import compiled, in_threads
from trainer.solvers.simd import take
from trainer.threads import usable_cores

# Scores of a block of queries: enough rows for a fast matrix product, near the size of a last-level cache.
_BLOCK_BYTES = 32 << 20
_STRIDE = 64


class Quota(NamedTuple):
    """How many items of one group a list may hold.

    Attributes:
        group: (items,) int32, the group of each item, from 0; -1 for an item without a group, which is not
            counted.
        groups: number of groups.
        most: largest number of items of one group in a list, at least 1.
    """

    group: NDArray[np.int32]
    groups: int
    most: int


def top_k(
    queries: NDArray[np.float32],
    items: NDArray[np.float32],
    k: int,
    *,
    masked: Shard | None = None,
    quota: Quota | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the k items with the largest inner products with each query.

    Args:
        queries: (n, d) float32 factors.
        items: (items, d) float32 factors.
        k: number of items, at least 1.
        masked: n rows of items that must not be returned.
        quota: if given, each list takes the items in turn, best first, and leaves out those whose group is
            full.

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
            *((_rank,) if quota is None else (_rank_within, *quota)),
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
        _mask(product[i], masked_indices[masked_indptr[i] : masked_indptr[i + 1]])
        select(product[i], indices[i], scores[i])
        i = take(counter)


@compiled(infinities=True)
def _rank_within(
    counter: Any,
    group: Any,
    groups: Any,
    most: Any,
    product: Any,
    masked_indptr: Any,
    masked_indices: Any,
    indices: Any,
    scores: Any,
) -> None:
    """Rank like `_rank`, with the fields of a `Quota`."""
    listed = np.zeros(groups, np.int64)
    i = take(counter)
    while i < len(product):
        _mask(product[i], masked_indices[masked_indptr[i] : masked_indptr[i + 1]])
        _select_within(product[i], group, most, listed, indices[i], scores[i])
        for item in indices[i]:
            if item >= 0 and group[item] >= 0:
                listed[group[item]] = 0
        i = take(counter)


@compiled(inlined=True, infinities=True)
def _mask(row: Any, masked: Any) -> None:
    for item in masked:
        row[item] = -np.inf


@compiled(inlined=True, infinities=True)
def select(row: Any, indices: Any, scores: Any) -> None:
    """Insert each score above the worst of the best so far; most strides are skipped by their maximum.

    Args:
        row: (items,) float32 scores.
        indices: (k,) int32, to set to the best items, the smaller index first among equals; -1 at first.
        scores: (k,) float32, to set to their scores; what a score has to exceed at first.
    """
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
def _select_within(row: Any, group: Any, most: Any, listed: Any, indices: Any, scores: Any) -> None:
    """Insert like `select`; an item of a full group takes the place of the group's worst, if it is better.

    The list is always the best of the items so far: an item that a full list or a full group once had no
    place for is not missed later, because the items that kept it out are only replaced by better ones.

    Args:
        row: score of each item.
        group: see `Quota`.
        most: see `Quota`.
        listed: number of items of each group in the list; zeros at first.
        indices: the list to fill in.
        scores: their scores.
    """
    last = len(scores) - 1
    for begin in range(0, len(row), _STRIDE):
        stride = row[begin : begin + _STRIDE]
        highest = stride[0]
        for f in range(len(stride)):
            highest = max(highest, stride[f])
        if not highest > scores[last]:
            continue
        for f in range(len(stride)):
            if not stride[f] > scores[last]:
                continue
            own = group[begin + f]
            place = last
            if own >= 0 and listed[own] == most:
                while indices[place] < 0 or group[indices[place]] != own:
                    place -= 1
                if not stride[f] > scores[place]:
                    continue
            if indices[place] >= 0 and group[indices[place]] >= 0:
                listed[group[indices[place]]] -= 1
            if own >= 0:
                listed[own] += 1
            _insert(stride[f], begin + f, indices[: place + 1], scores[: place + 1])


@compiled(inlined=True, infinities=True)
def _insert(score: Any, index: Any, indices: Any, scores: Any) -> None:
    place = len(scores) - 1
    while place > 0 and scores[place - 1] < score:
        scores[place] = scores[place - 1]
        indices[place] = indices[place - 1]
        place -= 1
    scores[place] = score
    indices[place] = index
