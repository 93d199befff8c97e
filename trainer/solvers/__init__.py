"""Solvers of the alternating least-squares problems, with a common interface."""

import functools
import logging
import os
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.extras import tensorflow_obstacle
from trainer.gpus import find_gpus
from trainer.matrix import InteractionMatrix, Shard
from trainer.solvers.cuda.device import Device
from trainer.solvers.cuda.library import cupy_is_installed, cupy_obstacle
from trainer.threads import threads_of
from trainer.weighting import HalfProblem, Problem

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


class Training(Protocol):
    """A training in progress, wherever its state is."""

    def iterate(self) -> float:
        """Pass once over the users and once over the items; return the objective."""
        ...

    def factors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the (users, d) and (items, d) factors, which the next pass may change or not."""
        ...


@runtime_checkable
class DeviceSolver(Solver, Protocol):
    """A solver that keeps the state of a whole training on a device.

    Attributes:
        device: the device; its ``name`` can be shown.
    """

    device: Device

    def begin(
        self,
        matrix: InteractionMatrix,
        problem: Problem,
        user_factors: NDArray[np.float32],
        item_factors: NDArray[np.float32],
    ) -> Training:
        """Return a training that begins with copies of the given factors."""
        ...


class _HostTraining:
    """A training by a solver that works on the arrays of this machine, in place."""

    def __init__(
        self,
        solver: Solver,
        matrix: InteractionMatrix,
        problem: Problem,
        user_factors: NDArray[np.float32],
        item_factors: NDArray[np.float32],
    ) -> None:
        self._solver, self._matrix, self._problem = solver, matrix, problem
        self._users, self._items = user_factors, item_factors

    def iterate(self) -> float:
        matrix, problem = self._matrix, self._problem
        self._solver.sweep(matrix.by_row, problem.users, self._items, self._users)
        loss = self._solver.sweep(matrix.by_column, problem.items, self._users, self._items)
        return loss + _penalty(problem.users.regularization, self._users)

    def factors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._users, self._items


def begin(
    config: TrainConfig,
    matrix: InteractionMatrix,
    problem: Problem,
    user_factors: NDArray[np.float32],
    item_factors: NDArray[np.float32],
) -> Training:
    """Begin a training with the solver that ``config.solver`` names.

    Args:
        config: parameters.
        matrix: training entries.
        problem: weights and regularisation.
        user_factors: (users, d) to begin with; the training may change them in place.
        item_factors: (items, d), likewise.

    Raises:
        InputError: as `make_solver`; or the problem does not fit the GPU.
    """
    solver = make_solver(config)
    if isinstance(solver, DeviceSolver):
        return solver.begin(matrix, problem, user_factors, item_factors)
    return _HostTraining(solver, matrix, problem, user_factors, item_factors)


def make_solver(config: TrainConfig) -> Solver:
    """Return the solver that ``config.solver`` names, importing only what it needs.

    ``auto`` is ``cuda`` on a machine with GPUs, else ``cg``.

    Raises:
        InputError: the solver is ``cuda`` or ``tensorflow`` and its library is not installed; it is one of
            them or ``auto``, and this machine's GPUs cannot be used; it is ``cuda`` and there is no GPU; or
            there are fewer cores than ``num_threads``.
    """
    name = _automatic() if config.solver == "auto" else config.solver
    if name in ("cuda", "tensorflow"):
        _check_gpus(name, config.solver)
    if name == "cuda":
        from trainer.solvers.cuda import CudaConjugateGradients
        from trainer.solvers.cuda.device import open_device

        return CudaConjugateGradients(config.cg_steps, open_device())
    if name == "tensorflow":
        from trainer.solvers.tensorflow import TensorFlowCholesky

        return TensorFlowCholesky()
    threads = threads_of(config.num_threads)
    if name in ("cholesky", "ialspp"):
        from trainer.solvers.descent import BlockDescent

        block = config.latent_factors if name == "cholesky" else config.block_size
        return BlockDescent(block, threads)
    from trainer.solvers.cg import ConjugateGradients

    return ConjugateGradients(config.cg_steps, threads)


@functools.cache
def _automatic() -> str:
    """Return the solver for this machine, and log why, once in each process."""
    gpus = find_gpus()
    if not gpus.devices:
        logger.info("solver cg, because this machine has no GPU")
        return "cg"
    if not cupy_is_installed() and _IMAGE not in os.environ:
        # Nobody asked for the GPU of this machine, as somebody did for a container's.
        logger.warning("solver cg, because CuPy, which %s requires, is not installed", gpus)
        return "cg"
    logger.info("solver cuda, because this machine has %s", gpus)
    return "cuda"


def _check_gpus(name: str, asked: str) -> None:
    """Refuse GPUs that a solver cannot use; TensorFlow also works without any.

    Args:
        name: the solver.
        asked: the solver's name, or ``auto``.
    """
    gpus = find_gpus()
    if not gpus.devices:
        if name == "cuda":
            problem = "this machine has no NVIDIA GPU, or CUDA_VISIBLE_DEVICES hides it"
            raise InputError("solver", asked, problem, "set solver to cg to train on the CPU")
        return
    obstacle = cupy_obstacle(gpus) if name == "cuda" else tensorflow_obstacle(gpus)
    if obstacle:
        remedy = f"{obstacle.remedy}; or set solver to cg to train on the CPU"
        raise InputError("solver", asked, f"cannot use {gpus}: {obstacle.problem}", remedy)


def _penalty(regularization: NDArray[np.float32], factors: NDArray[np.float32]) -> float:
    return float(regularization.astype(np.float64) @ np.einsum("id,id->i", factors, factors))
