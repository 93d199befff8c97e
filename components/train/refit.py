"""Refit: the evaluated model, trained on the holdout as well before it is delivered."""

import contextlib
import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np

from components.artifacts.holdout import open_holdout
from components.train.checkpoints import Beginning, checkpoints_of
from components.train.options import RefitOptions
from components.train.step import fit_and_save, metadata_of
from trainer.arrays import unload
from trainer.distributed.training import assist
from trainer.distributed.workers import workers_of_environment
from trainer.errors import InputError
from trainer.extras import tensorflow
from trainer.files import identity
from trainer.matrix import InteractionMatrix
from trainer.merging import merge
from trainer.model import Model
from trainer.scratch import scratch_folder
from trainer.vocabulary import load_vocabularies

_SAME_RUN = "give artifacts of one run"

logger = logging.getLogger(__name__)


def refit(
    options: RefitOptions,
    *,
    judged: Path,
    training: Path,
    holdout: Path,
    vocabulary: Path,
    model: Path,
    saved_model: Path,
) -> dict[str, dict[str, Any]]:
    """Train an evaluated model on everything, and write the model that is delivered.

    Training continues from the evaluated factors with the same parameters except ``num_iters``; weights and
    regularisation follow from the counts of all interactions, as in any training. All interactions of a user
    are then seen, and not recommended. The evaluated model's metrics remain the best estimate of the result's
    quality, which nothing is left to measure on.

    Args:
        options: how long to train, what to export, and where to save the training's state.
        judged: folder of the ``wals.model`` artifact that was evaluated.
        training: folder of the ``wals.matrix`` artifact it was trained on.
        holdout: folder of the ``wals.holdout`` artifact it was evaluated on.
        vocabulary: folder of their ``wals.vocabulary`` artifact.
        model: folder to write the ``wals.model`` artifact to.
        saved_model: folder to write the ``wals.saved_model`` artifact to; nothing is written unless
            ``export_saved_model`` is set.

    Returns:
        The metadata of ``model``, as that of the training step, and of ``saved_model``, empty unless it was
        written.

    Raises:
        InputError: a folder is not the expected artifact, they belong to different runs, or a SavedModel is
            asked for and TensorFlow is not installed.
    """
    if options.export_saved_model:
        tensorflow()
    with contextlib.ExitStack() as stack:
        workers = stack.enter_context(workers_of_environment()) if options.refit_iters else None
        scratch = stack.enter_context(scratch_folder())
        earlier = Model.load(judged)
        _check_vocabulary(earlier, vocabulary)
        if options.refit_iters:
            everything = _everything(earlier, judged, training, holdout, scratch)
            config = earlier.config.replace(num_iters=options.refit_iters)
            identifying = {
                # Its seconds tell it from other trainings on the same matrix.
                "judged": [dataclasses.asdict(iteration) for iteration in earlier.history],
                "data": everything.checksum,
                "parameters": config.model_dump(),
            }
            with checkpoints_of(options, model, identifying) as checkpoints:
                fitted, manifest = fit_and_save(
                    *(everything, Beginning(config, earlier.choice), earlier.users, earlier.items, model),
                    checkpoints=checkpoints,
                    warm_start=earlier,
                    workers=workers,
                )
        else:
            logger.info("delivering the evaluated model unchanged, because refit_iters is 0")
            fitted, manifest = earlier, earlier.save(model)
        exported = _export(fitted, saved_model) if options.export_saved_model else {}
    return {"model": metadata_of(fitted, manifest), "saved_model": exported}


def assist_refit(
    options: RefitOptions, *, judged: Path, training: Path, holdout: Path, **_others: Path
) -> None:
    """Do another machine's part of `refit`, which has the same arguments and writes the models.

    Raises:
        InputError: as `refit`.
        WalsError: another machine failed or is lost.
    """
    if not options.refit_iters:
        return
    with workers_of_environment() as workers, scratch_folder() as scratch:
        if workers:
            assist(workers, _everything(Model.load(judged), judged, training, holdout, scratch))


def _everything(
    earlier: Model, judged: Path, training: Path, holdout: Path, scratch: Path
) -> InteractionMatrix:
    """Return the matrix of all interactions, written to a local folder."""
    matrix = InteractionMatrix.open(training)
    matrix.check_same_run("model", judged, earlier.training)
    if not _was_trained_on(earlier, matrix):
        raise InputError("training", str(training), "is not what the model was trained on", _SAME_RUN)
    everything = merge([matrix, *open_holdout(holdout, matrix).values()], scratch)
    logger.info(
        "%s interactions to train on and %s that were held out",
        *(f"{number:,}" for number in (matrix.entries, everything.entries - matrix.entries)),
    )
    return everything


def _was_trained_on(earlier: Model, matrix: InteractionMatrix) -> bool:
    seen = earlier.seen
    if matrix.columns != len(earlier.items) or not np.array_equal(matrix.row_counts(), np.diff(seen.indptr)):
        return False
    start, same = 0, True
    for shard in matrix.by_row:
        same = same and np.array_equal(shard.indices, seen.indices[start : start + shard.entries])
        start += shard.entries
    unload(seen.indices)
    return same


def _check_vocabulary(earlier: Model, vocabulary: Path) -> None:
    for side, known, ids in zip(
        ("users", "items"), (earlier.users, earlier.items), load_vocabularies(vocabulary), strict=True
    ):
        if not known.ids.equals(ids.ids):
            raise InputError("vocabulary", str(vocabulary), f"has other {side} than the model", _SAME_RUN)


def _export(fitted: Model, folder: Path) -> dict[str, Any]:
    # Imports TensorFlow.
    from trainer.serving.export import SCHEMA, export

    manifest = export(fitted, folder)
    counts = {name: manifest[name] for name in ("users", "items", "latent_factors")}
    return {**counts, **identity(SCHEMA, manifest)}
