"""The probe of one step: every check within its time, and never an error."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from components.extract.options import ExtractOptions
from components.probe import identity, machine, network, software
from components.probe.files import artifact_folder, attempt
from components.probe.findings import (
    SCHEMA,
    Finding,
    as_content,
    bounded,
    fix,
    log_findings,
    ok,
    warning,
)
from components.probe.gpu import SECONDS as GPU_SECONDS
from components.probe.gpu import gpu
from components.probe.source import source
from trainer.files import begin_artifact, finish_artifact
from trainer.options import Options

logger = logging.getLogger(__name__)

ITEM = {"number": 8, "ratio": 0.25, "text": "für"}
"""The item of the probe's loop, with the types of a tuning candidate."""

_SIZE = 64 << 20
_MEASURED = 15.0
_TRAINING = ("train", "trial")

_Check = tuple[str, float, Callable[[], Iterable[Finding]]]


def probe(
    options: Options,
    *,
    step: str,
    cores: float,
    memory_bytes: int,
    accelerators: int,
    findings: Path,
    item: Any = None,
) -> dict[str, Any]:
    """Find out what a step can do where it runs, and write it as an artifact of schema ``wals.probe``.

    Args:
        options: `ProbeOptions`, or in the image of the extraction `ExtractOptions`, to look at the source.
        step: name of the step whose image and settings these are.
        cores: cores in the settings; 0 if they do not say.
        memory_bytes: memory in the settings; 0 if they do not say.
        accelerators: number of GPUs in the settings.
        findings: folder of the artifact.
        item: the item of a loop that runs this step; None outside a loop.

    Returns:
        The content of the artifact.
    """
    found = [
        replace(one, steps=(step,))
        for check in _checks(options, step, cores, memory_bytes, accelerators, findings, item)
        for one in bounded(*check)
    ]
    log_findings(found)
    content = as_content(found)
    # Even this may hang or fail, and what was found is in the log.
    log_findings(bounded("artifacts", _MEASURED, partial(_write, findings, content)))
    return content


def _checks(
    options: Any,
    step: str,
    cores: float,
    memory_bytes: int,
    accelerators: int,
    findings: Path,
    item: Any,
) -> Iterator[_Check]:
    """Yield the name of each check, its longest time in seconds, and the check."""
    cloud = _cloud()
    called = network.services(step, options, cloud)
    yield "user", 5, identity.user
    yield "account", 5, partial(identity.account, cloud)
    yield "attempt", 30, partial(attempt, findings)
    yield "artifacts", 120, partial(artifact_folder, findings, _SIZE, _MEASURED)
    yield "local disk", 60, partial(machine.disk, _SIZE, _MEASURED)
    yield "cores", 5, partial(machine.cores, cores)
    yield "memory", 5, partial(machine.memory, memory_bytes)
    yield "clock", 20, partial(network.clock, cloud, called)
    yield "egress", 30, partial(network.egress, called)
    yield "packages", 30, software.versions
    if step in _TRAINING or accelerators:
        solver = "auto" if isinstance(options, ExtractOptions) else options.solver
        work: Literal["train", "rank"] = "train" if step in _TRAINING else "rank"
        yield "gpu", 2 * GPU_SECONDS, partial(gpu, accelerators, solver, work=work)
    if isinstance(options, ExtractOptions):
        yield "source", 120, partial(source, options)
    if item is not None:
        yield "loop item", 5, partial(loop_item, item)


def loop_item(item: Any) -> Iterator[Finding]:
    """Compare the item of a loop with the one that the loop was given."""
    check = "loop item"
    if not isinstance(item, dict):
        yield fix(
            check,
            f"arrives as {type(item).__name__}, not as an object",
            "annotate the output that the loop goes over as list[dict], and compile again",
        )
    elif item != ITEM:
        yield warning(check, f"arrives as {item}, not as {ITEM}", "report it with the platform's version")
    else:
        values = ", ".join(f"{name} {item[name]!r}" for name in ITEM)
        yield ok(check, f"arrives as an object, with {values}")


def _cloud() -> network.Cloud | None:
    """Return what Google's metadata server says; None if it does not answer in time."""
    answers: list[network.Cloud | None] = []

    def ask() -> Iterator[Finding]:
        answers.append(network.google_cloud())
        yield from ()

    bounded("metadata", 2 * network.SECONDS, ask)
    return answers[0] if answers else None


def _write(folder: Path, content: dict[str, Any]) -> Iterator[Finding]:
    begin_artifact(folder)
    finish_artifact(folder, SCHEMA, content)
    yield from ()
