"""Generated interactions of several shapes, with popularity and tastes to find."""

from collections.abc import Callable

import numpy as np
from scipy import sparse


def interactions(
    users: int,
    items: int,
    entries: int,
    *,
    skew: float = 1.0,
    taste: float = 1.5,
    activity: float = 0.8,
    counts: bool = False,
    seed: int = 1,
) -> sparse.csr_array[np.float32]:
    """Return a matrix in which users draw items by popularity and taste, without replacement (Gumbel top-n).

    Args:
        users: number of users.
        items: number of items.
        entries: about how many entries.
        skew: exponent of the Zipf law of popularity.
        taste: standard deviation of tastes, in logits.
        activity: standard deviation of the logarithm of a user's number of entries.
        counts: whether values are counts, which are larger for what suits a user; else they are 1.
        seed: seed of everything.
    """
    random = np.random.default_rng(seed)
    popularity = -skew * np.log(random.permutation(items) + 8.0)
    tastes = random.standard_normal((users, 12)) @ random.standard_normal((12, items)) / np.sqrt(12)
    gains = taste * tastes + popularity + random.gumbel(size=(users, items))
    active = np.exp(activity * random.standard_normal(users))
    lengths = np.clip(np.round(active * (entries / active.sum())), 1, items // 2).astype(int)
    ranked = np.argsort(-gains, axis=1)
    rows = np.repeat(np.arange(users), lengths)
    columns = np.concatenate([row[:length] for row, length in zip(ranked, lengths, strict=True)])
    values = np.ones(len(rows), np.float32)
    if counts:
        values += random.poisson(np.exp(np.clip(tastes[rows, columns], -3, 2))).astype(np.float32)
    return sparse.csr_array((values, (rows, columns)), shape=(users, items))


def ratings() -> sparse.csr_array[np.float32]:
    """Return ratings from 1 to 5, which depend on the item, the user and the user's tastes."""
    matrix = interactions(500, 150, 15_000, skew=0.5)
    random = np.random.default_rng(9)
    users = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    item, user = random.standard_normal(matrix.shape[1]), random.standard_normal(matrix.shape[0])
    own, others = (random.standard_normal((size, 3)) for size in matrix.shape)
    value = 3.5 + 0.4 * item[matrix.indices] + 0.5 * user[users]
    value += 0.5 * np.einsum("nd,nd->n", own[users], others[matrix.indices])
    matrix.data[:] = np.clip(np.round(value + 0.4 * random.standard_normal(len(value))), 1, 5)
    return matrix


SHAPES: dict[str, Callable[[], sparse.csr_array[np.float32]]] = {
    "sparse shop log": lambda: interactions(4_000, 1_000, 50_000, taste=1.2, activity=1.0),
    "dense": lambda: interactions(400, 200, 16_000, skew=0.5, taste=2.0, activity=0.4),
    "long tail": lambda: interactions(2_000, 4_000, 30_000, skew=1.2, activity=1.2),
    "tiny": lambda: interactions(50, 60, 700, taste=2.0, activity=0.5),
    "counts": lambda: interactions(1_500, 500, 30_000, counts=True),
}
