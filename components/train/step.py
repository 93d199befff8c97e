"""Training: from the matrix and the vocabularies to the model."""

import os
from pathlib import Path
from typing import Any

from trainer.config import TrainConfig
from trainer.files import identity
from trainer.matrix import InteractionMatrix
from trainer.model import SCHEMA
from trainer.tensorboard import Scalars
from trainer.training import fit
from trainer.vocabulary import load_vocabularies


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
    fitted = fit(interactions, config, users=users, items=items, on_iteration=_scalars())
    manifest = fitted.save(model)
    last = fitted.history[-1]
    counts = {name: manifest[name] for name in ("users", "items", "entries", "latent_factors")}
    return {
        **counts,
        "iterations": last.number,
        "objective": last.objective,
        **identity(SCHEMA, manifest),
    }


def _scalars() -> Scalars | None:
    """Return a writer of TensorBoard scalars if Vertex AI names a folder for them; its bucket is mounted."""
    folder = os.environ.get("AIP_TENSORBOARD_LOG_DIR", "")
    return Scalars(Path(folder.replace("gs://", "/gcs/", 1))) if folder else None
