"""The champion, the model that the registry calls so, in the indices of the new model."""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from components.artifacts.profile import Profile
from components.evaluate.recommenders import ByFactors, renumbered
from components.registry import Registry, Version, time_of
from components.registry.serving import serving_model
from trainer.errors import InputError
from trainer.matrix import InteractionMatrix, Shard
from trainer.model import Model
from trainer.popularity import Popularity

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Champion:
    """The model that serves.

    Attributes:
        version: its name in the registry.
        promoted: time since which it serves, ISO 8601 in UTC.
        model: the model.
        rows: (users,) int64, its index of each user of the new model; -1 for one that it does not know.
        numbers: (its items,) int64, the new model's index of each of its items; -1 for one that is gone.
        items: number of items of the new model.
        created: when it was delivered.
        refitted: whether it was trained on the interactions that were held out to judge it.
        profile: profile of the interactions that it was made from; None if its version has none.
    """

    version: str
    promoted: str
    model: Model
    rows: NDArray[np.int64]
    numbers: NDArray[np.int64]
    items: int
    created: datetime
    refitted: bool
    profile: Profile | None

    def seen(self, users: NDArray[np.int64]) -> Shard:
        """Return the items that it was trained on of each user, by the new model's indices.

        Args:
            users: (n,) the new model's indices of users.

        Returns:
            n rows; empty for a user that it does not know.
        """
        rows = self.rows[users]
        seen = renumbered(self.model.seen.rows(np.maximum(rows, 0)), self.numbers)
        if (rows >= 0).all():
            return seen
        return seen.only(np.repeat(rows >= 0, np.diff(seen.indptr)))

    @property
    def unknown_items(self) -> NDArray[np.bool_]:
        """Which items of the new model it does not know, (items,)."""
        unknown = np.ones(self.items, bool)
        unknown[self._columns] = False
        return unknown

    def beside(self, counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the interactions of each item that either model knows, by the new model and by this one.

        Args:
            counts: (items,) the new model's.
        """
        own = self.model.item_counts
        gone = own[self.numbers < 0]
        before = np.zeros(self.items, np.int64)
        before[self._columns] = own[self.numbers >= 0]
        return np.append(counts, np.zeros_like(gone)), np.append(before, gone)

    def recommender(self, popularity: Popularity, history: InteractionMatrix | None) -> ByFactors:
        """Return it as a recommender of the items that both models know.

        Args:
            popularity: baseline that answers for users that it knows nothing about.
            history: interactions of users held out whole, for whom it gets factors by fold-in, as the new
                model does; None if users are not held out whole.
        """
        if history is None:
            trained = np.diff(self.model.seen.indptr) > 0
            rows = np.where((self.rows >= 0) & trained[self.rows], self.rows, -1)
            factors = self.model.user_factors
        else:
            rows, factors = self._folded_in(history)
        # The items that both know, in ascending order of either index.
        common = self.model.item_factors[self.numbers >= 0]
        return ByFactors(rows, self._columns, factors, common, popularity, self.items)

    @cached_property
    def _columns(self) -> NDArray[np.int64]:
        return self.numbers[self.numbers >= 0]

    def _folded_in(self, history: InteractionMatrix) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        own = np.full(self.items, -1, np.int64)
        own[self._columns] = np.flatnonzero(self.numbers >= 0)
        rows = np.full(history.rows, -1, np.int64)
        factors = np.zeros((history.rows, self.model.config.latent_factors), np.float32)
        for shard in history.by_row:
            known = renumbered(shard, own)
            users = slice(shard.first, shard.first + shard.rows)
            factors[users] = self.model.fold_in(known)
            rows[users] = np.where(np.diff(known.indptr) > 0, np.arange(users.start, users.stop), -1)
        return rows, factors


@contextlib.contextmanager
def champion_of(address: str, new: Model) -> Iterator[Champion | None]:
    """Yield the champion of a registry; None if there is no registry, or no champion in it yet.

    Args:
        address: folder of the registry; empty for none.
        new: model whose indices the champion is to have.

    Raises:
        InputError: the registry cannot be used; the champion is damaged or of another schema, its ids have
            other types, or it knows none of the items.
        WalsError: the registry cannot be reached.
    """
    with serving_model(address) if address else contextlib.nullcontext() as serving:
        if serving is None:
            yield None
            return
        version, model = serving.version, serving.model
        for side, theirs, ours in (("user", model.users, new.users), ("item", model.items, new.items)):
            if theirs.ids.type != ours.ids.type:
                raise serving.refused(
                    f"has {side} ids of type {theirs.ids.type}, and the new model {ours.ids.type}",
                    "give the registry of these data",
                )
        numbers = new.items.index_of(model.items.ids)
        if not (numbers >= 0).any():
            raise serving.refused(
                f"knows none of the {len(new.items):,} items", "give the registry of these data"
            )
        rows = model.users.index_of(new.users.ids)
        yield Champion(
            version=version.name,
            promoted=serving.pointer.promoted,
            model=model,
            rows=rows,
            numbers=numbers,
            items=len(new.items),
            created=time_of(version.name),
            refitted=version.refit_iters > 0,
            profile=_profile_of(serving.registry, version),
        )


def _profile_of(registry: Registry, version: Version) -> Profile | None:
    """Return the profile in a version; None if it has none, or a damaged one, which is no reason to fail."""
    if "profile" not in version.parts:
        return None
    try:
        with registry.local(version.name, "profile") as folder:
            return Profile.read(folder)
    except InputError as error:
        logger.warning("the data are not compared with the champion's: %s", error)
        return None
