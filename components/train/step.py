"""Training: from the matrix and the vocabularies to the model."""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.train.checkpoints import Beginning, StepCheckpoints, checkpoints_of
from components.train.options import TrainStepOptions
from components.train.warm_start import earlier_model
from trainer.config import AUTOMATIC
from trainer.distributed.training import assist
from trainer.distributed.workers import Workers, workers_of_environment
from trainer.files import identity
from trainer.matrix import InteractionMatrix
from trainer.model import SCHEMA, Model
from trainer.tensorboard import Scalars, folder_of_vertex
from trainer.training import fit
from trainer.vocabulary import Vocabulary, load_vocabularies


def train(options: TrainStepOptions, *, matrix: Path, vocabulary: Path, model: Path) -> dict[str, Any]:
    """Factorise a training matrix and write the model artifact.

    An attempt that was killed is continued from its checkpoint, with the parameters that it chose.

    Args:
        options: parameters of the training, those at ``auto`` chosen for the matrix or taken from the model
            that it starts from; what it starts from; and where it saves its state.
        matrix: folder of a ``wals.matrix`` artifact.
        vocabulary: folder of the ``wals.vocabulary`` artifact of its rows and columns.
        model: folder to write the ``wals.model`` artifact to.

    Returns:
        The artifact's metadata; see `metadata_of`. ``warm_start`` is the model that it started from, if any.

    Raises:
        InputError: a folder is not the expected artifact, the two belong to different runs, the problem is
            not well-posed, or the model to start from does not fit.
        WalsError: a store or the registry cannot be reached.
    """
    with contextlib.ExitStack() as stack:
        workers = stack.enter_context(workers_of_environment())
        interactions = InteractionMatrix.open(matrix)
        users, items = load_vocabularies(vocabulary, interactions)
        identifying = {
            "data": interactions.checksum,
            "parameters": options.parameters.model_dump(),
            "warm_start": options.warm_start,
        }
        checkpoints = stack.enter_context(checkpoints_of(options, model, identifying))
        beginning, start = checkpoints.beginning() if checkpoints else None, None
        if beginning is None:
            from trainer.auto import choose  # slow to import, and a refit chooses nothing

            earlier = stack.enter_context(earlier_model(options))
            start = earlier.model if earlier else None
            chosen = choose(interactions, options.parameters, warm_start=start)
            beginning = Beginning(*chosen, earlier.name if earlier else "")
        fitted = fit_and_save(
            *(interactions, beginning, users, items, model),
            checkpoints=checkpoints,
            warm_start=start,
            workers=workers,
            has_holdout=True,
        )
    started = {"warm_start": beginning.warm_start} if beginning.warm_start else {}
    return {**metadata_of(*fitted), **started}


def assist_training(_: TrainStepOptions, *, matrix: Path, **_others: Path) -> None:
    """Do another machine's part of `train`, which has the same arguments and writes the model.

    Raises:
        InputError: as `train`.
        WalsError: another machine failed or is lost.
    """
    with workers_of_environment() as workers:
        if workers:
            assist(workers, InteractionMatrix.open(matrix))


def fit_and_save(
    matrix: InteractionMatrix,
    beginning: Beginning,
    users: Vocabulary,
    items: Vocabulary,
    folder: Path,
    *,
    checkpoints: StepCheckpoints | None,
    warm_start: Model | None = None,
    workers: Workers | None = None,
    has_holdout: bool = False,
) -> tuple[Model, dict[str, Any]]:
    """Train as a step does, with progress where the platform shows it.

    Args:
        matrix: training entries.
        beginning: parameters of the training, and how they were chosen.
        users: ids of the rows.
        items: ids of the columns.
        folder: folder to write the ``wals.model`` artifact to.
        checkpoints: checkpoints to resume from, which are removed once the model is saved.
        warm_start: an earlier model to start from.
        workers: machines to divide the work among, of which this one is the first.
        has_holdout: whether entries were held out of the matrix.

    Returns:
        The model and its manifest.

    Raises:
        InputError: the problem is not well-posed, or the folder cannot be written.
    """
    logs = folder_of_vertex()
    if checkpoints:
        checkpoints.begin(beginning)
    fitted = fit(
        matrix,
        beginning.config,
        users=users,
        items=items,
        warm_start=warm_start,
        checkpoints=checkpoints,
        on_iteration=Scalars(logs) if logs else None,
        workers=workers,
        has_holdout=has_holdout,
    )
    fitted = replace(fitted, choice=beginning.choice)
    manifest = fitted.save(folder)
    if checkpoints:
        checkpoints.remove()
    return fitted, manifest


def metadata_of(fitted: Model, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a model artifact, from the model and its manifest.

    That is users, items, entries, the parameters that can be chosen for the data, iterations, the last
    objective, checksum and schema_version; and ``auto``, the names of those that were chosen, if any were.
    """
    last = fitted.history[-1]
    counts = {name: manifest[name] for name in ("users", "items", "entries")}
    chosen = {"auto": ", ".join(fitted.choice.parameters)} if fitted.choice else {}
    return {
        **counts,
        **fitted.config.model_dump(include=set(AUTOMATIC)),
        **chosen,
        "iterations": last.number,
        "objective": last.objective,
        **identity(SCHEMA, dict(manifest)),
    }
