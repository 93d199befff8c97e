"""Training: from the matrix and the vocabularies to the model."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer.auto import choose
from trainer.checkpoint import Checkpoints
from trainer.choice import Choice
from trainer.config import AUTOMATIC, TrainConfig, TrainOptions
from trainer.files import identity
from trainer.matrix import InteractionMatrix
from trainer.model import SCHEMA, Model
from trainer.mounts import is_mounted_bucket
from trainer.tensorboard import Scalars, folder_of_vertex
from trainer.training import fit
from trainer.vocabulary import Vocabulary, load_vocabularies

_CHECKPOINT_SECONDS = 300.0


def train(options: TrainOptions, *, matrix: Path, vocabulary: Path, model: Path) -> dict[str, Any]:
    """Factorise a training matrix and write the model artifact.

    Args:
        options: parameters of the training; those at ``auto`` are chosen for the matrix.
        matrix: folder of a ``wals.matrix`` artifact.
        vocabulary: folder of the ``wals.vocabulary`` artifact of its rows and columns.
        model: folder to write the ``wals.model`` artifact to.

    Returns:
        The artifact's metadata; see `metadata_of`.

    Raises:
        InputError: a folder is not the expected artifact, the two belong to different runs, or the problem is
            not well-posed.
    """
    interactions = InteractionMatrix.open(matrix)
    users, items = load_vocabularies(vocabulary, interactions)
    config, choice = choose(interactions, options)
    return metadata_of(*fit_and_save(interactions, config, users, items, model, choice=choice))


def fit_and_save(
    matrix: InteractionMatrix,
    config: TrainConfig,
    users: Vocabulary,
    items: Vocabulary,
    folder: Path,
    *,
    choice: Choice | None,
    warm_start: Model | None = None,
) -> tuple[Model, dict[str, Any]]:
    """Train as a step does, with checkpoints and progress where the platform keeps them.

    Args:
        matrix: training entries.
        config: parameters of the training.
        users: ids of the rows.
        items: ids of the columns.
        folder: folder to write the ``wals.model`` artifact to.
        choice: how parameters were chosen; None if they were all given.
        warm_start: an earlier model to start from.

    Returns:
        The model and its manifest.

    Raises:
        InputError: the problem is not well-posed, or the folder cannot be written.
    """
    logs = folder_of_vertex()
    checkpoints = _checkpoints(folder)
    fitted = fit(
        matrix,
        config,
        users=users,
        items=items,
        warm_start=warm_start,
        checkpoints=checkpoints,
        on_iteration=Scalars(logs) if logs else None,
    )
    fitted = replace(fitted, choice=choice)
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


def _checkpoints(model: Path) -> Checkpoints | None:
    """Return the checkpoints beside a model in a mounted bucket.

    A job that lost its machine starts again with the same folders there, and resumes. Elsewhere a second
    attempt does not see what the first one wrote.
    """
    if not is_mounted_bucket(model):
        return None
    return Checkpoints(model.with_name(f"{model.name}-checkpoints"), 1, seconds=_CHECKPOINT_SECONDS)
