"""Starts jobs of several processes on this machine, each with its own TF_CONFIG."""

import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from tests.processes import Process, running
from tests.trainer.distributed.program import take_part


def free_addresses(number: int) -> list[str]:
    """Return addresses of this machine that nothing listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


def descriptions(number: int) -> list[str]:
    """Return the TF_CONFIG of each process of a job."""
    cluster = {"worker": free_addresses(number)}
    return [
        json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        for index in range(number)
    ]


def write_job(folder: Path, matrix: sparse.csr_array, *, every: int = 10_000, **parameters: Any) -> None:
    """Write what `program.py` reads."""
    folder.mkdir(exist_ok=True)
    sparse.save_npz(folder / "matrix.npz", matrix)
    (folder / "config.json").write_text(json.dumps({**parameters, "every": every}), "utf-8")


def training(
    folder: Path, processes: int, **variables: str
) -> contextlib.AbstractContextManager[list[Process]]:
    """Start `program.py` in some processes; ``variables`` are set in the last one only."""
    environments: list[dict[str, str]] = [{"TF_CONFIG": text} for text in descriptions(processes)]
    environments[-1] |= variables
    return running(take_part, [folder], environments, folder)


def factors(folder: Path) -> dict[str, np.ndarray]:
    """Return what the chief wrote."""
    with np.load(folder / "factors.npz") as arrays:
        return dict(arrays)
