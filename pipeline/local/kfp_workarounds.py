"""Workarounds for defects of ``kfp.local`` in kfp 2.17.0.

Each workaround names the version that it was last needed with. When kfp is upgraded, remove a workaround and
run its tests (``make test``, ``make test-docker``); if they pass, it can go.
"""

import codecs
import concurrent.futures
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from kfp.local import SubprocessRunner, logging_utils, subprocess_task_handler
from kfp.local.orchestrator import enhanced_dag_orchestrator
from kfp.local.status import Status

from components.runtime import LOG_MARK
from pipeline.local.step_logs import INDENT
from trainer.threads import usable_cores

_Step = TypeVar("_Step")


class _RunningSteps:
    """The processes or containers of the steps that are running; can be used from several threads."""

    def __init__(self) -> None:
        self.stopped = False
        self._lock = threading.Lock()
        self._kills: dict[object, Callable[[], object]] = {}

    @contextlib.contextmanager
    def started(self, start: Callable[[], _Step], kill: Callable[[_Step], object]) -> Iterator[_Step]:
        """Start a step for the block, and yield it; `stop` ends it."""
        with self._lock:
            step = start()
            if self.stopped:
                kill(step)
            else:
                self._kills[step] = partial(kill, step)
        try:
            yield step
        finally:
            with self._lock:
                killed = self._kills.pop(step, None) is None
            if killed:
                print(f"{INDENT}{LOG_MARK} stopped, because another step failed")

    def stop(self) -> None:
        """End all steps, and from now on each that starts, until ``stopped`` is set to False."""
        with self._lock:
            self.stopped = True
            while self._kills:
                _, kill = self._kills.popitem()
                kill()


_running = _RunningSteps()


class _FailFastPool(concurrent.futures.ThreadPoolExecutor):
    """Runs the tasks of a loop; when one fails, stops those that run and skips those that wait."""

    def submit(self, task: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Any:
        return super().submit(self._run, partial(task, *arguments, **keywords))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures)
        # An exit handler still runs.
        _running.stopped = False

    @staticmethod
    def _run(task: Callable[[], tuple[dict[str, Any], Status]]) -> tuple[dict[str, Any], Status]:
        outputs: dict[str, Any] = {}
        status = Status.FAILURE
        try:
            if not _running.stopped:
                outputs, status = task()
        finally:
            if status == Status.FAILURE:
                _running.stop()
        return outputs, status


@contextlib.contextmanager
def loops_fail_fast() -> Iterator[None]:
    """Stop the other tasks of a parallel loop as soon as one fails. Needed with kfp 2.17.0.

    kfp.local waits for those that run, and even starts those that wait.
    """
    kfp_module = enhanced_dag_orchestrator.concurrent
    enhanced_dag_orchestrator.concurrent = SimpleNamespace(
        futures=SimpleNamespace(
            ThreadPoolExecutor=_FailFastPool, as_completed=concurrent.futures.as_completed
        )
    )
    try:
        yield
    finally:
        enhanced_dag_orchestrator.concurrent = kfp_module


class _WideExecutor(enhanced_dag_orchestrator.ParallelExecutor):  # type: ignore[misc]
    """Runs as many tasks of a loop at once as this machine has cores."""

    def __init__(self, max_workers: int | None = None) -> None:
        super().__init__(max_workers)
        self.conservative_max = self.max_workers = usable_cores()


@contextlib.contextmanager
def loops_use_all_cores() -> Iterator[None]:
    """Run as many tasks of a parallel loop at once as there are cores. Needed with kfp 2.17.0.

    kfp.local runs two, whatever the loop or the machine is.
    """
    kfp_class = enhanced_dag_orchestrator.ParallelExecutor
    enhanced_dag_orchestrator.ParallelExecutor = _WideExecutor
    try:
        yield
    finally:
        enhanced_dag_orchestrator.ParallelExecutor = kfp_class


@contextlib.contextmanager
def one_log() -> Iterator[None]:
    """Log the whole run with one set of handlers, and leave ``print`` alone. Needed with kfp 2.17.0.

    Every task replaces both and then restores what it found, which with parallel tasks may be what another
    task had put there: lines of the task that ends last are lost, and the process stays changed.
    """
    kfp_logging, kfp_print = logging_utils.local_logger_context, logging_utils.indented_print
    with kfp_logging():
        logging_utils.local_logger_context = logging_utils.indented_print = contextlib.nullcontext
        try:
            yield
        finally:
            logging_utils.local_logger_context, logging_utils.indented_print = kfp_logging, kfp_print


@contextlib.contextmanager
def subprocess_runner() -> Iterator[SubprocessRunner]:
    """Yield the runner that runs each step in its own process, with this interpreter. Needed with kfp 2.17.0.

    kfp.local replaces the text ``python3`` with ``sys.executable`` in the whole command line, and so also in
    the paths of a user's data. Replacing it with itself leaves them as they are.

    Replaces kfp's function that runs a step's process, which gives no access to it.
    """
    executable, path = sys.executable, os.environ.get("PATH", "")
    kfp_function = subprocess_task_handler.run_local_subprocess
    subprocess_task_handler.run_local_subprocess = _run_process
    sys.executable = "python3"
    os.environ["PATH"] = f"{Path(executable).parent}{os.pathsep}{path}"
    try:
        yield SubprocessRunner(use_venv=False)
    finally:
        sys.executable = executable
        os.environ["PATH"] = path
        subprocess_task_handler.run_local_subprocess = kfp_function


def _run_process(full_command: Sequence[str], env_vars: Mapping[str, str] | None = None) -> int:
    """Run a step's command to its end, print what it prints and return its exit code."""
    shell, option, script, *others = full_command
    # The shell is replaced by the step, which therefore gets the signal that ends it.
    script = script.replace("_KFP_RUNTIME=true python3", "_KFP_RUNTIME=true exec python3")
    start = partial(
        subprocess.Popen,
        [shell, option, script, *others],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
        env={**os.environ, **(env_vars or {})},
    )
    with _running.started(start, subprocess.Popen.terminate) as process, process:
        _print_indented(process.stdout or ())
        return process.wait()


def _print_indented(pieces: Iterable[str]) -> None:
    """Print the lines that a step prints, which come in pieces that may end anywhere."""
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + piece).split("\n")
        for line in lines:
            print(f"{INDENT}{line}")
    print(f"{INDENT}{rest}" if rest else "")


def run_docker_container(
    client: Any, image: str, command: Sequence[str], volumes: Mapping[str, Any], **arguments: Any
) -> int:
    """Run a container to its end, print its log and return its exit code. Needed with kfp 2.17.0.

    Replaces kfp's function of this name, which starts containers with ``auto_remove`` and reads "no such
    container" as exit code 0: a step that fails counts as a success if its container is gone before kfp asks
    for its exit code. Here a container stays until its exit code is known. As on Kubernetes and Vertex AI,
    the component's command replaces the image's entry point.
    """
    container = client.containers.create(
        image, entrypoint=command[:1], command=command[1:], volumes=volumes, **arguments
    )
    try:
        with _running.started(lambda: container.start() or container, lambda one: one.stop(timeout=0)):
            # A chunk of the log may end in the middle of a character.
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            _print_indented(map(decoder.decode, container.logs(stream=True, follow=True)))
            return int(container.wait()["StatusCode"])
    finally:
        container.remove(force=True)
