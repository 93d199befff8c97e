"""The GPU: whether the step has one, whether its driver can be used, and what the solver makes of it."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Literal

from components.probe.findings import Finding, fix, ok, warning
from trainer.gpus import Gpus, find_gpus

SECONDS = 120.0
"""Longest wait for the solver: its library is slow to import, and to start a GPU."""

# In a process of its own, because a driver that does not fit can also end the process.
_TRY = ("-m", "components.probe.solving")
# The solvers with which a step's work is done on a GPU.
_FOR_GPU = {"train": ("auto", "cuda", "tensorflow"), "rank": ("auto", "cuda")}
_VERBS = {"train": "trains", "rank": "ranks"}


def gpu(
    settings: int, solver: str, gpus: Gpus | None = None, work: Literal["train", "rank"] = "train"
) -> Iterator[Finding]:
    """Compare the GPUs of the step with its settings, and let it train or rank with what it would choose.

    Args:
        settings: number of GPUs in the settings.
        solver: the pipeline's parameter.
        gpus: the GPUs of the step; those of this machine if None.
        work: what the step does.
    """
    gpus = find_gpus() if gpus is None else gpus
    if gpus.devices:
        cuda = f", CUDA {gpus.cuda[0]}.{gpus.cuda[1]}" if gpus.cuda[0] else ""
        if len(gpus.devices) < settings:
            problem = f"{gpus}{cuda}: fewer than the {settings} in the settings"
            yield fix("gpu", problem, "check the machine type")
        else:
            yield ok("gpu", f"{gpus}{cuda}")
        if gpus.obstacle:
            yield fix("gpu library", gpus.obstacle.problem, gpus.obstacle.remedy)
        else:
            yield ok("gpu library", "the driver's library loads")
    elif settings:
        problem = f"none, where the settings say {settings}"
        yield fix("gpu", problem, "ask for quota, or for nodes with GPUs")
    else:
        yield ok("gpu", "none, as in the settings")
    yield from _choice(solver, work, bool(gpus.devices))


def _choice(solver: str, work: str, has_gpu: bool) -> Iterator[Finding]:
    """Let what the step would choose do a tiny piece of its work."""
    check, does = "solver", _VERBS[work]
    try:
        program = [sys.executable, *_TRY, solver, work]
        result = subprocess.run(program, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        problem = f"{solver}: no answer within {SECONDS:g} s"
        yield fix(check, problem, "see whether the driver, and the image's CUDA libraries, fit the GPU")
        return
    last = (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
    chosen, on_gpu = [*result.stdout.splitlines(), "", ""][:2]
    if "ModuleNotFoundError" in last and not chosen:
        yield ok(check, f"not applicable: {last}")
    elif result.returncode:
        yield fix(check, f"{solver} cannot be used: {last}", "fix what the line says, or set solver to cg")
    elif on_gpu:
        yield ok(check, f"{solver} {does} with {chosen} on {on_gpu}")
    elif has_gpu and solver in _FOR_GPU[work]:
        problem = f"{solver} {does} with {chosen} on the CPU, and the GPU stays idle"
        yield fix(check, problem, "build the image with ACCELERATOR=gpu; see the line about the library")
    elif has_gpu:
        yield warning(check, f"{solver} does not use the GPU", "set solver to auto, or accelerators to 0")
    else:
        yield ok(check, f"{solver} {does} with {chosen} on the CPU")
