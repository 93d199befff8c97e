"""One process of a training job, with TF_CONFIG in the environment."""

import json
import logging
import os
import sys
from pathlib import Path

import numpy as np
from scipy import sparse

from trainer.checkpoint import Checkpoints
from trainer.config import TrainConfig
from trainer.distributed.training import assist
from trainer.distributed.workers import workers_of_environment
from trainer.errors import WalsError
from trainer.matrix import InteractionMatrix
from trainer.training import fit


def take_part(folder: Path) -> int:
    """Take part in the training, and return the exit code.

    Args:
        folder: has ``matrix.npz``, a SciPy matrix, and ``config.json``, parameters of `TrainConfig` and
            ``every``, the iterations between checkpoints. The chief writes ``factors.npz`` to it.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        _train(folder)
    except WalsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _train(folder: Path) -> None:
    # A process of its own may have other data, by mistake.
    data = Path(os.environ.get("MATRIX", folder / "matrix.npz"))
    matrix = InteractionMatrix.from_scipy(sparse.load_npz(data))
    parameters = json.loads((folder / "config.json").read_text("utf-8"))
    checkpoints = Checkpoints(folder / "checkpoints", parameters.pop("every"))
    with workers_of_environment() as workers:
        if workers and not workers.is_chief:
            assist(workers, matrix)
            return
        model = fit(matrix, TrainConfig(**parameters), checkpoints=checkpoints, workers=workers)
    objectives = [iteration.objective for iteration in model.history]
    np.savez(
        folder / "factors.npz", users=model.user_factors, items=model.item_factors, objectives=objectives
    )
