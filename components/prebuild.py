"""Compiles the kernels of a step while its image is built: ``python -m components.prebuild STEP FOLDER``.

A miniature run on this machine tells the types that the kernels are called with. They are then compiled for
each level of `trainer.solvers.levels`, whether or not this machine could run them.
"""

import importlib
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from components.miniatures import run_miniature
from trainer.scratch import scratch_folder
from trainer.solvers.levels import LEVELS

Argument = TypeVar("Argument")
Result = TypeVar("Result")
Signatures = Mapping[tuple[str, str], Sequence[Any]]
"""The types of the arguments that a kernel is called with, by its module and name."""


def prebuild(step: str, folder: Path) -> None:
    """Write the cache of a step's kernels for each level, as Numba reads it.

    Args:
        step: name of the step's folder.
        folder: folder to write, which `trainer.solvers.cache` finds by the variable ``WALS_KERNELS``. It
            remains empty if the step has no kernels, or this is not an x86-64 machine.

    Raises:
        RuntimeError: the miniature does not call one of the step's kernels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with scratch_folder() as scratch:
        # Packages leave their own caches in the home folder.
        found = in_process(signatures_of, step, {"HOME": str(scratch)})
    if found and platform.machine() == "x86_64":
        for level in LEVELS:
            variables = {
                "NUMBA_CPU_NAME": level.cpu,
                "NUMBA_CPU_FEATURES": level.features,
                "NUMBA_CACHE_DIR": str(folder / level.cpu),
            }
            in_process(_compile, found, variables)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def signatures_of(step: str) -> Signatures:
    """Run a step's miniature, and return the signatures of all kernels that the step imports.

    Raises:
        RuntimeError: the miniature does not call one of them.
    """
    run_miniature(step)
    found = signatures_so_far()
    unused = [".".join(name) for name, signatures in found.items() if not signatures]
    if unused:
        raise RuntimeError(f"components/miniatures.py: step {step} does not call {', '.join(unused)}")
    return found


def signatures_so_far() -> Signatures:
    """Return the signatures that the kernels of this process have been called with."""
    if "trainer.solvers.kernels" not in sys.modules:
        return {}
    from trainer.solvers.kernels import KERNELS

    return {
        (kernel.py_func.__module__, kernel.py_func.__name__): list(kernel.signatures) for kernel in KERNELS
    }


def _compile(found: Signatures) -> None:
    for (module, name), signatures in found.items():
        kernel = getattr(importlib.import_module(module), name)
        for signature in signatures:
            kernel.compile(signature)


def in_process(
    function: Callable[[Argument], Result], argument: Argument, variables: Mapping[str, str]
) -> Result:
    """Call a function in a new process with some environment variables, because Numba reads them once."""
    with _environment(variables), ProcessPoolExecutor(1, get_context("spawn")) as executor:
        return executor.submit(function, argument).result()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    prebuild(sys.argv[1], Path(sys.argv[2]))
