"""The held-out entries that recommenders are judged on, and what divides them into segments."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from trainer.matrix import InteractionMatrix, Shard, kept_offsets
from trainer.model import seen_of

_DRAW = 0
"""Seed of the draw of users: that of the training would judge each model on users of its own."""

_HEAD_SHARE = 0.5
"""Share of the training interactions that the items of the head have."""


@dataclass(frozen=True)
class Targets:
    """Held-out entries of the users who have any.

    Attributes:
        users: (n,) int64 indices, ascending.
        indptr: (n + 1,) int64 offsets of each user's entries.
        items: (entries,) int32 or int64 item indices, ascending within a user.
        values: (entries,) float32.
    """

    users: NDArray[np.int64]
    indptr: NDArray[np.int64]
    items: NDArray[Any]
    values: NDArray[np.float32]

    @classmethod
    def of(cls, matrix: InteractionMatrix) -> Self:
        """Return the entries of a matrix; those of a single shard are not copied."""
        entries = seen_of(matrix.by_row)
        users = np.flatnonzero(np.diff(entries.indptr))
        values = (
            matrix.by_row[0].values
            if len(matrix.by_row) == 1
            else np.concatenate([shard.values for shard in matrix.by_row])
        )
        return cls(users, np.append(entries.indptr[users], entries.indptr[-1]), entries.indices, values)

    @property
    def entries(self) -> int:
        """Number of entries."""
        return len(self.items)

    def blocks(self, users: int) -> Iterator[Self]:
        """Yield the entries of at most ``users`` users at a time."""
        for start in range(0, len(self.users), users):
            offsets = self.indptr[start : start + users + 1]
            entries = slice(offsets[0], offsets[-1])
            yield type(self)(
                self.users[start : start + users],
                offsets - offsets[0],
                self.items[entries],
                self.values[entries],
            )

    def drawn(self, most: int) -> Self:
        """Return the entries of at most so many users, drawn at random; 0 is for any number.

        Each user has a fixed place in the draw, so that of any two sets of users mostly the same are drawn.
        """
        if not most or len(self.users) <= most:
            return self
        places = np.random.default_rng(_DRAW).random(int(self.users[-1]) + 1, np.float32)[self.users]
        kept = np.zeros(len(self.users), bool)
        kept[np.argsort(places, kind="stable")[:most]] = True
        return self.only(np.repeat(kept, np.diff(self.indptr)))[0]

    def only(self, kept: NDArray[np.bool_]) -> tuple[Self, NDArray[np.int64]]:
        """Return some of the entries, and the positions of the users who have any of them.

        Args:
            kept: (entries,) whether to keep an entry.
        """
        offsets = kept_offsets(self.indptr, kept)
        positions = np.flatnonzero(np.diff(offsets))
        left = type(self)(
            self.users[positions],
            np.append(offsets[positions], offsets[-1]),
            self.items[kept],
            self.values[kept],
        )
        return left, positions

    def without(self, seen: Callable[[NDArray[np.int64]], Shard], items: int, at_once: int) -> Self:
        """Return the entries that are not among the users' rows of another matrix.

        Args:
            seen: function that returns the rows of some users.
            items: number of items.
            at_once: number of users whose rows may be in memory.
        """
        kept = []
        for block in self.blocks(at_once):
            rows = seen(block.users)
            sought = keys_of(block.indptr, block.items, items)
            # Both ascend; the last key of all belongs to no pair.
            keys = np.append(keys_of(rows.indptr, rows.indices, items), len(block.users) * items)
            kept.append(keys[np.searchsorted(keys, sought)] != sought)
        return self.only(np.concatenate(kept))[0]


def keys_of(indptr: NDArray[np.int64], items: NDArray[Any], width: int) -> NDArray[np.int64]:
    """Return one number for each pair of a row and an item, ascending if the items of each row are."""
    rows = np.repeat(np.arange(len(indptr) - 1, dtype=np.int64), np.diff(indptr))
    keys: NDArray[np.int64] = rows * width + items
    return keys


class Activity(NamedTuple):
    """The division of users into thirds by their number of training interactions.

    Attributes:
        cold: most interactions of a cold user.
        middle: most interactions of a user in the middle; heavy ones have more.
    """

    cold: int
    middle: int

    @classmethod
    def of(cls, counts: NDArray[np.int64]) -> Self:
        """Return the division of judged users with these numbers of training interactions."""
        return cls(*(int(bound) for bound in np.quantile(counts, [1 / 3, 2 / 3], method="inverted_cdf")))

    def names(self, counts: NDArray[np.int64]) -> NDArray[np.str_]:
        """Return the name of each user's part: cold, middle or heavy."""
        return np.array(["cold", "middle", "heavy"])[np.searchsorted(self, counts)]


def is_head(counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which items are the head: the most popular ones that have half of the training interactions.

    Args:
        counts: (items,) training interactions of each item.
    """
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    head = np.zeros(len(counts), bool)
    head[order[before < _HEAD_SHARE * counts.sum()]] = True
    return head
