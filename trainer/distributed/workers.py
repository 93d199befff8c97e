"""Collective operations: each is called by all processes of a job, in the same order."""

import contextlib
import itertools
import json
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from trainer.distributed.cluster import Cluster, cluster_of_environment
from trainer.distributed.exchange import Exchange


@contextlib.contextmanager
def workers_of_environment() -> Iterator["Workers | None"]:
    """Join the processes that the environment describes; None if this process is alone.

    Raises:
        InputError: the description cannot be used, or this process's port cannot be listened on.
        WalsError: a process has not started in time.
    """
    cluster = cluster_of_environment()
    if cluster.size == 1:
        yield None
        return
    with Workers(cluster) as workers:
        yield workers


class Workers:
    """The processes of a job, as one of them sees them. Use it as a context manager.

    Attributes:
        rank: number of this process, from 0, which is the chief.
        size: number of processes.
        is_chief: whether this process is the chief.
    """

    def __init__(self, cluster: Cluster) -> None:
        """Listen on this process's port.

        Raises:
            InputError: that is not possible.
        """
        self._exchange = Exchange(cluster)
        self._numbers = itertools.count()
        self.rank, self.size, self.is_chief = cluster.rank, cluster.size, cluster.is_chief

    def __enter__(self) -> Self:
        """Wait until all processes are there.

        Raises:
            WalsError: one of them is not.
        """
        self._exchange.__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        """Stop; the others are told of a failure."""
        self._exchange.__exit__(*failure)

    @property
    def sent(self) -> int:
        """Bytes that this process has sent so far."""
        return self._exchange.sent

    def gather(self, array: NDArray[Any], bounds: NDArray[np.int64]) -> None:
        """Complete an array of which each process has set a run of rows.

        Args:
            array: (rows, …) contiguous, overwritten but for this process's rows.
            bounds: (processes + 1,) the first row of each process, and the number of rows.

        Raises:
            WalsError: a process failed or is lost.
        """
        name = f"rows {next(self._numbers)}"
        parts = [array[start:stop] for start, stop in itertools.pairwise(bounds)]
        self._exchange.publish(name, parts[self.rank])
        self._exchange.fetch_all(name, parts)
        self._exchange.settle(name)

    def total(self, value: float) -> float:
        """Return the sum of a number of each process, the same for all.

        Raises:
            WalsError: a process failed or is lost.
        """
        values = np.zeros(self.size)
        values[self.rank] = value
        self.gather(values, np.arange(self.size + 1))
        return float(values.sum())

    def agreed(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the chief's array, given one of the same shape and type.

        Raises:
            WalsError: a process failed or is lost.
        """
        result = np.ascontiguousarray(array)
        self._from_chief("array", result)
        return result

    def told(self, message: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the chief's message, which only the chief gives: a JSON object.

        Raises:
            WalsError: a process failed or is lost.
        """
        content = None if message is None else np.frombuffer(json.dumps(message).encode(), np.uint8)
        told: dict[str, Any] = json.loads(self._from_chief("message", content).tobytes())
        return told

    def _from_chief(self, kind: str, array: NDArray[Any] | None) -> NDArray[Any]:
        name = f"{kind} {next(self._numbers)}"
        if not self.is_chief:
            return self._exchange.fetch(0, name, array)
        if array is None:
            raise ValueError("the chief gives what the others are told")
        self._exchange.publish(name, array)
        self._exchange.settle(name)
        return array
