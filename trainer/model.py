"""The trained model: factors and their ids, saving and loading, recommending.

As an artifact (schema ``wals.model`` v1) it is a folder of

    user_factors.npy    float32 (users, d)
    item_factors.npy    float32 (items, d)
    users.parquet       column id, in the order of the factors
    items.parquet       likewise
    seen.indptr.npy     int64 (users + 1,), offsets of each user's training items
    seen.indices.npy    int32 or int64, those items' indices, ascending within a user
    _manifest.json       config, how it was chosen, counts, history of the training, and the SHA-256 of each
                        file
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainer.arrays import load_array, save_array, unload
from trainer.choice import Choice
from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.files import (
    Count,
    Digest,
    Manifest,
    Schema,
    begin_artifact,
    finish_artifact,
    having,
    read_manifest,
)
from trainer.history import Iteration
from trainer.matrix import Shard, gathered
from trainer.rules import NO_RULES, Rules
from trainer.solvers import make_solver
from trainer.vocabulary import ITEMS_FILE, USERS_FILE, Vocabulary, read_sides
from trainer.weighting import HalfProblem

SCHEMA = Schema("wals.model", 1)

_ARRAYS = ("user_factors", "item_factors", "seen.indptr", "seen.indices")
FILES = (*(f"{name}.npy" for name in _ARRAYS), USERS_FILE, ITEMS_FILE)
"""The files of a model besides its manifest."""

_PAIRS_AT_ONCE = 1 << 17
_ENTRIES_AT_ONCE = 1 << 20
_USERS_AT_ONCE = 1 << 13
_RETRAIN = "train the model again"


class _ModelManifest(Manifest):
    config: dict[str, Any]
    users: Count
    items: Count
    latent_factors: Count
    entries: Count
    training: Digest | None = None
    history: tuple[Iteration, ...]
    choice: Choice | None = None
    sha256: Annotated[dict[str, Digest], having(*FILES)]


@dataclass(frozen=True)
class Seen:
    """The training items of each user, as compressed rows.

    Attributes:
        indptr: (users + 1,) int64 offsets into ``indices``.
        indices: (entries,) int32 or int64 item indices, ascending within a user.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[Any]

    def is_of(self, users: int, items: int) -> bool:
        """Return whether kernels can trust the arrays with this number of users and items."""
        indptr, indices = self.indptr, self.indices
        return bool(
            indptr.dtype == np.int64
            and indices.dtype in (np.int32, np.int64)
            and indptr.shape == (users + 1,)
            and indices.ndim == 1
            and indptr[0] == 0
            and indptr[-1] == len(indices)
            and (np.diff(indptr) >= 0).all()
            and (len(indices) == 0 or (indices.min() >= 0 and indices.max() < items))
        )

    def rows(self, users: NDArray[Any]) -> Shard:
        """Return the rows of ``users``, in that order."""
        indptr, places = gathered(self.indptr, users)
        return Shard(0, indptr, self.indices[places], np.ones(len(places), np.float32))


