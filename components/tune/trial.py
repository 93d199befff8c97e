"""A trial: train with a candidate's parameters, rung by rung, and evaluate on a validation set."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from components.options import RankingOptions
from components.tune.options import training_config
from components.tune.study import FIRST_RUNG, Pruner, parameters_of
from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.history import Iteration
from trainer.matrix import InteractionMatrix
from trainer.metrics import metric_name, ranking_metrics
from trainer.model import Model
from trainer.splitting import Split
from trainer.training import fit, settled

_VALIDATION_FRACTION = 0.1

logger = logging.getLogger(__name__)


def run_trial(options: RankingOptions, *, matrix: Path, candidate: Mapping[str, Any]) -> dict[str, Any]:
    """Train one candidate and return the trial.

    A tenth of the training matrix, the same for every trial of a seed, is the validation set; the pipeline's
    holdout stays untouched for the final evaluation. Training goes from rung to rung (2, 4, 8, ... iterations
    up to the configured number), continuing from the factors of the previous one, and ends early if the
    pruner says so.

    Args:
        options: `components.tune.options.TrialOptions`; the validation metric is NDCG at ``eval_k``.
        matrix: folder of the ``wals.matrix`` artifact of training interactions.
        candidate: candidate from `components.tune.study.suggest`.

    Returns:
        The trial; see `components.tune.study`.

    Raises:
        InputError: a parameter is not usable, or the folder is not the expected artifact.
    """
    # Lines for each iteration would drown those about the rungs.
    logging.getLogger("trainer.training").setLevel(logging.WARNING)
    tuned = training_config(options, **parameters_of(candidate))
    split = _split(InteractionMatrix.open(matrix).to_scipy(), tuned.seed)
    number = int(candidate["number"])
    pruner = Pruner(candidate["rungs_before"])
    values: dict[str, float] = {}
    pruned = False
    for iterations, model, is_last in _rungs(split.train, tuned):
        values[str(iterations)] = _ndcg(model, split.test, options.eval_k)
        logger.info(
            "trial %d: NDCG@%d %.4f after %d iterations",
            *(number, options.eval_k, values[str(iterations)], iterations),
        )
        # A trial that gets to its last rung counts as complete.
        pruned = not is_last and pruner.stops(iterations, values[str(iterations)])
        if pruned:
            break
    return {
        "number": number,
        "parameters": candidate["parameters"],
        "values": values,
        "pruned": pruned,
        "rungs": pruner.rungs(),
    }


def _split(matrix: sparse.csr_array[np.float32], seed: int) -> Split:
    held_out = np.random.default_rng(seed).random(matrix.nnz) < _VALIDATION_FRACTION
    if not held_out.any() or held_out.all():
        raise InputError("matrix", matrix.nnz, "has too few entries to hold some out", "tune with more data")
    return Split.by(matrix, held_out)


def _rungs(training: sparse.csr_array, config: TrainConfig) -> Iterator[tuple[int, Model, bool]]:
    """Yield the model after 2, 4, 8, ... and finally all iterations, and whether it is the last one.

    As in the final training, the last one can come early, once the progress falls below ``min_rel_progress``.
    """
    interactions = InteractionMatrix.from_scipy(training)
    model: Model | None = None
    history: list[Iteration] = []
    rung, is_last = FIRST_RUNG, False
    while not is_last:
        upto = min(rung, config.num_iters)
        model = fit(
            interactions, config.replace(num_iters=upto - len(history)), warm_start=model, has_holdout=True
        )
        history += model.history
        rung *= 2
        is_last = len(history) >= config.num_iters or settled(history, config.min_rel_progress)
        yield len(history), model, is_last


def _ndcg(model: Model, validation: sparse.csr_array, k: int) -> float:
    users = np.flatnonzero(np.diff(validation.indptr))
    indptr = np.concatenate([[0], validation.indptr[1:][users]])
    recommended, _ = model.recommend(users, min(k, len(model.items)))
    metrics = ranking_metrics(recommended, indptr, validation.indices, [k])
    return float(metrics[metric_name("ndcg", k)].mean())
