"""Business rules: which items may be recommended, and how many of a category.

The rules are exact: a list has k items wherever k of them are left by the rules.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer.errors import InputError
from trainer.matrix import Shard
from trainer.vocabulary import Vocabulary

if TYPE_CHECKING:
    from trainer.ranking import Quota


@dataclass(frozen=True)
class Rules:
    """What may be recommended.

    Attributes:
        eligible: (n,) int32 indices of the only items that may be recommended, ascending; None for all.
        categories: (items,) int32 category of each item, from 0; -1 for an item without one, which counts
            towards none.
        max_per_category: largest number of items of one category in a list; 0 for any number.
        min_score: lowest score of a recommended item.
    """

    eligible: NDArray[np.int32] | None = None
    categories: NDArray[np.int32] | None = None
    max_per_category: int = 0
    min_score: float = -np.inf

    @classmethod
    def of(
        cls,
        items: Vocabulary,
        *,
        blocked: "pa.Array[Any] | None" = None,
        available: "pa.Array[Any] | None" = None,
        categories: "pa.Array[Any] | pa.ChunkedArray[Any] | None" = None,
        max_per_category: int = 0,
        min_score: float = -np.inf,
    ) -> Self:
        """Return the rules that a catalogue and two options make for a model.

        Args:
            items: ids of the model's items.
            blocked: string ids of items that are never recommended; None for none. Ids that the model does
                not know are ignored.
            available: string ids of the only items that are recommended; None for all.
            categories: (len(items),) strings, the category of each of the model's items in the order of
                ``items``, null where it is unknown; None if all are.
            max_per_category: largest number of items of one category in a list; 0 for any number.
            min_score: lowest score of a recommended item.

        Raises:
            InputError: no item is left to recommend, or ``max_per_category`` is given but no category.
        """
        eligible = _eligible(items, blocked, available)
        if not max_per_category:
            return cls(eligible, min_score=min_score)
        if categories is None or categories.null_count == len(categories):
            raise InputError(
                "max_per_category",
                max_per_category,
                "requires the categories of the items, and none are known",
                "give items with a column category, or 0",
            )
        encoded = pa.chunked_array([categories]) if isinstance(categories, pa.Array) else categories
        numbers = encoded.combine_chunks().dictionary_encode().indices.fill_null(-1)
        return cls(eligible, np.asarray(numbers, np.int32), max_per_category, min_score)

    def top_k(
        self,
        queries: NDArray[np.float32],
        items: NDArray[np.float32],
        k: int,
        *,
        masked: Shard | None = None,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the k best items of each query that the rules allow.

        Args:
            queries: (n, d) float32 factors.
            items: (items, d) float32 factors of all items.
            k: number of items, at least 1.
            masked: n rows of items that must not be returned.

        Returns:
            As `trainer.ranking.top_k`: indices among all items.
        """
        from trainer import ranking  # slow to import, and steps that only read a model need not

        quota, eligible = self._quota, self.eligible
        if eligible is None:
            indices, scores = ranking.top_k(queries, items, k, masked=masked, quota=quota)
        else:
            among = None if masked is None else _among(eligible, masked)
            own = self._eligible_of(items)
            positions, scores = ranking.top_k(queries, own, k, masked=among, quota=quota)
            indices = np.append(eligible, np.int32(-1))[positions]
        # A list is in the order of scores, so that those too low are its end.
        low = scores < self.min_score
        indices[low], scores[low] = -1, -np.inf
        return indices, scores

    def _eligible_of(self, items: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the rows of the eligible items: the same array as before for the same items."""
        if self._gathered.get("of") is not items:
            self._gathered.update(of=items, rows=items[self.eligible])
        return self._gathered["rows"]

    @cached_property
    def _gathered(self) -> dict[str, NDArray[np.float32]]:
        return {}

    @cached_property
    def _quota(self) -> "Quota | None":
        """The quota of categories among the eligible items."""
        if self.categories is None or not self.max_per_category:
            return None
        from trainer.ranking import Quota  # see top_k

        groups = int(self.categories.max(initial=-1)) + 1
        own = self.categories if self.eligible is None else self.categories[self.eligible]
        return Quota(own, groups, self.max_per_category)


NO_RULES = Rules()
"""Any item may be recommended."""


def _among(eligible: NDArray[np.int32], masked: Shard) -> Shard:
    """Return rows of items as rows of positions among the eligible items."""
    positions = np.searchsorted(eligible, masked.indices)
    found = np.append(eligible, np.int32(-1))[positions] == masked.indices
    ends = np.concatenate([[0], np.cumsum(found)])
    return Shard(0, ends[masked.indptr], positions[found], masked.values[found])


def _eligible(
    items: Vocabulary, blocked: "pa.Array[Any] | None", available: "pa.Array[Any] | None"
) -> NDArray[np.int32] | None:
    if blocked is None and available is None:
        return None
    allowed = np.full(len(items), available is None)
    if available is not None:
        allowed[_known(items, available)] = True
    if blocked is not None:
        allowed[_known(items, blocked)] = False
    if not allowed.any():
        raise InputError(
            "items",
            f"{len(items):,}",
            "are all blocked or unavailable, so no item is left to recommend",
            "check that both lists have the ids of the interactions",
        )
    return np.flatnonzero(allowed).astype(np.int32)


def _known(items: Vocabulary, ids: "pa.Array[Any]") -> NDArray[np.int64]:
    indices = items.index_of_texts(ids)
    return indices[indices >= 0]
