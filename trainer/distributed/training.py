"""Training by several processes: the rows of each side are divided among them."""

import itertools
import logging
import time
from typing import Any

import numpy as np

from trainer.config import TrainConfig
from trainer.distributed.workers import Workers
from trainer.errors import InputError
from trainer.matrix import InteractionMatrix
from trainer.progress import progress
from trainer.solvers import Factors, begin_part
from trainer.solvers.part import Part, bounds_of
from trainer.weighting import Problem

logger = logging.getLogger(__name__)


class DistributedTraining:
    """A training whose rows are divided among processes; each holds all factors; see `Training`."""

    def __init__(
        self,
        workers: Workers,
        config: TrainConfig,
        matrix: InteractionMatrix,
        problem: Problem,
        factors: Factors,
    ) -> None:
        """Begin with the given factors, which are the same in all processes."""
        self._workers, self._factors = workers, factors
        counts = matrix.row_counts(), matrix.column_counts()
        self._bounds = [
            bounds_of(np.concatenate([[0], np.cumsum(of_side)]), workers.size) for of_side in counts
        ]
        sides = (matrix.by_row, problem.users), (matrix.by_column, problem.items)
        users, items = (
            Part.of(*side, int(bounds[workers.rank]), int(bounds[workers.rank + 1]))
            for side, bounds in zip(sides, self._bounds, strict=True)
        )
        self._part = begin_part(config, (users, items), factors, workers.agreed)

    def iterate(self) -> float:
        """Pass once over the users and once over the items; return the objective."""
        self._solve(0)
        loss = self._solve(1)
        return self._workers.total(loss + self._part.penalty(0))

    def factors(self) -> Factors:
        """Return the (users, d) and (items, d) factors, which the next pass may change or not."""
        return self._part.factors()

    def _solve(self, side: int) -> float:
        loss = self._part.solve(side)
        self._workers.gather(self._factors[side], self._bounds[side])
        self._part.complete(side)
        return loss


class LedTraining:
    """The chief's view of a training by several processes; see `Training`. The others `assist`."""

    def __init__(
        self,
        workers: Workers,
        config: TrainConfig,
        matrix: InteractionMatrix,
        problem: Problem,
        factors: Factors,
        done: int,
    ) -> None:
        """Send parameters and factors to the others.

        Args:
            workers: the processes.
            config: parameters.
            matrix: training entries.
            problem: weights and regularisation.
            factors: (users, d) and (items, d) to begin with, which change in place.
            done: iterations that an earlier run finished.
        """
        self._workers = workers
        sent = [bool(array.any()) for array in factors]
        workers.told({"config": config.model_dump(), "matrix": _identity(matrix), "sent": sent, "done": done})
        for array in itertools.compress(factors, sent):
            workers.agreed(array)
        self._training = DistributedTraining(workers, config, matrix, problem, factors)
        self._iterations, self._sent_before = 0, workers.sent

    def iterate(self) -> float:
        """Let all pass once over the users and once over the items; return the objective."""
        self._workers.told({"iterate": True})
        self._iterations += 1
        return self._training.iterate()

    def factors(self) -> Factors:
        """Return the factors; see `Training`."""
        return self._training.factors()

    def finish(self) -> None:
        """Let the others end."""
        self._workers.told({"iterate": False})
        if self._iterations:
            sent = (self._workers.sent - self._sent_before) / self._iterations
            logger.info("sent %.3g MB to the other workers in each iteration", sent / 1e6)


def assist(workers: Workers, matrix: InteractionMatrix) -> None:
    """Do this process's part of the training that the chief leads, which has the results.

    Args:
        workers: the processes.
        matrix: training entries, the same as the chief's.

    Raises:
        InputError: the matrix differs from the chief's, or this process cannot use the parameters.
        WalsError: a process failed or is lost.
    """
    told = workers.told()
    if told["matrix"] != (own := _identity(matrix)):
        differs = f"differs from the first worker's, {told['matrix']}"
        raise InputError("matrix", own, differs, "give all workers the same data")
    config = TrainConfig(**told["config"])
    factors = [np.zeros((rows, config.latent_factors), np.float32) for rows in (matrix.rows, matrix.columns)]
    for array in itertools.compress(factors, told["sent"]):
        workers.agreed(array)
    problem = Problem.of(config, matrix.row_counts(), matrix.column_counts())
    training = DistributedTraining(workers, config, matrix, problem, (factors[0], factors[1]))
    with progress("iteration", config.num_iters, logger, done=told["done"]) as report:
        while workers.told()["iterate"]:
            began = time.perf_counter()
            training.iterate()
            report(f"{time.perf_counter() - began:.2f} s")


def _identity(matrix: InteractionMatrix) -> dict[str, Any]:
    names = ("rows", "columns", "entries", "checksum")
    return {name: getattr(matrix, name) for name in names}