@dataclass(frozen=True)
class Model:
    """Factors of users and items.

    Attributes:
        config: parameters of the training.
        user_factors: (users, d) float32.
        item_factors: (items, d) float32.
        users: ids of the users.
        items: ids of the items.
        seen: training items of each user.
        history: one entry for each iteration of the training.
        training: checksum of the ``wals.matrix`` artifact that it was trained on, if it was one.
        choice: how parameters at ``auto`` were chosen, if any were.
    """

    config: TrainConfig
    user_factors: NDArray[np.float32]
    item_factors: NDArray[np.float32]
    users: Vocabulary
    items: Vocabulary
    seen: Seen
    history: tuple[Iteration, ...] = ()
    training: str | None = None
    choice: Choice | None = None

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the model as an artifact and return its manifest.

        Raises:
            InputError: the folder cannot be written.
        """
        begin_artifact(folder)
        arrays: list[NDArray[Any]]
        arrays = [self.user_factors, self.item_factors, self.seen.indptr, self.seen.indices]
        digests = {
            f"{name}.npy": save_array(folder / f"{name}.npy", array)
            for name, array in zip(_ARRAYS, arrays, strict=True)
        }
        for name, vocabulary in ((USERS_FILE, self.users), (ITEMS_FILE, self.items)):
            digests[name] = vocabulary.save(folder / name)
        content = {
            "config": self.config.model_dump(),
            "users": len(self.users),
            "items": len(self.items),
            "latent_factors": self.config.latent_factors,
            "entries": len(self.seen.indices),
            "training": self.training,
            "history": [dataclasses.asdict(iteration) for iteration in self.history],
            "choice": dataclasses.asdict(self.choice) if self.choice else None,
            "sha256": digests,
        }
        finish_artifact(folder, SCHEMA, content)
        return content

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Open the model in ``folder``; its arrays are memory-mapped.

        Raises:
            InputError: it is not a complete ``wals.model`` artifact, a file is truncated or changed, or the
                factors have the wrong shape or are not finite.
        """
        folder = Path(folder)
        manifest = read_manifest(folder, SCHEMA, _ModelManifest)
        digests = manifest.sha256
        arrays = [load_array(folder / f"{name}.npy", digests[f"{name}.npy"]) for name in _ARRAYS]
        model = cls(
            TrainConfig(**manifest.config),
            arrays[0],
            arrays[1],
            *read_sides(folder, digests),
            Seen(arrays[2], arrays[3]),
            manifest.history,
            manifest.training,
            manifest.choice,
        )
        model._check(folder)
        for array in arrays:
            unload(array)
        return model

    def recommend(
        self, user_indices: ArrayLike, k: int, *, mask_seen: bool = True, rules: Rules = NO_RULES
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the k items with the highest scores for each user.

        Args:
            user_indices: (n,) indices of users.
            k: number of items, at least 1.
            mask_seen: omit the user's training items.
            rules: what may be recommended; all items by default.

        Returns:
            (n, k) item indices, best first, and their (n, k) scores; -1 and -inf where fewer than k remain.

        Raises:
            InputError: an index out of range, or k below 1.
        """
        users = _indices("user", user_indices, len(self.users))
        _check_k(k)
        indices = np.empty((len(users), k), np.int32)
        scores = np.empty((len(users), k), np.float32)
        for start in range(0, len(users), _USERS_AT_ONCE):
            block = slice(start, start + _USERS_AT_ONCE)
            masked = self.seen.rows(users[block]) if mask_seen else None
            best = rules.top_k(self.user_factors[users[block]], self.item_factors, k, masked=masked)
            indices[block], scores[block] = best
        return indices, scores

    def recommend_for(
        self, history: Shard, k: int, *, mask_seen: bool = True, rules: Rules = NO_RULES
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the k best items for users who were not in training, from their histories.

        Args:
            history: a row for each user, as for `fold_in`.
            k: number of items, at least 1.
            mask_seen: omit the items of the history.
            rules: what may be recommended; all items by default.

        Returns:
            As `recommend`.

        Raises:
            InputError: k is below 1, or the history is invalid.
        """
        _check_k(k)
        masked = history if mask_seen else None
        return rules.top_k(self.fold_in(history), self.item_factors, k, masked=masked)

    def similar_items(
        self, item_indices: ArrayLike, k: int, *, rules: Rules = NO_RULES
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the k items nearest to each item by cosine similarity of factors, without the item itself.

        Args:
            item_indices: (n,) indices of items.
            k: number of items, at least 1.
            rules: which items may be shown. Those on scores and categories, which are about recommendations,
                do not matter here.

        Returns:
            (n, k) item indices, best first, and their (n, k) cosines; -1 and -inf where fewer than k remain.

        Raises:
            InputError: an index out of range, or k below 1.
        """
        items = _indices("item", item_indices, len(self.items))
        _check_k(k)
        itself = Shard(0, np.arange(len(items) + 1), items, np.ones(len(items), np.float32))
        eligible = Rules(eligible=rules.eligible)
        return eligible.top_k(self._directions[items], self._directions, k, masked=itself)

    def fold_in(self, history: Shard) -> NDArray[np.float32]:
        """Solve exactly for the factors of users who were not in training, regularised as in training.

        Args:
            history: a row for each user with the indices of the items and the values.

        Returns:
            (rows, d) float32; 0 for a user without items.

        Raises:
            InputError: the history is invalid (see `Shard.check`).
        """
        history.check(len(self.items))
        shard = dataclasses.replace(history, first=0)
        problem = HalfProblem.of_users(self.config, np.diff(shard.indptr), self.item_counts)
        factors = np.zeros((shard.rows, self.config.latent_factors), np.float32)
        exact = self.config.replace(solver="cholesky")
        make_solver(exact).sweep([shard], problem, self.item_factors, factors)
        return factors

    def predict(self, user_indices: ArrayLike, item_indices: ArrayLike) -> NDArray[np.float32]:
        """Return the inner product of each pair's factors, the model's estimate of the pair's target.

        Args:
            user_indices: (n,) indices of users.
            item_indices: (n,) indices of items.

        Returns:
            (n,) float32.

        Raises:
            InputError: an index out of range.
        """
        users = _indices("user", user_indices, len(self.users))
        items = _indices("item", item_indices, len(self.items))
        predicted = np.empty(len(users), np.float32)
        for start in range(0, len(users), _PAIRS_AT_ONCE):
            pairs = slice(start, start + _PAIRS_AT_ONCE)
            np.einsum(
                "nd,nd->n",
                self.user_factors[users[pairs]],
                self.item_factors[items[pairs]],
                out=predicted[pairs],
            )
        return predicted

    @cached_property
    def item_counts(self) -> NDArray[np.int64]:
        """Number of training entries of each item, (items,) int64."""
        counts = np.zeros(len(self.items), np.int64)
        # NumPy copies what it counts as int64.
        for start in range(0, len(self.seen.indices), _ENTRIES_AT_ONCE):
            counts += np.bincount(self.seen.indices[start : start + _ENTRIES_AT_ONCE], minlength=len(counts))
        return counts

    @cached_property
    def _directions(self) -> NDArray[np.float32]:
        lengths = np.linalg.norm(self.item_factors, axis=1, keepdims=True)
        directions: NDArray[np.float32] = self.item_factors / np.maximum(lengths, np.finfo(np.float32).tiny)
        return directions

    def _check(self, folder: Path) -> None:
        d = self.config.latent_factors
        for name, factors, ids in (
            ("user_factors", self.user_factors, self.users),
            ("item_factors", self.item_factors, self.items),
        ):
            if factors.shape != (len(ids), d):
                problem = f"is not the shape {(len(ids), d)} in {folder}"
                raise InputError(name, factors.shape, problem, _RETRAIN)
            if factors.dtype != np.float32:
                raise InputError(name, str(factors.dtype), f"is not float32 in {folder}", _RETRAIN)
            check_finite(name, factors)
        if not self.seen.is_of(len(self.users), len(self.items)):
            raise InputError("seen", str(folder), "does not fit the users and items", _RETRAIN)


def check_finite(name: str, factors: NDArray[np.float32]) -> None:
    """Refuse factors with NaN or infinite numbers.

    Raises:
        InputError: naming the first such row.
    """
    for start in range(0, len(factors), _PAIRS_AT_ONCE):
        wrong = ~np.isfinite(factors[start : start + _PAIRS_AT_ONCE]).all(axis=1)
        if wrong.any():
            row = start + int(np.argmax(wrong))
            raise InputError(name, f"row {row}", "is not finite", _RETRAIN)


def seen_of(shards: Sequence[Shard]) -> Seen:
    """Return the entries of all shards of rows together; a single shard is not copied."""
    if len(shards) == 1:
        return Seen(shards[0].indptr, shards[0].indices)
    counts = np.concatenate([np.diff(shard.indptr) for shard in shards])
    return Seen(np.concatenate([[0], np.cumsum(counts)]), np.concatenate([shard.indices for shard in shards]))


def _check_k(k: int) -> None:
    if k < 1:
        raise InputError("k", k, "is below 1", "give an integer of at least 1")


def _indices(side: str, indices: ArrayLike, size: int) -> NDArray[np.int64]:
    checked = np.asarray(indices, np.int64).reshape(-1)
    wrong = (checked < 0) | (checked >= size)
    if wrong.any():
        problem = f"is out of range for {size} {side}s"
        raise InputError(f"{side} index", int(checked[wrong][0]), problem, f"give a known {side}")
    return checked
