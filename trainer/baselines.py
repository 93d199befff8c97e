"""Baselines that a model has to beat: what is popular, what is bought together, and chance.

All recommend through the interface of `Recommender` and build no matrix of users by items.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.matrix import InteractionMatrix, Shard
from trainer.model import seen_of
from trainer.popularity import Popularity, for_rows
from trainer.ranking import select
from trainer.solvers.kernels import compiled
from trainer.solvers.simd import prefetch_entries, prefetch_row, take

# Steps at random places that take as long as reading one more place in order, of all items.
_SWEEP = 32

# Rows at random places in memory are loaded this many rows before they are read; of long rows only the first
# entries, which the processor then goes on from by itself.
_AHEAD = 4
_FIRST_ENTRIES = 256


class Recommender(Protocol):
    """What can be judged on a holdout."""

    def recommend(self, users: NDArray[Any], k: int, masked: Shard) -> NDArray[np.int32]:
        """Return the k best items for each user.

        Args:
            users: (n,) indices of users.
            k: number of items, at least 1.
            masked: n rows, the items that each user already has, which are not recommended.

        Returns:
            (n, k) int32 item indices, best first; -1 where fewer than k items remain.
        """
        ...


class Random:
    """Recommends items at random, each with the same probability: the floor of every metric."""

    def __init__(self, items: int, seed: int) -> None:
        """Create the recommender.

        Args:
            items: number of items.
            seed: seed of the lists, at least 0. A user gets the same list whoever else is asked for.
        """
        self._items = items
        self._offset = np.random.SeedSequence(seed).generate_state(1)

    def recommend(self, users: NDArray[Any], k: int, masked: Shard) -> NDArray[np.int32]:
        """Return k items at random, each at most once in a list; see `Recommender`."""
        lists = np.full((len(users), k), -1, np.int32)
        seeds = self._offset + np.asarray(users, np.uint32)
        for_rows(lists, _draw, self._items, seeds, masked.indptr, masked.indices, lists)
        return lists


class ItemCosine:
    """Recommends items whose users are those of the user's items (Deshpande and Karypis 2004).

    The similarity of two items is the cosine of their columns of the binary matrix: the number of common
    users over the root of the product of both numbers of users. An item keeps only its most similar items.
    A user's score of an item is the sum of its similarities to the user's items, the masked ones, among whose
    neighbours it is, so that users who were not in training are served like others. Free places, as of users
    without items, are filled by popularity.

    Memory: 8 bytes for each neighbour (80 MB for 100,000 items with 100 each), 12 bytes for each item in each
    thread, and while similarities are computed of a matrix in several shards, a copy of its indices by row (4
    bytes for each entry). Time: the sum over users of the square of their number of items, then that number
    times the neighbours.
    """

    def __init__(self, matrix: InteractionMatrix, neighbours: int = 100) -> None:
        """Compute the similarities.

        Args:
            matrix: training interactions; an entry counts whatever its value.
            neighbours: number of most similar items to keep, at least 1.
        """
        counts = matrix.column_counts()
        self._popularity = Popularity(counts)
        self._neighbours = np.full((matrix.columns, neighbours), -1, np.int32)
        self._similarities = np.zeros((matrix.columns, neighbours), np.float32)
        # Of items without users, which nothing reads.
        inverse_norms = 1 / np.sqrt(np.maximum(counts, 1), dtype=np.float32)
        users = seen_of(matrix.by_row)
        for shard in matrix.by_column:
            part = slice(shard.first, shard.first + shard.rows)
            for_rows(
                self._neighbours[part],
                _compare,
                *(shard.first, shard.indptr, shard.indices, users.indptr, users.indices, inverse_norms),
                *(self._neighbours[part], self._similarities[part]),
            )

    # The masked items are all that is asked of a user, but callers need not know which recommender they have.
    def recommend(self, users: NDArray[Any], k: int, masked: Shard) -> NDArray[np.int32]:  # noqa: ARG002
        """Return the k items most similar to the masked ones; see `Recommender`."""
        return self.recommend_for(masked, k, masked)

    def recommend_for(self, history: Shard, k: int, masked: Shard) -> NDArray[np.int32]:
        """Return the k items most similar to users' items where more than those are masked.

        Args:
            history: n rows, the items of each user.
            k: number of items, at least 1.
            masked: n rows of items that are not recommended.

        Returns:
            As `recommend`.
        """
        lists = np.full((history.rows, k), -1, np.int32)
        for_rows(
            lists,
            _add_up,
            *(self._neighbours, self._similarities, history.indptr, history.indices),
            *(masked.indptr, masked.indices, lists),
        )
        self._popularity.complete(lists, masked)
        return lists


@compiled()
def _draw(counter: Any, items: Any, seeds: Any, indptr: Any, masked: Any, lists: Any) -> None:
    """Fill the lists by the first steps of a shuffle of the items that are not masked."""
    taken = np.zeros(items, np.int64)
    shuffled = np.arange(items)
    swapped = np.empty(items, np.int64)
    i = take(counter)
    while i < len(lists):
        for e in range(indptr[i], indptr[i + 1]):
            taken[masked[e]] = i + 1
        np.random.seed(seeds[i])
        length, step = 0, 0
        while length < lists.shape[1] and step < items:
            other = step + int(np.random.random() * (items - step))
            shuffled[step], shuffled[other] = shuffled[other], shuffled[step]
            swapped[step] = other
            if taken[shuffled[step]] != i + 1:
                lists[i, length] = shuffled[step]
                length += 1
            step += 1
        # The next user's list must not depend on which thread shuffled for whom before.
        while step > 0:
            step -= 1
            other = swapped[step]
            shuffled[step], shuffled[other] = shuffled[other], shuffled[step]
        i = take(counter)


@compiled(infinities=True)
def _compare(
    counter: Any,
    first: Any,
    column_indptr: Any,
    column_users: Any,
    row_indptr: Any,
    row_items: Any,
    inverse_norms: Any,
    neighbours: Any,
    similarities: Any,
) -> None:
    """Set the neighbours of the items, of a shard from item ``first`` on, that this thread takes."""
    items = len(inverse_norms)
    common = np.zeros(items, np.int32)
    # The items with common users, and their similarities; or all items.
    touched = np.empty(items, np.int32)
    row = np.empty(items, np.float32)
    everything = np.arange(items).astype(np.int32)
    nothing = everything[:0]
    i = take(counter)
    while i < len(neighbours):
        users = column_users[column_indptr[i] : column_indptr[i + 1]]
        steps = 0
        for user in users:
            steps += row_indptr[user + 1] - row_indptr[user]
        norm = inverse_norms[first + i]
        if steps * _SWEEP > items:
            for place in range(len(users)):
                _load_items_ahead(users, place, row_indptr, row_items)
                for f in range(row_indptr[users[place]], row_indptr[users[place] + 1]):
                    common[np.uint32(row_items[f])] += 1
            common[first + i] = 0
            for item in range(items):
                row[item] = common[item] * inverse_norms[item] * norm
                common[item] = 0
            select(row, everything, nothing, neighbours[i], similarities[i])
        else:
            count = 0
            for place in range(len(users)):
                _load_items_ahead(users, place, row_indptr, row_items)
                for f in range(row_indptr[users[place]], row_indptr[users[place] + 1]):
                    item = row_items[f]
                    if common[item] == 0:
                        touched[count] = item
                        count += 1
                    common[item] += 1
            common[first + i] = 0
            for place in range(count):
                item = touched[place]
                row[place] = common[item] * inverse_norms[item] * norm
                common[item] = 0
            select(row[:count], touched, nothing, neighbours[i], similarities[i])
        i = take(counter)


@compiled(inlined=True)
def _load_items_ahead(users: Any, place: Any, indptr: Any, items: Any) -> None:
    """Start loading the items of one of the next users."""
    if place + _AHEAD < len(users):
        user = users[place + _AHEAD]
        prefetch_entries(items, indptr[user], min(indptr[user + 1], indptr[user] + _FIRST_ENTRIES))


@compiled(inlined=True)
def _load_neighbours_ahead(own: Any, place: Any, neighbours: Any, similarities: Any) -> None:
    """Start loading the neighbours of one of a user's next items."""
    if place + _AHEAD < len(own):
        prefetch_row(neighbours, own[place + _AHEAD])
        prefetch_row(similarities, own[place + _AHEAD])


