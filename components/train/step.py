"""Training: the matrix and the vocabulary in, the model out."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.config import TrainConfig
from trainer.files import identity
from trainer.fit import fit
from trainer.matrix import InteractionMatrix
from trainer.model import SCHEMA_VERSION
from trainer.tensorboard import Scalars
from trainer.vocabulary import load_vocabularies


def train(*, matrix: Path, vocabulary: Path, model: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Factorise a training matrix and write the model artifact.

    Args:
        matrix: folder of a ``wals.matrix`` artifact.
        vocabulary: folder of the ``wals.vocabulary`` artifact of its rows and columns.
        model: folder to write the ``wals.model`` artifact to.
        config: parameters of :class:`trainer.config.TrainConfig`; those left out keep their defaults.

    Returns:
        The artifact's metadata: users, items, entries, latent_factors, iterations, objective (the last),
        checksum and schema_version.

    Raises:
        InputError: a parameter cannot be used, or an artifact is not what it should be.
    """
    checked = TrainConfig.from_dict(config)
    interactions = InteractionMatrix.open(matrix)
    users, items = load_vocabularies(vocabulary)
    fitted = fit(interactions, checked, users=users, items=items, on_iteration=_scalars())
    manifest = fitted.save(model)
    last = fitted.history[-1]
    counts = {name: manifest[name] for name in ("users", "items", "entries", "latent_factors")}
    return {
        **counts,
        "iterations": last.number,
        "objective": last.objective,
        **identity(model, SCHEMA_VERSION),
    }


def _scalars() -> Scalars | None:
    """Return the writer of the progress where Vertex AI names a folder for TensorBoard, by its mount."""
    folder = os.environ.get("AIP_TENSORBOARD_LOG_DIR", "")
    return Scalars(Path(folder.replace("gs://", "/gcs/", 1))) if folder else None
