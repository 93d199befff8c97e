"""Metrics of predicted values and of ranked lists."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainer.errors import InputError


def rmse(actual: ArrayLike, predicted: ArrayLike) -> float:
    """Return the root mean squared error of predicted values.

    Args:
        actual: (n,) values.
        predicted: (n,) values.

    Raises:
        InputError: there are no values.
    """
    error = np.subtract(actual, predicted, dtype=np.float64)
    if error.size == 0:
        raise InputError("entries", 0, "have no root mean squared error", "hold out at least one entry")
    return float(np.sqrt(np.mean(error * error)))


def recall_at_k(recommended: NDArray[Any], indptr: NDArray[Any], indices: NDArray[Any]) -> float:
    """Return the mean Recall@k, hits over min(k, held-out items) (Liang et al. 2018, sec. 4.2).

    Args:
        recommended: (users, k) item indices, best first, each at most once in a row; -1 where there is none.
        indptr: (users + 1,) offsets of each user's held-out items in ``indices``.
        indices: (entries,) held-out item indices, ascending within a user.

    Returns:
        The mean over the users with held-out items, 0 to 1.

    Raises:
        InputError: no user has held-out items.
    """
    hits, held_out = _hits(recommended, indptr, indices)
    return float(np.mean(hits.sum(axis=1) / np.minimum(held_out, recommended.shape[1])))


def ndcg_at_k(recommended: NDArray[Any], indptr: NDArray[Any], indices: NDArray[Any]) -> float:
    """Return the mean NDCG@k with binary gains, the ideal cut off at k (Liang et al. 2018, sec. 4.2).

    Arguments, range and errors are those of `recall_at_k`.
    """
    hits, held_out = _hits(recommended, indptr, indices)
    k = recommended.shape[1]
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discounts)[np.minimum(held_out, k) - 1]
    return float(np.mean(hits @ discounts / ideal))


def _hits(
    recommended: NDArray[Any], indptr: NDArray[Any], indices: NDArray[Any]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which recommendations are held-out items, and how many those are, of users with any."""
    held_out = np.diff(indptr).astype(np.int64)
    counted = np.flatnonzero(held_out)
    if counted.size == 0:
        raise InputError("holdout", 0, "has no held-out entries", "hold out at least one entry")
    # With one ascending key per (user, item), one binary search decides membership.
    width = int(max(recommended.max(initial=0), indices.max(initial=0))) + 1
    keys = np.repeat(np.arange(len(held_out), dtype=np.int64) * width, held_out) + indices
    sought = counted[:, None] * width + recommended[counted]
    nearest = keys[np.minimum(np.searchsorted(keys, sought), len(keys) - 1)]
    return (nearest == sought) & (recommended[counted] >= 0), held_out[counted]