@compiled(infinities=True)
def _add_up(
    counter: Any,
    neighbours: Any,
    similarities: Any,
    history_indptr: Any,
    history: Any,
    masked_indptr: Any,
    masked: Any,
    lists: Any,
) -> None:
    """Set the lists of the users that this thread takes; items without any similarity are left out."""
    items = len(neighbours)
    scores = np.zeros(items, np.float32)
    # The items with any similarity, and their scores; or all items.
    touched = np.empty(items, np.int32)
    row = np.empty(items, np.float32)
    everything = np.arange(items).astype(np.int32)
    best = np.empty(lists.shape[1], np.float32)
    i = take(counter)
    while i < len(lists):
        own = history[history_indptr[i] : history_indptr[i + 1]]
        hidden = masked[masked_indptr[i] : masked_indptr[i + 1]]
        best[:] = 0
        if len(own) * neighbours.shape[1] * _SWEEP > items:
            for e in range(len(own)):
                item = own[e]
                _load_neighbours_ahead(own, e, neighbours, similarities)
                for place in range(neighbours.shape[1]):
                    neighbour = neighbours[item, place]
                    if neighbour < 0:
                        break
                    scores[np.uint32(neighbour)] += similarities[item, place]
            select(scores, everything, hidden, lists[i], best)
            scores[:] = 0
        else:
            count = 0
            for e in range(len(own)):
                item = own[e]
                _load_neighbours_ahead(own, e, neighbours, similarities)
                for place in range(neighbours.shape[1]):
                    neighbour = neighbours[item, place]
                    if neighbour < 0:
                        break
                    if scores[neighbour] == 0:
                        touched[count] = neighbour
                        count += 1
                    scores[neighbour] += similarities[item, place]
            for place in range(count):
                row[place] = scores[touched[place]]
                scores[touched[place]] = 0
            select(row[:count], touched, hidden, lists[i], best)
        i = take(counter)
