"""One process of a training job: ``program.py FOLDER``, with TF_CONFIG in the environment.

FOLDER has ``matrix.npz``, a SciPy matrix, and ``config.json``, parameters of `TrainConfig` and ``every``, the
iterations between checkpoints. The chief writes ``factors.npz`` to it.
"""

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


def main(folder: Path) -> None:
    """Take part in the training."""
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


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        main(Path(sys.argv[1]))
    except WalsError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
