"""Evaluation: the model on the holdout, compared with a popularity baseline."""

import dataclasses
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.artifacts.holdout import HISTORY, SCHEMA, TARGETS
from components.evaluate.labels import BASELINE_PREFIX, metric_label, model_metrics
from components.evaluate.report import Comparison, Report, write_report
from components.options import RankingOptions, at_most_items
from trainer.errors import InputError
from trainer.files import Manifest, read_manifest
from trainer.matrix import InteractionMatrix
from trainer.metrics import ndcg_at_k, recall_at_k
from trainer.model import Model, seen_of

_USERS_PER_BLOCK = 20_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Block:
    """Users with held-out items.

    Attributes:
        users: (n,) indices of the users.
        indptr: (n + 1,) offsets of their held-out entries.
        items: (entries,) held-out item indices, ascending within a user.
        values: (entries,) float32.
    """

    users: NDArray[np.int64]
    indptr: NDArray[np.int64]
    items: NDArray[Any]
    values: NDArray[np.float32]


@dataclass
class _Tally:
    """Sums up one recommender's quality over blocks of users."""

    items: int
    users: int = 0
    entries: int = 0
    recall: float = 0.0
    ndcg: float = 0.0
    squared_error: float = 0.0
    shown: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.shown = np.zeros(self.items, bool)

    def add(
        self,
        block: _Block,
        recommended: NDArray[np.int32],
        target: NDArray[np.float32],
        predicted: NDArray[np.float32],
    ) -> None:
        users = len(block.users)
        self.recall += users * recall_at_k(recommended, block.indptr, block.items)
        self.ndcg += users * ndcg_at_k(recommended, block.indptr, block.items)
        self.squared_error += float(np.sum(np.square(target - predicted, dtype=np.float64)))
        self.users += users
        self.entries += len(target)
        self.shown[recommended[recommended >= 0]] = True

    def metrics(self, k: int, prefix: str = "") -> dict[str, float]:
        return {
            f"{prefix}rmse": float(np.sqrt(self.squared_error / self.entries)),
            f"{prefix}recall_at_{k}": self.recall / self.users,
            f"{prefix}ndcg_at_{k}": self.ndcg / self.users,
            f"{prefix}coverage": float(self.shown.mean()),
        }


def evaluate(
    options: RankingOptions, *, model: Path, training: Path, holdout: Path, report: Path
) -> dict[str, float]:
    """Score a model and the popularity baseline on a holdout, and write the HTML report.

    The baseline ranks items by their number of training interactions and predicts an item's mean training
    target. Both are scored on the users with held-out items, with the items of training masked.
    Targets are what the model was fitted to: the value with explicit feedback, 1 with implicit. Users who
    were held out whole get factors from their ``history`` in the holdout (fold-in), and its items are masked
    instead; this is strong generalisation (Liang et al. 2018, sec. 4.2).

    Args:
        options: how the ranking is evaluated.
        model: folder of a ``wals.model`` artifact.
        training: folder of the ``wals.matrix`` artifact it was trained on.
        holdout: folder of the ``wals.holdout`` artifact that belongs to that matrix.
        report: HTML file to write.

    Returns:
        ``rmse``, ``recall_at_K``, ``ndcg_at_K`` and ``coverage``, the share of the catalogue that appears
        in any list; and the baseline's metrics by the same names with the prefix ``popularity_``, except
        its RMSE with implicit feedback.

    Raises:
        InputError: the holdout is empty, or a folder is not the expected artifact.
    """
    fitted = Model.load(model)
    # The metrics keep the name of the length that was asked for: longer lists than the items change nothing.
    eval_k, length = options.eval_k, at_most_items("eval_k", options.eval_k, len(fitted.items))
    matrix = InteractionMatrix.open(training)
    read_manifest(holdout, SCHEMA, Manifest)
    targets = InteractionMatrix.open(holdout / TARGETS)
    if targets.entries == 0:
        raise InputError(
            "holdout", 0, "has no entries to score on", "hold out more, such as holdout_fraction 0.1"
        )

    if (holdout / HISTORY).exists():
        fitted = _folded_in(fitted, InteractionMatrix.open(holdout / HISTORY))
    as_target = _target_of(fitted)
    popular = _popularity(fitted, matrix)
    means = _mean_targets(matrix, as_target)
    wals, popularity = _Tally(matrix.columns), _Tally(matrix.columns)
    for block in _blocks(targets):
        target = as_target(block.values)
        pairs = np.repeat(block.users, np.diff(block.indptr))
        wals.add(block, fitted.recommend(block.users, length)[0], target, fitted.predict(pairs, block.items))
        popularity.add(block, popular.recommend(block.users, length)[0], target, means[block.items])
        logger.info("scored %d users", wals.users)
    metrics = wals.metrics(eval_k) | popularity.metrics(eval_k, BASELINE_PREFIX)
    if fitted.config.feedback == "implicit":
        # The target of every interaction is 1, which an item's mean always predicts: its RMSE is meaningless.
        del metrics[f"{BASELINE_PREFIX}rmse"]
    write_report(_report(metrics, fitted, matrix, targets), report)
    return metrics


