"""Starts jobs of several processes on this machine, each with its own TF_CONFIG."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

ROOT = Path(__file__).parents[3]
LONGEST = 120.0


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


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    code: int
    lines: list[str]


class Job:
    """Processes of a job that runs."""

    def __init__(
        self,
        command: Sequence[str | Path],
        variables: Sequence[Mapping[str, str]],
        folder: Path,
    ) -> None:
        self._logs = [folder / f"worker-{number}.log" for number in range(len(variables))]
        self.processes = []
        for log, of_process in zip(self._logs, variables, strict=True):
            with log.open("w") as file:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, *command],
                        env={**os.environ, "PYTHONPATH": str(ROOT), **of_process},
                        stdout=file,
                        stderr=file,
                    )
                )

    def ended(self) -> list[Ended]:
        """Wait for the processes to end, and return how they did."""
        codes = [process.wait(LONGEST) for process in self.processes]
        return [
            Ended(code, log.read_text("utf-8").splitlines())
            for code, log in zip(codes, self._logs, strict=True)
        ]

    def stop(self) -> None:
        """End the processes that still run."""
        for process in self.processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def running(
    command: Sequence[str | Path], variables: Sequence[Mapping[str, str]], folder: Path
) -> Iterator[Job]:
    """Start a process for each set of environment variables."""
    job = Job(command, variables, folder)
    try:
        yield job
    finally:
        job.stop()


def write_job(folder: Path, matrix: sparse.csr_array, *, every: int = 10_000, **parameters: Any) -> None:
    """Write what `program.py` reads."""
    folder.mkdir(exist_ok=True)
    sparse.save_npz(folder / "matrix.npz", matrix)
    (folder / "config.json").write_text(json.dumps({**parameters, "every": every}), "utf-8")


def training(folder: Path, processes: int, **variables: str) -> contextlib.AbstractContextManager[Job]:
    """Start `program.py` in some processes; ``variables`` are set in the last one only."""
    environments: list[dict[str, str]] = [{"TF_CONFIG": text} for text in descriptions(processes)]
    environments[-1] |= variables
    return running([Path(__file__).with_name("program.py"), folder], environments, folder)


def factors(folder: Path) -> dict[str, np.ndarray]:
    """Return what the chief wrote."""
    with np.load(folder / "factors.npz") as arrays:
        return dict(arrays)
