"""Recommendations by ids: a trained model with titles and business rules.

>>> recommender = Recommender.load("runs/latest/model", max_per_category=3)
>>> films = recommender.recommend(42, k=2)
>>> films.schema.names
['user_id', 'item_id', 'title', 'score', 'rank']
>>> films["title"].to_pylist()
['Toy Story (1995)', 'Silence of the Lambs, The (1991)']

One id or many, as integers or as text, in a list, an array or a pandas series:

>>> recommender.recommend([42, 43], k=5).num_rows
10

All methods return Arrow tables: ``.to_pandas()`` makes data frames of them, and ``.to_pylist()`` lists of
dictionaries.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer.catalogue import CatalogueTables, no_items, read_catalogue
from trainer.errors import InputError, translated
from trainer.files import MANIFEST
from trainer.matrix import Shard
from trainer.model import Model
from trainer.rules import NO_RULES, Rules
from trainer.vocabulary import Vocabulary

Id = int | str

# Name of the model's folder in that of a run.
_MODEL = "model"


@dataclass(frozen=True)
class Recommender:
    """Recommends by the ids of the interactions, which may also be given as text.

    Attributes:
        model: the model.
        rules: what may be recommended.
        titles: (items,) strings, the title of each of the model's items, null where it is unknown; None if
            all are.
    """

    model: Model
    rules: Rules = NO_RULES
    titles: "pa.Array[Any] | pa.ChunkedArray[Any] | None" = None

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        catalogue: CatalogueTables | str | Path | None = None,
        max_per_category: int = 0,
        min_score: float = -np.inf,
    ) -> Self:
        """Open a model with its catalogue: titles, categories, and which items may be recommended.

        Args:
            folder: folder of a ``wals.model`` artifact, such as ``runs/latest/model``.
            catalogue: the catalogue, or the folder of a ``wals.catalogue`` artifact. By default
                the folder ``catalogue`` next to the model, if there is one, as in the folder of a run. Items
                that the model does not know are ignored.
            max_per_category: largest number of items of one category in a list; 0 for any number.
            min_score: lowest score of a recommended item.

        Raises:
            InputError: there is no complete model or catalogue, no item is left to recommend, or
                ``max_per_category`` is given but no category.

        >>> cheerful = CatalogueTables.of(items={"item_id": ["1", "5"], "title": ["Toy Story", None]})
        >>> Recommender.load("runs/latest/model", catalogue=cheerful).titles[:1].to_pylist()
        ['Toy Story']
        """
        folder = Path(folder)
        if not (folder / MANIFEST).exists() and (folder / _MODEL / MANIFEST).exists():
            raise InputError("model", str(folder), "is the folder of a run", f"give {folder / _MODEL}")
        model = Model.load(folder)
        known = _known(folder, catalogue)
        described = known.described(model.items) if known.items.num_rows else None
        rules = Rules.of(
            model.items,
            blocked=known.blocked,
            available=known.available,
            categories=None if described is None else described["category"],
            max_per_category=max_per_category,
            min_score=min_score,
        )
        return cls(model, rules, None if described is None else described["title"])

    def recommend(self, users: Any, k: int = 10) -> pa.Table:
        """Return the k items with the highest scores for each user, without those of the user's training.

        Args:
            users: id of a user, or a sequence or an array of ids.
            k: number of items, at least 1.

        Returns:
            A row for each recommendation, in the order of the users and best first: user_id, item_id, title
            (if titles are known), score (float32) and rank (int32, from 1). A user has fewer than k rows if
            fewer items are left, and none if the training had no interactions of the user.

        Raises:
            InputError: an id is unknown to the model, or k is below 1.

        >>> recommender.recommend("42", k=1).to_pylist()
        [{'user_id': 42, 'item_id': 1, 'title': 'Toy Story (1995)', 'score': ..., 'rank': 1}]
        """
        indices = self._users(users)
        indices = indices[np.diff(self.model.seen.indptr)[indices] > 0]
        ranked = self.model.recommend(indices, self._length(k), rules=self.rules)
        return self._table({"user_id": self.model.users.ids.take(indices)}, *ranked)

    def for_basket(self, items: Any, k: int = 10) -> pa.Table:
        """Return the k best items for someone who was not in training, from some items of interest.

        The user's factor is solved for exactly, as in training, with the value 1 for each of the items.

        Args:
            items: id of an item, or a sequence or an array of ids; repeats count once.
            k: number of items, at least 1.

        Returns:
            As `recommend`, without user_id, and without the items of the basket.

        Raises:
            InputError: an id is unknown to the model, there is none, or k is below 1.

        >>> recommender.for_basket([260, 1196], k=1)["title"].to_pylist()
        ['Star Wars: Episode VI - Return of the Jedi (1983)']
        """
        indices = np.unique(self._items(items))
        if not len(indices):
            raise InputError("items", "", "is an empty basket", "give at least one item")
        basket = Shard(0, np.array([0, len(indices)]), indices, np.ones(len(indices), np.float32))
        return self._table({}, *self.model.recommend_for(basket, self._length(k), rules=self.rules))

    def similar(self, items: Any, k: int = 10) -> pa.Table:
        """Return the k items nearest to each item by cosine similarity of factors, without the item itself.

        Only items that may be recommended are returned; rules on scores and categories do not matter here.

        Args:
            items: id of an item, or a sequence or an array of ids.
            k: number of items, at least 1.

        Returns:
            A row for each neighbour, in the order of the items and nearest first: item_id, similar_item_id,
            title of the neighbour (if titles are known), score (float32, the cosine) and rank (int32, from
            1). An item has no rows if the training had no interactions with it.

        Raises:
            InputError: an id is unknown to the model, or k is below 1.

        >>> recommender.similar(260, k=2)["similar_item_id"].to_pylist()
        [1210, 1196]
        """
        indices = self._items(items)
        indices = indices[self.model.item_factors[indices].any(axis=1)]
        ranked = self.model.similar_items(indices, self._length(k), rules=self.rules)
        return self._table({"item_id": self.model.items.ids.take(indices)}, *ranked)

    def user_factors(self, users: Any) -> pa.Table:
        """Return the factors of users, whose inner products with those of items are the scores.

        Args:
            users: id of a user, or a sequence or an array of ids.

        Returns:
            A row for each id, in their order: user_id and factor, a list of ``latent_factors`` float32
            numbers, all 0 if the training had no interactions of the user.

        Raises:
            InputError: an id is unknown to the model.

        >>> factors = recommender.user_factors([42, 43])
        >>> np.stack(factors["factor"].to_numpy()).shape
        (2, 64)
        """
        indices = self._users(users)
        return _factors("user_id", self.model.users, indices, self.model.user_factors)

    def item_factors(self, items: Any) -> pa.Table:
        """Return the factors of items, as `user_factors`: item_id and factor.

        Raises:
            InputError: an id is unknown to the model.
        """
        indices = self._items(items)
        return _factors("item_id", self.model.items, indices, self.model.item_factors)

    def _users(self, users: Any) -> NDArray[np.int64]:
        remedy = "give a user of the interactions that it was trained on, or a basket of items"
        return _indices("user", self.model.users, users, remedy)

    def _items(self, items: Any) -> NDArray[np.int64]:
        remedy = "give an item of the interactions that it was trained on"
        return _indices("item", self.model.items, items, remedy)

    def _length(self, k: int) -> int:
        """Return the length of lists that have at most all items."""
        return min(k, len(self.model.items))

    def _table(
        self,
        owners: "dict[str, pa.Array[Any]]",
        indices: NDArray[np.int32],
        scores: NDArray[np.float32],
    ) -> pa.Table:
        """Return ranked lists as a table.

        Args:
            owners: name of the column and (n,) ids of those that the lists are for; empty for one list.
            indices: (n, k) indices of items, -1 where there is none.
            scores: (n, k).
        """
        listed: dict[str, pa.Array[Any] | pa.ChunkedArray[Any]]
        listed = {"similar_item_id" if "item_id" in owners else "item_id": self.model.items.ids}
        if self.titles is not None:
            listed["title"] = self.titles
        return ranked_table(owners, listed, indices, scores)


def _known(model: Path, catalogue: CatalogueTables | str | Path | None) -> CatalogueTables:
    """Return what is known about the items of the model in a folder; see `Recommender.load`."""
    if isinstance(catalogue, CatalogueTables):
        return catalogue
    if catalogue is None:
        catalogue = model.absolute().with_name("catalogue")
        if not catalogue.is_dir():
            return CatalogueTables(no_items())
    return read_catalogue(Path(catalogue))


def _factors(
    column: str, vocabulary: Vocabulary, indices: NDArray[np.int64], factors: NDArray[np.float32]
) -> pa.Table:
    values = pa.array(factors[indices].reshape(-1))
    factor = pa.FixedSizeListArray.from_arrays(values, factors.shape[1])
    return pa.table({column: vocabulary.ids.take(indices), "factor": factor})


def ranked_table(
    owners: "Mapping[str, pa.Array[Any]]",
    listed: "Mapping[str, pa.Array[Any] | pa.ChunkedArray[Any]]",
    indices: NDArray[np.int32],
    scores: NDArray[np.float32],
) -> pa.Table:
    """Return ranked lists as a table with a row for each entry: owners, what is listed, score and rank.

    Args:
        owners: name of the column and (n,) ids of those that the lists are for; empty for one list.
        listed: names of columns and what they have for each index.
        indices: (n, k) indices, best first, -1 where there is none.
        scores: (n, k).
    """
    there = indices >= 0
    rows = np.repeat(np.arange(len(indices)), there.sum(axis=1))
    ranks = np.broadcast_to(np.arange(1, indices.shape[1] + 1, dtype=np.int32), indices.shape)
    columns: dict[str, Any] = {name: ids.take(rows) for name, ids in owners.items()}
    columns |= {name: values.take(indices[there]) for name, values in listed.items()}
    return pa.table({**columns, "score": pa.array(scores[there]), "rank": pa.array(ranks[there])})


def _indices(side: str, vocabulary: Vocabulary, ids: Any, remedy: str) -> NDArray[np.int64]:
    """Return the indices of ids, all of which the vocabulary must have."""
    one = isinstance(ids, int | str | np.integer)

    def unusable(_: Exception) -> InputError:
        return InputError(side, ids, "are not ids of one type", "give integers, or text")

    with translated(((pa.ArrowException, TypeError), unusable)):
        array = ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array([ids] if one else ids)
        # Integers may be given as text, and text as integers.
        is_own = array.type == vocabulary.ids.type
        indices = vocabulary.index_of(array) if is_own else vocabulary.index_of_texts(array.cast(pa.string()))
    unknown = np.flatnonzero(indices < 0)
    if len(unknown):
        more = f", and so are {len(unknown) - 1:,} others" if len(unknown) > 1 else ""
        raise InputError(side, array[unknown[0].item()].as_py(), f"is unknown to the model{more}", remedy)
    return indices
