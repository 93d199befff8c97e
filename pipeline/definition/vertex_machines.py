"""The machines, accelerators and regions of Vertex AI, and which can be combined."""

import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import pydantic
import yaml

from pipeline.definition.settings import CustomJob, StepSettings
from trainer.errors import InputError

_FACTS = Path(__file__).with_name("vertex_facts.yaml")


class _Facts(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Limits(_Facts):
    """The most that a step may ask for."""

    cores: int
    memory_gb: int


class Accelerator(_Facts):
    """A GPU.

    Attributes:
        counts: numbers of them that a machine may have.
        fits_n1: whether a machine of the n1 family may have it.
        regions: regions that offer it; all if empty.
        runs_tensorflow: whether TensorFlow, the only solver for GPUs, has kernels for it.
    """

    counts: tuple[int, ...]
    fits_n1: bool = False
    runs_tensorflow: bool = True
    regions: frozenset[str] = frozenset()


class GpuMachine(_Facts):
    """A machine type that comes with GPUs."""

    accelerator: str
    count: int


class VertexFacts(_Facts):
    """The contents of ``vertex_facts.yaml``, which explains them."""

    limits: Limits
    accelerators: Mapping[str, Accelerator]
    machines: Mapping[str, GpuMachine]
    regions: frozenset[str]


@cache
def vertex_facts() -> VertexFacts:
    """Return what Vertex AI offers."""
    return VertexFacts.model_validate(yaml.safe_load(_FACTS.read_text("utf-8")))


def check_machine(step: str, settings: StepSettings, job: CustomJob) -> None:
    """Refuse a machine type that does not match the step's GPUs.

    Raises:
        InputError: the machine type does not match; the line names those that do.
    """
    machines = vertex_facts().machines
    machine, family = job.machine_type, job.machine_type.partition("-")[0]
    if machine in machines:
        gpu = machines[machine]
        if (settings.accelerator, settings.accelerators) == (gpu.accelerator, gpu.count):
            return
        problem, remedy = (
            f"comes with {gpu.accelerator} x {gpu.count}",
            f"set accelerator: {gpu.accelerator} and accelerators: {gpu.count}, or name another machine",
        )
        if not _runs_tensorflow(gpu.accelerator):
            problem, remedy = f"{problem}, which TensorFlow cannot use", "name another machine"
    elif family in {known.partition("-")[0] for known in machines}:
        related = [known for known in machines if known.startswith(f"{family}-")]
        problem, remedy = "is not a machine type", f"give one of {', '.join(related)}"
    elif not settings.accelerators or (family == "n1" and _fits_n1(settings.accelerator)):
        return
    else:
        problem = f"does not support {settings.accelerator} x {settings.accelerators}"
        remedy = f"give {' or '.join(_machines_with(settings))}"
    raise InputError(f"{step}.custom_job.machine_type", machine, problem, remedy)


def kernel_problems(step: str, settings: StepSettings) -> list[InputError]:
    """Return the problem of a step's accelerator that no solver can use."""
    if _runs_tensorflow(settings.accelerator):
        return []
    usable = [name for name in vertex_facts().accelerators if _runs_tensorflow(name)]
    problem, remedy = (
        "is too new for TensorFlow, which has no kernels for it",
        f"give one of {', '.join(usable)}",
    )
    return [InputError(f"{step}.accelerator", settings.accelerator, problem, remedy)]


def _runs_tensorflow(accelerator: str) -> bool:
    known = vertex_facts().accelerators
    return accelerator not in known or known[accelerator].runs_tensorflow


def _fits_n1(accelerator: str) -> bool:
    known = vertex_facts().accelerators
    return accelerator in known and known[accelerator].fits_n1


def _machines_with(settings: StepSettings) -> list[str]:
    """Return the machine types that have a step's GPUs."""
    if _fits_n1(settings.accelerator):
        return ["one of the n1 family"]
    wanted = GpuMachine(accelerator=settings.accelerator, count=settings.accelerators)
    return [machine for machine, gpu in vertex_facts().machines.items() if gpu == wanted]


def region_problems(region: str, accelerators: Iterable[str]) -> list[InputError]:
    """Return the problems of a region that is unknown, or does not offer some of the accelerators.

    Args:
        region: a region of Vertex AI.
        accelerators: Vertex AI's names of accelerators.
    """
    facts = vertex_facts()
    if region not in facts.regions:
        near = difflib.get_close_matches(region, sorted(facts.regions), 3)
        remedy = f"did you mean {' or '.join(near)}?" if near else "give one such as us-central1"
        return [InputError("region", region, "is not a region of Vertex AI", remedy)]
    offered = {name: facts.accelerators[name].regions for name in {*accelerators} & {*facts.accelerators}}
    return [
        InputError("region", region, f"does not offer {name}", f"give one of {', '.join(sorted(regions))}")
        for name, regions in sorted(offered.items())
        if regions and region not in regions
    ]
