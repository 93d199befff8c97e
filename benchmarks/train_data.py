"""The data of the training benchmark: a generated matrix that resembles real ones, and MovieLens.

Requires only NumPy and SciPy, because it is also imported in the peers' environment.
"""

import csv
from pathlib import Path

import numpy as np
from scipy import sparse

USERS, ITEMS, ENTRIES = 40_000, 12_000, 5_350_000
HELD_OUT = 0.1
_TASTES = 128
_USERS_AT_ONCE = 1_000


def power_law_matrix(
    users: int = USERS, items: int = ITEMS, entries: int = ENTRIES, seed: int = 1
) -> sparse.csr_array:
    """Return a binary matrix in which users pick popular items of their tastes.

    User u draws n_u items without replacement with probability proportional to
    ``popularity_j exp(a_u . b_j)`` (Gumbel top-n): Zipf popularity, log-normal activity, and Gaussian tastes
    whose strength falls with the square root of their rank.

    Returns:
        (users, items) CSR, float32 ones, about ``entries`` of them, sorted within rows.
    """
    random = np.random.default_rng(seed)
    strength = (np.arange(1, _TASTES + 1) ** -0.5).astype(np.float32)
    strength *= np.float32(8.0 / np.linalg.norm(strength))
    user_tastes = random.standard_normal((users, _TASTES), np.float32) * strength
    item_tastes = random.standard_normal((items, _TASTES), np.float32)
    popularity = (-0.8 * np.log(np.arange(1, items + 1) + 20.0)).astype(np.float32)
    activity = random.lognormal(0.0, 0.9, users)
    counts = np.clip(np.round(activity * (entries / activity.sum())), 5, items // 8).astype(np.int64)
    rows = []
    for start in range(0, users, _USERS_AT_ONCE):
        stop = min(start + _USERS_AT_ONCE, users)
        score = user_tastes[start:stop] @ item_tastes.T + popularity
        uniform = random.random(score.shape, np.float32)
        score -= np.log(-np.log(np.clip(uniform, 1e-7, 1 - 1e-7)))
        rows += [
            np.sort(np.argpartition(-row, n)[:n]) for row, n in zip(score, counts[start:stop], strict=True)
        ]
    indices = np.concatenate(rows).astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return sparse.csr_array((np.ones(len(indices), np.float32), indices, indptr), shape=(users, items))


def movielens_matrix(path: Path) -> sparse.csr_array:
    """Return the users' items in a MovieLens ``ratings.csv`` as ones, regardless of the rating."""
    with path.open(newline="") as file:
        pairs = np.array([(int(row["userId"]), int(row["movieId"])) for row in csv.DictReader(file)])
    _, users = np.unique(pairs[:, 0], return_inverse=True)
    _, items = np.unique(pairs[:, 1], return_inverse=True)
    return sparse.csr_array((np.ones(len(pairs), np.float32), (users, items)))


def split(matrix: sparse.csr_array, seed: int = 7) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Return the training entries and the held-out tenth, as matrices of the same shape."""
    held_out = np.random.default_rng(seed).random(matrix.nnz) < HELD_OUT
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    parts = []
    for part in (~held_out, held_out):
        entries = (matrix.data[part], (rows[part], matrix.indices[part]))
        parts.append(sparse.csr_array(entries, shape=matrix.shape))
    return parts[0], parts[1]