def _folded_in(model: Model, history: InteractionMatrix) -> Model:
    """Return the model with factors and seen items from its users' histories."""
    factors = np.zeros_like(model.user_factors)
    for shard in history.by_row:
        factors[shard.first : shard.first + shard.rows] = model.fold_in(shard)
    return dataclasses.replace(model, user_factors=factors, seen=seen_of(history.by_row))


def _target_of(model: Model) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return the function from the values of entries to the targets that the model was fitted to."""
    if model.config.feedback == "implicit":
        return lambda values: (values > 0).astype(np.float32)
    return lambda values: values


def _popularity(model: Model, matrix: InteractionMatrix) -> Model:
    """Return the baseline as a model with one factor, which ranks and masks like the real one."""
    return dataclasses.replace(
        model,
        config=model.config.replace(latent_factors=1),
        user_factors=np.ones((matrix.rows, 1), np.float32),
        item_factors=matrix.column_counts().astype(np.float32)[:, None],
    )


def _mean_targets(
    matrix: InteractionMatrix, as_target: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Return each item's mean training target, (items,); the overall mean for items without entries."""
    sums = np.zeros(matrix.columns)
    for shard in matrix.by_column:
        owners = np.repeat(np.arange(shard.rows), np.diff(shard.indptr))
        sums[shard.first : shard.first + shard.rows] = np.bincount(
            owners, weights=as_target(shard.values), minlength=shard.rows
        )
    counts = matrix.column_counts()
    overall = sums.sum() / matrix.entries
    means = np.full(len(sums), overall)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means.astype(np.float32)


def _blocks(targets: InteractionMatrix) -> Iterator[_Block]:
    for shard in targets.by_row:
        for start in range(0, shard.rows, _USERS_PER_BLOCK):
            offsets = shard.indptr[start : start + _USERS_PER_BLOCK + 1]
            counts = np.diff(offsets)
            scored = np.flatnonzero(counts)
            if scored.size:
                entries = slice(offsets[0], offsets[-1])
                yield _Block(
                    shard.first + start + scored,
                    np.concatenate([[0], np.cumsum(counts[scored])]),
                    shard.indices[entries],
                    shard.values[entries],
                )


def _report(
    metrics: dict[str, float], model: Model, matrix: InteractionMatrix, targets: InteractionMatrix
) -> Report:
    comparisons = {
        name: Comparison(metric_label(name), metrics[name], metrics.get(f"{BASELINE_PREFIX}{name}"))
        for name in model_metrics(metrics)
    }
    facts = {
        "users": f"{matrix.rows:,}",
        "items": f"{matrix.columns:,}",
        "training interactions": f"{matrix.entries:,}",
        "held-out interactions": f"{targets.entries:,}",
        "users without training interactions": f"{np.count_nonzero(np.diff(model.seen.indptr) == 0):,}",
        "density": f"{matrix.entries / (matrix.rows * matrix.columns):.4%}",
        **{name: str(value) for name, value in model.config.model_dump().items()},
    }
    return Report(
        comparisons=list(comparisons.values()),
        ranking=[row for name, row in comparisons.items() if name != "rmse"],
        objective=[iteration.objective for iteration in model.history],
        facts=list(facts.items()),
    )
