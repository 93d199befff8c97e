"""Ranking: the k best items of each query, by the inner products of factors."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from trainer.config import TrainConfig
from trainer.matrix import Shard
from trainer.scanning import STRIDE, lowest, make_room, ones, reaching
from trainer.solvers import ranking_device
from trainer.solvers.cuda.device import Device
from trainer.solvers.cuda.topk import MAX_K, CudaTopK
from trainer.solvers.kernels import compiled, in_threads
from trainer.solvers.simd import take
from trainer.threads import usable_cores

# Scores of a block of queries with a block of items: enough for a fast matrix product, and few enough to stay
# in the last-level cache until they are ranked.
_BLOCK_BYTES = 8 << 20
_ITEMS_AT_ONCE = 1 << 10
# With no more queries, putting the items in order takes longer than it saves.
_FEW_QUERIES = 64
# Insertion takes most of the time of longer lists.
_LONG_LIST = 32
_HALVINGS = 12
_NO_ITEM = np.iinfo(np.int32).max

logger = logging.getLogger(__name__)


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


class _OnGpu:
    """Ranks on a GPU what it can, and says once why it leaves others to the CPU."""

    def __init__(self, gpu: CudaTopK) -> None:
        self._gpu = gpu
        self._told: set[str] = set()

    def top_k(
        self,
        queries: NDArray[np.float32],
        items: NDArray[np.float32],
        k: int,
        masked: Shard,
        quota: Quota | None,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]] | None:
        """Return the result of `top_k`; None if it is left to the CPU."""
        reason, found = "", None
        if quota is not None:
            reason = "max_per_category is not supported on GPUs"
        elif k > MAX_K:
            reason = f"lists of more than {MAX_K:,} items are not supported on GPUs"
        else:
            found = self._gpu.top_k(queries, items, k, masked)
            if found is None:
                reason = f"{self._gpu.device.name} has no room for the factors of {len(items):,} items"
        if reason and reason not in self._told:
            logger.info("ranking on the CPU: %s", reason)
            self._told.add(reason)
        return found


_ON_GPU: ContextVar[_OnGpu | None] = ContextVar("_ON_GPU", default=None)


@contextmanager
def ranking_as_trained(config: TrainConfig) -> Iterator[Device | None]:
    """Let `top_k` use the GPU in this context, if training with the parameters would use it on this machine.

    It takes seconds to start a GPU, so this is for many lists. The items' factors that `top_k` is called with
    must not change meanwhile. Yields the GPU; None if the CPU ranks.

    Args:
        config: parameters of the model's training.

    Raises:
        InputError: there is a GPU that cannot be used.
    """
    device = ranking_device(config)
    token = _ON_GPU.set(_OnGpu(CudaTopK(device)) if device else None)
    try:
        yield device
    finally:
        _ON_GPU.reset(token)


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
        masked: n rows of items that must not be returned, ascending within a row.
        quota: if given, each list takes the items in turn, best first, and leaves out those whose group is
            full.

    Returns:
        (n, k) int32 indices, best first and among equals the smaller index first, and their (n, k) float32
        scores; -1 and -inf where fewer than k items remain. A GPU may order items whose scores differ by
        rounding differently; see `ranking_as_trained`.
    """
    count = len(queries)
    if masked is None:
        masked = Shard(0, np.zeros(count + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
    gpu = _ON_GPU.get()
    found = gpu.top_k(queries, items, k, masked, quota) if gpu else None
    if found is not None:
        return found
    indices = np.full((count, k), -1, np.int32)
    scores = np.full((count, k), -np.inf, np.float32)
    by_length = _ByLength.of(items) if count > _FEW_QUERIES else None
    lengths = _lengths(queries)
    width = max(1, min(len(items), max(_ITEMS_AT_ONCE, _BLOCK_BYTES // (4 * max(1, count)))))
    block = max(1, _BLOCK_BYTES // (4 * width))
    room = np.empty(min(block, count) * width, np.float32)
    for start in range(0, count, block):
        rows = np.arange(start, min(start + block, count))
        for first in range(0, len(items), width):
            if by_length:
                # Later items are shorter, and scores to exceed only rise: who cannot gain now never will.
                rows = rows[lengths[rows] * by_length.lengths[first] >= scores[rows, -1]]
                numbers = by_length.order[first : first + width]
                factors = items[numbers]
            else:
                factors = items[first : first + width]
                numbers = np.arange(first, first + len(factors), dtype=np.int32)
            if not len(rows):
                break
            product = room[: len(rows) * len(numbers)].reshape(len(rows), len(numbers))
            np.matmul(queries[rows], factors.T, out=product)
            in_threads(
                min(usable_cores(), len(rows)),
                *((_rank,) if quota is None else (_rank_within, *quota)),
                *(product, numbers, rows, masked.indptr, masked.indices, indices, scores),
            )
    return indices, scores


class _ByLength(NamedTuple):
    """The items by the lengths of their factors, the longest first.

    Attributes:
        order: (items,) int32 indices.
        lengths: (items,) float64, see `_lengths`.
    """

    order: NDArray[np.int32]
    lengths: NDArray[np.float64]

    @classmethod
    def of(cls, items: NDArray[np.float32]) -> Self:
        lengths = _lengths(items)
        order = np.argsort(-lengths, kind="stable").astype(np.int32)
        return cls(order, lengths[order])


def _lengths(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return lengths of vectors, (n, d), rounded up: no computed inner product exceeds that of lengths."""
    squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    rounding = 1 + vectors.shape[1] * np.finfo(np.float32).eps
    lengths: NDArray[np.float64] = np.sqrt(squares) * rounding
    return lengths


@compiled(infinities=True)
def _rank(
    counter: Any,
    product: Any,
    numbers: Any,
    rows: Any,
    masked_indptr: Any,
    masked: Any,
    indices: Any,
    scores: Any,
) -> None:
    """Insert the items ``numbers`` into the lists ``rows``, with the scores in ``product``."""
    i = take(counter)
    while i < len(rows):
        row = rows[i]
        hidden = masked[masked_indptr[row] : masked_indptr[row + 1]]
        if indices[row, 0] < 0:
            _begin(product[i], len(hidden), indices[row], scores[row])
        select(product[i], numbers, hidden, indices[row], scores[row])
        i = take(counter)


@compiled(infinities=True)
def _rank_within(
    counter: Any,
    group: Any,
    groups: Any,
    most: Any,
    product: Any,
    numbers: Any,
    rows: Any,
    masked_indptr: Any,
    masked: Any,
    indices: Any,
    scores: Any,
) -> None:
    """Rank like `_rank`, with the fields of a `Quota`."""
    listed = np.zeros(groups, np.int64)
    i = take(counter)
    while i < len(rows):
        row = rows[i]
        hidden = masked[masked_indptr[row] : masked_indptr[row + 1]]
        for item in indices[row]:
            if item >= 0 and group[item] >= 0:
                listed[group[item]] += 1
        _select_within(product[i], numbers, hidden, group, most, listed, indices[row], scores[row])
        for item in indices[row]:
            if item >= 0 and group[item] >= 0:
                listed[group[item]] = 0
        i = take(counter)


@compiled(inlined=True, infinities=True)
def _begin(row: Any, hidden: Any, indices: Any, scores: Any) -> None:
    """Begin a long list with a score that enough of the first items reach, so that few others are inserted.

    Args:
        row: (n,) float32 scores, finite.
        hidden: number of items that are not inserted.
        indices: (k,) int32, to set to an index above all others.
        scores: (k,) float32, to set to a score that k of the items that are inserted reach.
    """
    enough = len(scores) + hidden
    if len(scores) < _LONG_LIST or 3 * enough > len(row):
        return
    low = high = row[0]
    for f in range(len(row)):
        low, high = min(low, row[f]), max(high, row[f])
    for _ in range(_HALVINGS):
        middle = np.float32(0.5) * low + np.float32(0.5) * high
        count = 0
        for begin in range(0, len(row) - STRIDE + 1, STRIDE):
            count += ones(reaching(row, begin, middle))
        if count < enough:
            high = middle
        else:
            low = middle
            if 4 * count < 5 * enough:
                break
    scores[:] = low
    indices[:] = _NO_ITEM


@compiled(inlined=True, infinities=True)
def select(row: Any, numbers: Any, hidden: Any, indices: Any, scores: Any) -> None:
    """Insert each score above the worst of the best so far; most strides are skipped by their maximum.

    Args:
        row: (n,) float32 scores.
        numbers: (n,) integers, the item of each score; the smaller one comes first among equal scores.
        hidden: item numbers that are not inserted, ascending.
        indices: (k,) int32, the best items so far, best first; -1 at first.
        scores: (k,) float32, their scores; what a score has to exceed at first.
    """
    last = len(scores) - 1
    whole = len(row) - len(row) % STRIDE
    for begin in range(0, whole, STRIDE):
        mask = reaching(row, begin, scores[last])
        while mask != 0:
            f = begin + lowest(mask)
            mask &= mask - np.uint64(1)
            _offer(row[f], numbers[f], hidden, indices, scores)
    for f in range(whole, len(row)):
        _offer(row[f], numbers[f], hidden, indices, scores)


@compiled(inlined=True, infinities=True)
def _offer(score: Any, number: Any, hidden: Any, indices: Any, scores: Any) -> None:
    last = len(scores) - 1
    if _precedes(score, number, scores[last], indices[last]) and not _is_among(number, hidden):
        _insert(score, number, indices, scores)


@compiled(inlined=True, infinities=True)
def _select_within(
    row: Any,
    numbers: Any,
    hidden: Any,
    group: Any,
    most: Any,
    listed: Any,
    indices: Any,
    scores: Any,
) -> None:
    """Insert like `select`; an item of a full group takes the place of the group's worst, if it is better.

    The list is always the best of the items so far: an item that a full list or a full group once had no
    place for is not missed later, because the items that kept it out are only replaced by better ones.

    Args:
        row: see `select`.
        numbers: see `select`.
        hidden: see `select`.
        group: see `Quota`.
        most: see `Quota`.
        listed: number of items of each group in the list.
        indices: see `select`.
        scores: see `select`.
    """
    last = len(scores) - 1
    whole = len(row) - len(row) % STRIDE
    for begin in range(0, whole, STRIDE):
        mask = reaching(row, begin, scores[last])
        while mask != 0:
            f = begin + lowest(mask)
            mask &= mask - np.uint64(1)
            _offer_within(row[f], numbers[f], hidden, group, most, listed, indices, scores)
    for f in range(whole, len(row)):
        _offer_within(row[f], numbers[f], hidden, group, most, listed, indices, scores)


@compiled(inlined=True, infinities=True)
def _offer_within(
    score: Any, number: Any, hidden: Any, group: Any, most: Any, listed: Any, indices: Any, scores: Any
) -> None:
    place = len(scores) - 1
    if not _precedes(score, number, scores[place], indices[place]) or _is_among(number, hidden):
        return
    own = group[number]
    if own >= 0 and listed[own] == most:
        while indices[place] < 0 or group[indices[place]] != own:
            place -= 1
        if not _precedes(score, number, scores[place], indices[place]):
            return
    if indices[place] >= 0 and group[indices[place]] >= 0:
        listed[group[indices[place]]] -= 1
    if own >= 0:
        listed[own] += 1
    _insert(score, number, indices[: place + 1], scores[: place + 1])


@compiled(inlined=True, infinities=True)
def _precedes(score: Any, number: Any, other: Any, its_number: Any) -> Any:
    return score > other or (score == other and number < its_number)


@compiled(inlined=True, infinities=True)
def _is_among(number: Any, ascending: Any) -> Any:
    low, high = 0, len(ascending)
    while low < high:
        middle = (low + high) // 2
        if ascending[middle] < number:
            low = middle + 1
        else:
            high = middle
    return low < len(ascending) and ascending[low] == number


@compiled(inlined=True, infinities=True)
def _insert(score: Any, number: Any, indices: Any, scores: Any) -> None:
    """Insert an item that precedes the last one, which is dropped."""
    place = 0
    for other in range(len(scores)):
        place += scores[other] > score
    while scores[place] == score and indices[place] < number:
        place += 1
    make_room(scores, place, len(scores) - 1)
    make_room(indices, place, len(scores) - 1)
    scores[place] = score
    indices[place] = number
