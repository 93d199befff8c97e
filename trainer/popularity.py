"""Recommending what is popular: the baseline that nothing may lose to, and what completes short lists."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.matrix import Shard
from trainer.solvers.kernels import compiled, in_threads
from trainer.solvers.simd import take
from trainer.threads import usable_cores


class Popularity:
    """Recommends the items with the most interactions, the smaller index first among equals."""

    def __init__(self, counts: NDArray[Any]) -> None:
        """Order the items.

        Args:
            counts: (items,) training interactions of each item.
        """
        self._order = np.argsort(-np.asarray(counts), kind="stable").astype(np.int32)

    def recommend(self, users: NDArray[Any], k: int, masked: Shard) -> NDArray[np.int32]:
        """Return the k most popular items that are not masked; see `trainer.baselines.Recommender`."""
        lists = np.full((len(users), k), -1, np.int32)
        self.complete(lists, masked)
        return lists

    def complete(self, lists: NDArray[np.int32], masked: Shard) -> None:
        """Fill the free places of lists, in place, with the most popular items that are not in them.

        Args:
            lists: (n, k) int32 item indices, with -1 from the first free place of a list on.
            masked: n rows of items that are not recommended.
        """
        for_rows(lists, _complete, self._order, masked.indptr, masked.indices, lists)


def for_rows(rows: NDArray[Any], kernel: Callable[..., None], *arguments: Any) -> None:
    """Run a kernel in threads, if there are rows; see `trainer.solvers.kernels.in_threads`."""
    if len(rows):
        in_threads(min(usable_cores(), len(rows)), kernel, *arguments)


@compiled()
def _complete(counter: Any, order: Any, indptr: Any, masked: Any, lists: Any) -> None:
    taken = np.zeros(len(order), np.int64)
    i = take(counter)
    while i < len(lists):
        row = lists[i]
        length = 0
        while length < len(row) and row[length] >= 0:
            taken[row[length]] = i + 1
            length += 1
        if length < len(row):
            for e in range(indptr[i], indptr[i + 1]):
                taken[masked[e]] = i + 1
            for item in order:
                if length == len(row):
                    break
                if taken[item] != i + 1:
                    row[length] = item
                    length += 1
        i = take(counter)
