"""The processes of a training job, as Vertex AI, Kubeflow and TensorFlow describe them to each process."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.errors import InputError

VARIABLES = ("CLUSTER_SPEC", "TF_CONFIG")
"""Environment variables with a description, in order of precedence: Vertex AI's own, and TensorFlow's."""

INDEX = "JOB_COMPLETION_INDEX"
"""Environment variable of Kubernetes with the process's number, if the description does not say it."""

_FIRST = ("workerpool0", "chief", "master")
_WORKERS = ("worker", "workerpool1", "workerpool2", "workerpool3")
_EXAMPLE = """give {"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}}"""


@dataclass(frozen=True)
class Cluster:
    """The processes of a job, of which the first is the chief.

    Attributes:
        addresses: ``host:port`` of each process.
        rank: number of this process, from 0.
    """

    addresses: tuple[str, ...]
    rank: int

    @property
    def size(self) -> int:
        """Number of processes."""
        return len(self.addresses)

    @property
    def is_chief(self) -> bool:
        """Whether this is the process that reads the options, and writes and reports the results."""
        return self.rank == 0

    @property
    def port(self) -> int:
        """The port that this process listens on."""
        return int(self.addresses[self.rank].rpartition(":")[2])

    def name(self, rank: int) -> str:
        """Return a process's name for messages."""
        return f"worker {rank + 1} of {self.size} ({self.addresses[rank]})"


ALONE = Cluster(("localhost:0",), 0)
"""A job of one process."""


def cluster_of_environment() -> Cluster:
    """Return the job's processes from the environment; `ALONE` if it describes none.

    Evaluators and parameter servers, which TensorFlow knows besides, do not take part.

    Raises:
        InputError: the description cannot be used.
    """
    for variable in VARIABLES:
        if text := os.environ.get(variable):
            return _cluster(variable, text)
    return ALONE


def _cluster(variable: str, text: str) -> Cluster:
    try:
        described = json.loads(text)
        groups: dict[str, list[str]] = {kind: list(of) for kind, of in described.get("cluster", {}).items()}
        task: Mapping[str, Any] = described.get("task") or {}
        kind = str(task.get("type", ""))
        index = int(task.get("index", os.environ.get(INDEX, 0)))
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(variable, text, f"does not describe a cluster ({error})", _EXAMPLE) from error
    members = [
        (group, number, address)
        for group in (*_FIRST, *_WORKERS)
        for number, address in enumerate(groups.get(group, ()))
    ]
    if len(members) < 2:
        return ALONE
    for *_, address in members:
        host, _, port = str(address).rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 2**16):
            raise InputError(variable, address, "is not an address", "give host:port")
    places = [(group, number) for group, number, _ in members]
    if (kind, index) not in places:
        problem = "is not in the cluster"
        raise InputError(f"{variable} task", f"{kind} {index}", problem, _EXAMPLE)
    return Cluster(tuple(address for *_, address in members), places.index((kind, index)))
