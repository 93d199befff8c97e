"""Training: from the matrix and the vocabularies to the model."""

from pathlib import Path
from typing import Any

from trainer.checkpoint import Checkpoints
from trainer.config import TrainConfig
from trainer.files import identity
from trainer.matrix import InteractionMatrix
from trainer.model import SCHEMA
from trainer.mounts import is_mounted_bucket
from trainer.tensorboard import Scalars, folder_of_vertex
from trainer.training import fit
from trainer.vocabulary import load_vocabularies

_CHECKPOINT_SECONDS = 300.0


def train(config: TrainConfig, *, matrix: Path, vocabulary: Path, model: Path) -> dict[str, Any]:
    """Factorise a training matrix and write the model artifact.

    Args:
        config: parameters of the training.
        matrix: folder of a ``wals.matrix`` artifact.
        vocabulary: folder of the ``wals.vocabulary`` artifact of its rows and columns.
        model: folder to write the ``wals.model`` artifact to.

    Returns:
        The artifact's metadata: users, items, entries, latent_factors, iterations, the last objective,
        checksum and schema_version.

    Raises:
        InputError: a folder is not the expected artifact, or the problem is not well-posed.
    """
    interactions = InteractionMatrix.open(matrix)
    users, items = load_vocabularies(vocabulary)
    logs = folder_of_vertex()
    checkpoints = _checkpoints(model)
    fitted = fit(
        interactions,
        config,
        users=users,
        items=items,
        checkpoints=checkpoints,
        on_iteration=Scalars(logs) if logs else None,
    )
    manifest = fitted.save(model)
    if checkpoints:
        checkpoints.remove()
    last = fitted.history[-1]
    counts = {name: manifest[name] for name in ("users", "items", "entries", "latent_factors")}
    return {
        **counts,
        "iterations": last.number,
        "objective": last.objective,
        **identity(SCHEMA, manifest),
    }


def _checkpoints(model: Path) -> Checkpoints | None:
    """Return the checkpoints beside a model in a mounted bucket.

    A job that lost its machine starts again with the same folders there, and resumes. Elsewhere a second
    attempt does not see what the first one wrote.
    """
    if not is_mounted_bucket(model):
        return None
    return Checkpoints(model.with_name(f"{model.name}-checkpoints"), 1, seconds=_CHECKPOINT_SECONDS)
