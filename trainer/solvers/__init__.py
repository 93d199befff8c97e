"""Solvers of the alternating least-squares problems, with a common interface."""

import logging
import os
from collections.abc import Sequence
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.extras import tensorflow_is_installed, tensorflow_obstacle
from trainer.gpus import find_gpus
from trainer.matrix import Shard
from trainer.threads import threads_of
from trainer.weighting import HalfProblem

_IMAGE = "WALS_ACCELERATOR"
"""Environment variable of our images: what they were built for."""

logger = logging.getLogger(__name__)


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

    ``auto`` is ``tensorflow`` on a machine with GPUs, else ``cg``.

    Raises:
        InputError: the solver is ``tensorflow`` and TensorFlow is not installed; it is ``tensorflow`` or
            ``auto``, and this machine's GPUs cannot be used; or there are fewer cores than ``num_threads``.
    """
    name = _automatic() if config.solver == "auto" else config.solver
    if name == "tensorflow":
        gpus = find_gpus()
        obstacle = tensorflow_obstacle(gpus) if gpus.devices else None
        if obstacle:
            remedy = f"{obstacle.remedy}; or set solver to cg to train on the CPU"
            raise InputError("solver", config.solver, f"cannot use {gpus}: {obstacle.problem}", remedy)
        from trainer.solvers.tensorflow import TensorFlowCholesky

        return TensorFlowCholesky()
    threads = threads_of(config.num_threads)
    if name in ("cholesky", "ialspp"):
        from trainer.solvers.descent import BlockDescent

        block = config.latent_factors if name == "cholesky" else config.block_size
        return BlockDescent(block, threads)
    from trainer.solvers.cg import ConjugateGradients

    return ConjugateGradients(config.cg_steps, threads)


@cache
def _automatic() -> str:
    """Return the solver for this machine, and log why, once in each process."""
    gpus = find_gpus()
    if not gpus.devices:
        logger.info("solver cg, because this machine has no GPU")
        return "cg"
    if not tensorflow_is_installed() and _IMAGE not in os.environ:
        # Nobody asked for the GPU of this machine, as somebody did for a container's.
        logger.warning("solver cg, because TensorFlow, which %s requires, is not installed", gpus)
        return "cg"
    logger.info("solver tensorflow, because this machine has %s", gpus)
    return "tensorflow"
