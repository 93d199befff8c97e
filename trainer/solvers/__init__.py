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
from trainer.gpus import Gpus, find_gpus
from trainer.matrix import InteractionMatrix, Shard
from trainer.solvers.agreement import Agreed, itself
from trainer.solvers.cuda.device import Device
from trainer.solvers.cuda.library import RANKING, SOLVING, cupy_is_installed, cupy_obstacle
from trainer.solvers.part import Part
from trainer.threads import threads_of
from trainer.weighting import HalfProblem, Problem

_IMAGE = "WALS_ACCELERATOR"
"""Environment variable of our images: what they were built for."""

logger = logging.getLogger(__name__)

Factors = tuple[NDArray[np.float32], NDArray[np.float32]]
"""(users, d) and (items, d)."""


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

    def factors(self) -> Factors:
        """Return the (users, d) and (items, d) factors, which the next pass may change or not."""
        ...


class PartialTraining(Protocol):
    """One process's part of a training, wherever its state is; side 0 is the users', side 1 the items'."""

    def solve(self, side: int) -> float:
        """Pass once over the process's rows of a side, and put them into the array it began with.

        Returns:
            Their part of the objective, without the regularisation of the other side.
        """
        ...

    def complete(self, side: int) -> None:
        """Take the rows that other processes have put into the array of a side that it began with."""
        ...

    def penalty(self, side: int) -> float:
        """Return the regularisation of the process's rows of a side."""
        ...

    def factors(self) -> Factors:
        """Return the (users, d) and (items, d) factors."""
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

    def begin_part(self, parts: tuple[Part, Part], factors: Factors) -> PartialTraining:
        """Return a training of some rows that begins with copies of the given factors."""
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
        return loss + penalty(problem.users.regularization, self._users)

    def factors(self) -> Factors:
        return self._users, self._items


class _HostPartialTraining:
    """A part of a training by a solver that works on the arrays of this machine, in place."""

    def __init__(self, solver: Solver, parts: tuple[Part, Part], factors: Factors) -> None:
        self._solver, self._parts, self._factors = solver, parts, factors

    def solve(self, side: int) -> float:
        part = self._parts[side]
        return self._solver.sweep(part.shards, part.problem, self._factors[1 - side], self._own(side))

    def complete(self, side: int) -> None:
        """Do nothing: they are where the solver works."""

    def penalty(self, side: int) -> float:
        return penalty(self._parts[side].problem.regularization, self._own(side))

    def factors(self) -> Factors:
        return self._factors

    def _own(self, side: int) -> NDArray[np.float32]:
        part = self._parts[side]
        return self._factors[side][part.first : part.stop]


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


def begin_part(
    config: TrainConfig, parts: tuple[Part, Part], factors: Factors, agreed: Agreed
) -> PartialTraining:
    """Begin one process's part of a training with the solver that ``config.solver`` names.

    Args:
        config: parameters.
        parts: the process's rows of the users and of the items.
        factors: (users, d) and (items, d) of all rows; the training may change them in place.
        agreed: see there; called by all processes at the same points.

    Raises:
        InputError: as `make_solver`; or the problem does not fit the GPU.
    """
    solver = make_solver(config, agreed)
    if isinstance(solver, DeviceSolver):
        return solver.begin_part(parts, factors)
    return _HostPartialTraining(solver, parts, factors)


def make_solver(config: TrainConfig, agreed: Agreed = itself) -> Solver:
    """Return the solver that ``config.solver`` names, importing only what it needs.

    ``auto`` is ``cuda`` on a machine with GPUs, else ``cg``.

    Args:
        config: parameters.
        agreed: see there.

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

        return CudaConjugateGradients(config.cg_steps, open_device(), agreed=agreed)
    if name == "tensorflow":
        from trainer.solvers.tensorflow import TensorFlowCholesky

        return TensorFlowCholesky()
    threads = threads_of(config.num_threads)
    if name in ("cholesky", "ialspp"):
        from trainer.solvers.descent import BlockDescent

        block = config.latent_factors if name == "cholesky" else config.block_size
        return BlockDescent(block, threads)
    from trainer.solvers.cg import ConjugateGradients

    return ConjugateGradients(config.cg_steps, threads, agreed)


def ranking_device(config: TrainConfig) -> Device | None:
    """Return the GPU to rank a model's items on: that of this machine, if its training would take it.

    A model that was trained by ``cuda`` on another machine is ranked on the CPU where there is no GPU.

    Args:
        config: parameters of the model's training.

    Raises:
        InputError: the GPU cannot be used.
    """
    gpus = find_gpus()
    takes = {"cuda": bool(gpus.devices), "auto": _auto_takes(gpus)}
    if not takes.get(config.solver):
        return None
    obstacle = cupy_obstacle(gpus, RANKING)
    if obstacle:
        remedy = f"{obstacle.remedy}; or give this step no GPU, or train with solver cg, to rank on the CPU"
        raise InputError("solver", config.solver, f"cannot use {gpus}: {obstacle.problem}", remedy)
    from trainer.solvers.cuda.device import open_device

    logger.info("ranking on %s", gpus)
    return open_device()


@functools.cache
def _automatic() -> str:
    """Return the solver for this machine, and log why, once in each process."""
    gpus = find_gpus()
    if _auto_takes(gpus):
        logger.info("solver cuda, because this machine has %s", gpus)
        return "cuda"
    if gpus.devices:
        logger.warning("solver cg, because CuPy, which %s requires, is not installed", gpus)
    else:
        logger.info("solver cg, because this machine has no GPU")
    return "cg"


def _auto_takes(gpus: Gpus) -> bool:
    """Return whether ``auto`` takes GPUs.

    Not without CuPy outside our images: nobody asked for a machine's GPU, as somebody did for a container's.
    """
    return bool(gpus.devices) and (cupy_is_installed() or _IMAGE in os.environ)


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
    obstacle = cupy_obstacle(gpus, SOLVING) if name == "cuda" else tensorflow_obstacle(gpus)
    if obstacle:
        remedy = f"{obstacle.remedy}; or set solver to cg to train on the CPU"
        raise InputError("solver", asked, f"cannot use {gpus}: {obstacle.problem}", remedy)


def penalty(regularization: NDArray[np.float32], factors: NDArray[np.float32]) -> float:
    """Return the sum of l_i |x_i|^2.

    Args:
        regularization: (rows,) l.
        factors: (rows, d) x.
    """
    return float(regularization.astype(np.float64) @ np.einsum("id,id->i", factors, factors))
