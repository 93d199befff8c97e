"""Errors of predicted values: how far predictions of the held-out entries are from their targets."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from components.artifacts.evaluation import Recommender
from components.evaluate.recommenders import ByFactors
from components.evaluate.targets import Targets
from trainer.config import TrainConfig
from trainer.matrix import InteractionMatrix


def prediction_errors(
    targets: Targets,
    matrix: InteractionMatrix,
    models: Mapping[Recommender, tuple[ByFactors, TrainConfig]],
    users_at_once: int,
) -> dict[Recommender, dict[str, float]]:
    """Return RMSE and MAE of the models, and of items' mean training values as the popularity baseline.

    With explicit feedback, a pair that a model has no factors for gets the baseline's prediction. With
    implicit feedback, the target of every entry is 1: only the RMSE of the new model says anything, and it
    compares no two recommenders.

    Args:
        targets: held-out entries.
        matrix: training entries.
        models: the new model, and the champion if there is one, with their configuration; a champion of
            other feedback than the new model's predicts something else and is left out.
        users_at_once: number of users whose predictions may be in memory.

    Returns:
        Metrics by recommender.
    """
    feedback = models["model"][1].feedback
    if feedback == "implicit":
        errors = _Errors()
        for block in targets.blocks(users_at_once):
            errors.add((block.values > 0) - _predicted(models["model"][0], block, 0.0))
        return {"model": {"rmse": errors.rmse}}
    means = _mean_values(matrix)
    comparable = {name: model for name, (model, config) in models.items() if config.feedback == feedback}
    tallies: dict[Recommender, _Errors] = {name: _Errors() for name in (*comparable, "popularity")}
    for block in targets.blocks(users_at_once):
        expected = means[block.items]
        tallies["popularity"].add(block.values - expected)
        for name, model in comparable.items():
            tallies[name].add(block.values - _predicted(model, block, expected))
    return {name: {"rmse": tally.rmse, "mae": tally.mae} for name, tally in tallies.items()}


class _Errors:
    def __init__(self) -> None:
        self._entries, self._squares, self._sizes = 0, 0.0, 0.0

    def add(self, errors: NDArray[np.float32]) -> None:
        exact = errors.astype(np.float64)
        self._entries += len(exact)
        self._squares += float(exact @ exact)
        self._sizes += float(np.abs(exact).sum())

    @property
    def rmse(self) -> float:
        return float(np.sqrt(self._squares / self._entries))

    @property
    def mae(self) -> float:
        return self._sizes / self._entries


def _predicted(
    model: ByFactors, block: Targets, otherwise: float | NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the prediction of each entry, and ``otherwise`` where the model has no factors."""
    users = np.repeat(block.users, np.diff(block.indptr))
    known, values = model.predict(users, block.items)
    predicted = np.broadcast_to(np.float32(otherwise), known.shape).copy()
    predicted[known] = values
    return predicted


def _mean_values(matrix: InteractionMatrix) -> NDArray[np.float32]:
    """Return each item's mean training value, (items,); the overall mean for items without entries."""
    sums = np.zeros(matrix.columns)
    for shard in matrix.by_column:
        owners = np.repeat(np.arange(shard.rows), np.diff(shard.indptr))
        sums[shard.first : shard.first + shard.rows] = np.bincount(
            owners, weights=shard.values, minlength=shard.rows
        )
    counts = matrix.column_counts()
    means = np.full(len(sums), sums.sum() / matrix.entries)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means.astype(np.float32)
