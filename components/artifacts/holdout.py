"""The holdout artifact (schema ``wals.holdout`` v1): matrices of interactions that are not trained on.

targets/        a ``wals.matrix`` of the held-out interactions, which a model has to predict
history/        a ``wals.matrix`` of the known interactions of users held out whole; only with split ``users``
_manifest.json  split, seed, fraction, numbers of entries, and the checksums of these matrices and of the
                training matrix
"""

from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import InputError
from trainer.files import Digest, Manifest, Schema, read_manifest

if TYPE_CHECKING:
    from trainer.matrix import InteractionMatrix

SCHEMA = Schema("wals.holdout", 1)

TARGETS = "targets"
HISTORY = "history"


class _HoldoutManifest(Manifest):
    training: Digest | None = None
    sha256: dict[str, Digest] | None = None


def open_holdout(folder: Path, training: "InteractionMatrix") -> "dict[str, InteractionMatrix]":
    """Open the matrices of a holdout.

    Args:
        folder: folder of the artifact.
        training: training matrix that it has to belong to.

    Returns:
        The matrices by name, `TARGETS` and, if users are held out whole, `HISTORY`.

    Raises:
        InputError: it is not a complete ``wals.holdout`` artifact, it or a matrix in it belongs to another
            run, or a matrix is damaged.
    """
    from trainer.matrix import InteractionMatrix  # imports numpy, which options and help do without

    manifest = read_manifest(folder, SCHEMA, _HoldoutManifest)
    training.check_same_run("holdout", folder, manifest.training)
    digests = manifest.sha256
    has_history = HISTORY in digests if digests else (folder / HISTORY).exists()
    parts = (TARGETS, HISTORY) if has_history else (TARGETS,)
    matrices = {part: InteractionMatrix.open(folder / part) for part in parts}
    for part, matrix in matrices.items():
        if digests and digests.get(part) != matrix.checksum:
            raise InputError(
                "holdout", str(folder / part), "is from another run than its folder", "run prepare again"
            )
    return matrices
