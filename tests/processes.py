"""Processes of their own that begin with what they need imported, which would take most of their time."""

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LONGEST = 120.0
"""Longest time in seconds that a process may take."""

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["components.train.refit", "components.train.step", "components.deliver.bigquery"]
)


@dataclass(frozen=True)
class Ended:
    """A process that has ended: its exit code, -N if signal N ended it, and what it printed."""

    code: int
    lines: list[str]


class Process:
    """A process that runs."""

    def __init__(
        self,
        function: Callable[..., object],
        arguments: Sequence[object],
        log: Path,
        variables: Mapping[str, str],
    ) -> None:
        self._log = log
        log.touch()
        environment = {**os.environ, **variables}
        self._process = _CONTEXT.Process(target=_run, args=(function, arguments, log, environment))
        self._process.start()

    @property
    def pid(self) -> int:
        """Number of the process."""
        pid = self._process.pid
        assert pid
        return pid

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    def ended(self) -> Ended:
        """Wait for the process to end, and return how it did."""
        self._process.join(LONGEST)
        code = self._process.exitcode
        assert code is not None, "the process does not end"
        return Ended(code, self._log.read_text("utf-8").splitlines())

    def stop(self) -> None:
        """End the process if it still runs."""
        self._process.kill()
        self._process.join()


@contextlib.contextmanager
def running(
    function: Callable[..., object],
    arguments: Sequence[object],
    variables: Sequence[Mapping[str, str]],
    folder: Path,
) -> Iterator[list[Process]]:
    """Call a function in a process for each set of further environment variables, until the block ends.

    Args:
        function: function of a module; if it returns a number, that is the exit code.
        arguments: its arguments.
        variables: environment variables of each process.
        folder: folder for what the processes print.
    """
    processes: list[Process] = []
    try:
        for number, of_process in enumerate(variables):
            processes.append(Process(function, arguments, folder / f"process-{number}.log", of_process))
        yield processes
    finally:
        for process in processes:
            process.stop()


def all_ended(processes: Sequence[Process]) -> list[Ended]:
    """Wait for processes to end, and return how they did."""
    return [process.ended() for process in processes]


def _run(
    function: Callable[..., object], arguments: Sequence[object], log: Path, environment: Mapping[str, str]
) -> None:
    with log.open("ab") as output:
        for descriptor in (1, 2):
            os.dup2(output.fileno(), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    sys.exit(function(*arguments))  # type: ignore[arg-type]
