"""The judged models as recommenders, in the indices of the new model whatever their own are."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.baselines import ItemCosine
from trainer.matrix import Shard
from trainer.model import Seen
from trainer.popularity import Popularity
from trainer.ranking import top_k

_PAIRS_AT_ONCE = 1 << 13


@dataclass(frozen=True)
class ByFactors:
    """Ranks items by the inner products of factors.

    Free places, as of users without factors, are filled by popularity.

    Attributes:
        rows: (users,) int64, the row of each user in ``user_factors``; -1 for a user who has none.
        columns: (m,) int64, ascending, the index of the item of each row of ``item_factors``.
        user_factors: (rows, d) float32.
        item_factors: (m, d) float32.
        popularity: baseline that fills the free places.
        items: number of items.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    user_factors: NDArray[np.float32]
    item_factors: NDArray[np.float32]
    popularity: Popularity
    items: int

    def recommend(self, users: NDArray[Any], k: int, masked: Shard) -> NDArray[np.int32]:
        """Return the k best items of each user; see `trainer.baselines.Recommender`."""
        rows = self.rows[users]
        known = np.flatnonzero(rows >= 0)
        lists = np.full((len(users), k), -1, np.int32)
        if len(known):
            lists[known] = self._rank(rows[known], k, Seen(masked.indptr, masked.indices).rows(known))
        self.popularity.complete(lists, masked)
        return lists

    def predict(self, users: NDArray[Any], items: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        """Return which pairs have factors on both sides, and the inner products of those.

        Args:
            users: (n,) indices of users.
            items: (n,) indices of items.
        """
        rows, places = self.rows[users], self._places[items]
        known = (rows >= 0) & (places >= 0)
        rows, places = rows[known], places[known]
        predicted = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), _PAIRS_AT_ONCE):
            pairs = slice(start, start + _PAIRS_AT_ONCE)
            np.einsum(
                "nd,nd->n",
                self.user_factors[rows[pairs]],
                self.item_factors[places[pairs]],
                out=predicted[pairs],
            )
        return known, predicted

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        places = np.full(self.items, -1, np.int64)
        places[self.columns] = np.arange(len(self.columns))
        return places

    def _rank(self, rows: NDArray[np.int64], k: int, masked: Shard) -> NDArray[np.int32]:
        if len(self.columns) == self.items:
            return top_k(self.user_factors[rows], self.item_factors, k, masked=masked)[0]
        masked = renumbered(masked, self._places)
        best, _ = top_k(self.user_factors[rows], self.item_factors, k, masked=masked)
        found: NDArray[np.int32] = np.where(best >= 0, self.columns[best], -1).astype(np.int32)
        return found


@dataclass(frozen=True)
class BySimilarity:
    """Ranks items by their similarity to the users' training items, whatever else is masked.

    Attributes:
        items: similarities of the items.
        seen: training items of each user.
    """

    items: ItemCosine
    seen: Seen

    def recommend(self, users: NDArray[Any], k: int, masked: Shard) -> NDArray[np.int32]:
        """Return the k best items of each user; see `trainer.baselines.Recommender`."""
        return self.items.recommend_for(self.seen.rows(users), k, masked)


def renumbered(rows: Shard, number_of: NDArray[np.int64]) -> Shard:
    """Return rows with other numbers of the items, without the items that have none.

    Args:
        rows: rows.
        number_of: new number of each item, -1 for none; in the order of the old ones, so that rows stay
            ascending.
    """
    numbers = number_of[rows.indices]
    kept = numbers >= 0
    return dataclasses.replace(rows.only(kept), indices=numbers[kept].astype(np.int32))
