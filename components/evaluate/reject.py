"""Ends a run whose model was rejected, where a rejection is to count as a failure."""

from pathlib import Path

from components.artifacts.evaluation import SCHEMA, Evaluation
from trainer.errors import WalsError
from trainer.files import read_manifest
from trainer.options import Options


def reject(_: Options, *, evaluation: Path) -> None:
    """Fail with the reason why the model is not delivered.

    Args:
        evaluation: folder of a ``wals.evaluation`` artifact.

    Raises:
        WalsError: always, with the reason.
        InputError: the folder is not the expected artifact.
    """
    decision = read_manifest(evaluation, SCHEMA, Evaluation).decision
    raise WalsError(f"the model is rejected: {decision.reason}")
