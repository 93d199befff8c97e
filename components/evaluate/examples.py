"""Examples of what users get, which people can judge by eye."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer.matrix import InteractionMatrix
from trainer.model import Model

_USERS = 6
_POPULAR_ITEMS = 6
_LIKED = 5
_RECOMMENDED = 10
_SIMILAR = 5


@dataclass(frozen=True)
class Item:
    """An item as people know it.

    Attributes:
        id: its id as text.
        title: its title; its id where the catalogue has none.
        category: its category; "" where the catalogue has none.
        note: what distinguishes it in its list, such as ``rated 5``; "" for nothing.
    """

    id: str
    title: str
    category: str = ""
    note: str = ""


@dataclass(frozen=True)
class User:
    """A user with what they like and what they get.

    Attributes:
        id: the user's id as text.
        known: number of interactions that the model knows.
        held_out: number of interactions that it has to predict.
        found: how many of those are among the recommended items.
        liked: the items with the highest values, best first.
        recommended: the items with the highest scores, best first.
    """

    id: str
    known: int
    held_out: int
    found: int
    liked: tuple[Item, ...]
    recommended: tuple[Item, ...]


@dataclass(frozen=True)
class Neighbourhood:
    """A popular item and those that are most similar to it, most similar first."""

    item: Item
    similar: tuple[Item, ...]


@dataclass(frozen=True)
class Examples:
    """What the report shows of the model's lists.

    Attributes:
        users: users from few to many interactions.
        neighbourhoods: the most popular items, the most popular one first.
    """

    users: tuple[User, ...] = ()
    neighbourhoods: tuple[Neighbourhood, ...] = ()

    def items(self) -> Iterator[Item]:
        """Yield the items of all lists."""
        for user in self.users:
            yield from (*user.liked, *user.recommended)
        for place in self.neighbourhoods:
            yield from (place.item, *place.similar)


class HeldOut(Protocol):
    """The held-out entries of the users who have any, compressed by user."""

    @property
    def users(self) -> NDArray[np.int64]:
        """(n,) indices, ascending."""

    @property
    def indptr(self) -> NDArray[np.int64]:
        """(n + 1,) offsets of each user's entries."""

    @property
    def items(self) -> NDArray[Any]:
        """(entries,) item indices."""


def examples_of(model: Model, known: InteractionMatrix, held_out: HeldOut, described: "pa.Table") -> Examples:
    """Return examples, the same for the same arguments.

    The users are those in the middle of six equal parts of the judged users by their number of interactions.

    Args:
        model: the model, with factors and seen items of the users.
        known: the interactions by which the model knows its users: the training matrix, or the history of
            users who were held out whole.
        held_out: the interactions to predict.
        described: columns ``title`` and ``category`` (string, null where unknown) of the items in the order
            of the model's vocabulary, as `trainer.catalogue` returns them.
    """
    items = _Items(model, described)
    return Examples(
        tuple(_user(model, known, held_out, items, place) for place in _spread(known, held_out)),
        _neighbourhoods(model, items),
    )


@dataclass(frozen=True)
class _Items:
    model: Model
    described: "pa.Table"

    def take(self, indices: NDArray[Any], notes: Sequence[str] = ()) -> tuple[Item, ...]:
        """Return items by their indices; -1 stands for none."""
        present = indices[indices >= 0]
        ids = [str(item) for item in self.model.items.take(present)]
        rows = self.described.take(pa.array(present)).to_pylist()
        return tuple(
            Item(item, (row["title"] or "").strip() or item, (row["category"] or "").strip(), note)
            for item, row, note in zip(ids, rows, notes or [""] * len(ids), strict=True)
        )


def _spread(known: InteractionMatrix, held_out: HeldOut) -> NDArray[np.int64]:
    """Return the places in ``held_out`` of users whom the model knows, from the least to the most active."""
    counts = known.row_counts()[held_out.users]
    by_activity = np.argsort(counts, kind="stable")
    by_activity = by_activity[counts[by_activity] > 0]
    middles = (np.arange(_USERS) + 0.5) * len(by_activity) / _USERS
    return by_activity[np.unique(middles.astype(np.int64))] if len(by_activity) else by_activity


def _user(model: Model, known: InteractionMatrix, held_out: HeldOut, items: _Items, place: int) -> User:
    user = int(held_out.users[place])
    wanted = held_out.items[held_out.indptr[place] : held_out.indptr[place + 1]]
    liked, values = known.row(user)
    best = np.argsort(-values, kind="stable")[:_LIKED]
    recommended = model.recommend([user], min(_RECOMMENDED, len(model.items)))[0][0]
    recommended = recommended[recommended >= 0]
    found = np.isin(recommended, wanted)
    word = "rated" if model.config.feedback == "explicit" else "value"
    noted = [] if (values == 1).all() else [f"{word} {value:g}" for value in values[best]]
    return User(
        id=str(model.users.take(np.array([user]))[0]),
        known=len(liked),
        held_out=len(wanted),
        found=int(found.sum()),
        liked=items.take(liked[best], noted),
        recommended=items.take(recommended, ["held out: found" if hit else "" for hit in found]),
    )


def _neighbourhoods(model: Model, items: _Items) -> tuple[Neighbourhood, ...]:
    popular = np.argsort(-model.item_counts, kind="stable")[:_POPULAR_ITEMS]
    similar = model.similar_items(popular, min(_SIMILAR, len(model.items)))[0]
    return tuple(
        Neighbourhood(item, items.take(row)) for item, row in zip(items.take(popular), similar, strict=True)
    )
