"""A dense float64 reference for weighted alternating least squares, slow and obviously correct."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from trainer.config import TrainConfig
from trainer.matrix import Shard


def weights_and_targets(matrix: sparse.csr_array, config: TrainConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return W and T of every pair, (users, items) each."""
    values = matrix.toarray().astype(np.float64)
    observed = sparse.csr_array((np.ones_like(matrix.data), matrix.indices, matrix.indptr), matrix.shape)
    mask = observed.toarray() > 0
    counts = np.maximum(mask.sum(axis=0), 1)
    if config.feedback == "implicit":
        weights, targets = 1 + config.alpha * np.abs(values), (values > 0).astype(float)
    elif config.wt_type == 0:
        weights, targets = config.unobs_weight + config.feature_wt_factor / counts + 0 * values, values
    else:
        weights, targets = config.unobs_weight + (1 / counts) ** config.feature_wt_exp + 0 * values, values
    return np.where(mask, weights, config.unobs_weight), np.where(mask, targets, 0)


def regularization(matrix: sparse.csr_array, config: TrainConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return lambda of every user and of every item."""
    users, items = matrix.shape
    user_counts = np.diff(matrix.indptr)
    item_counts = np.bincount(matrix.indices, minlength=items)
    return (
        _scaled(config, user_counts + config.unobs_weight * items),
        _scaled(config, item_counts + config.unobs_weight * users),
    )


def _scaled(config: TrainConfig, mass: np.ndarray) -> np.ndarray:
    return config.regularization * np.where(mass > 0, mass, 1.0) ** config.regularization_exponent


def objective(matrix: sparse.csr_array, config: TrainConfig, users: np.ndarray, items: np.ndarray) -> float:
    """Return the objective of these factors, over every pair."""
    weights, targets = weights_and_targets(matrix, config)
    user_reg, item_reg = regularization(matrix, config)
    users, items = users.astype(np.float64), items.astype(np.float64)
    return float(
        (weights * (targets - users @ items.T) ** 2).sum()
        + user_reg @ (users**2).sum(axis=1)
        + item_reg @ (items**2).sum(axis=1)
    )


def solve(weights: np.ndarray, targets: np.ndarray, reg: np.ndarray, minor: np.ndarray) -> np.ndarray:
    """Return the exact factors of the major side."""
    minor = minor.astype(np.float64)
    d = minor.shape[1]
    return np.stack(
        [
            np.linalg.solve(minor.T @ (w[:, None] * minor) + r * np.eye(d), minor.T @ (w * t))
            for w, t, r in zip(weights, targets, reg, strict=True)
        ]
    )


def in_shards(shards: Sequence[Shard], sizes: Sequence[int]) -> list[Shard]:
    """Divide a single shard into shards of as many rows as given."""
    (whole,) = shards
    divided, first = [], 0
    for size in sizes:
        low, high = whole.indptr[first], whole.indptr[first + size]
        indptr = whole.indptr[first : first + size + 1] - low
        divided.append(Shard(first, indptr, whole.indices[low:high], whole.values[low:high]))
        first += size
    assert first == whole.rows
    return divided
