"""Solvers of the alternating least-squares problems, with a common interface."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.config import TrainConfig
from trainer.extras import tensorflow_sees_gpu
from trainer.matrix import Shard
from trainer.threads import threads_of
from trainer.weighting import HalfProblem


class Solver(Protocol):
    """Solves one side's least-squares problems."""

    def sweep(
        self,
        shards: Sequence[Shard],
        problem: HalfProblem,
        minor: NDArray[np.float32],
        major: NDArray[np.float32],
    ) -> float:
        """Replace every row of ``major`` with its solution, or with a step towards it.

        Args:
            shards: the matrix, oriented so that its rows are the major side.
            problem: weights and regularisation of this side.
            minor: (columns, d), the fixed factors of the other side.
            major: (rows, d), the factors so far; overwritten. A row without entries becomes 0.

        Returns:
            The objective at the new factors, without the regularisation of ``minor``.
        """
        ...


def make_solver(config: TrainConfig) -> Solver:
    """Return the solver that ``config.solver`` names, importing only what it needs.

    ``auto`` is ``tensorflow`` if TensorFlow sees a GPU, else ``cg``.

    Raises:
        InputError: the solver is ``tensorflow`` and TensorFlow is not installed, or there are fewer cores
            than ``num_threads``.
    """
    if config.solver == "tensorflow" or (config.solver == "auto" and tensorflow_sees_gpu()):
        from trainer.solvers.tensorflow import TensorFlowCholesky

        return TensorFlowCholesky()
    threads = threads_of(config.num_threads)
    if config.solver in ("cholesky", "ialspp"):
        from trainer.solvers.descent import BlockDescent

        block = config.latent_factors if config.solver == "cholesky" else config.block_size
        return BlockDescent(block, threads)
    from trainer.solvers.cg import ConjugateGradients

    return ConjugateGradients(config.cg_steps, threads)
