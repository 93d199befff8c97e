"""The machines, accelerators and regions of Vertex AI, and which can be combined."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pydantic
import yaml

from pipeline.definition.settings import TRAINING, CustomJob, StepSettings
from trainer.errors import InputError, problems_of

_FACTS = Path(__file__).with_name("vertex_facts.yaml")
_PERSISTENT_DISKS = ("pd-ssd", "pd-standard")
_LONGEST_QUEUED_JOB = 7 * 86_400


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
        queued: whether a custom job may wait in the queue of FLEX_START for it.
        regions: regions that offer it; all if empty.
    """

    counts: tuple[int, ...]
    fits_n1: bool = False
    queued: bool = False
    regions: frozenset[str] = frozenset()


class GpuMachine(_Facts):
    """A machine type that comes with GPUs.

    Attributes:
        accelerator: name of the GPU.
        count: number of GPUs.
        boot_disk: the only type of boot disk that the machine supports; a persistent disk if empty.
    """

    accelerator: str
    count: int
    boot_disk: str = ""


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


def boot_disk_of(job: CustomJob) -> str:
    """Return the type of a job's boot disk: the given one, or the one that its machine supports."""
    return job.boot_disk_type or _required_disk(job) or _PERSISTENT_DISKS[0]


def reservation_affinity(job: CustomJob) -> dict[str, Any]:
    """Return a job's ``ReservationAffinity`` as JSON values; empty if the user gives none."""
    if not job.reservation:
        return {}
    if job.reservation in ("any", "none"):
        kind = {"any": "ANY_RESERVATION", "none": "NO_RESERVATION"}[job.reservation]
        return {"reservationAffinityType": kind}
    return {
        "reservationAffinityType": "SPECIFIC_RESERVATION",
        "key": "compute.googleapis.com/reservation-name",
        "values": [job.reservation],
    }


def job_problems(step: str, settings: StepSettings, job: CustomJob) -> Iterator[InputError]:
    """Yield the problems of a custom job that Vertex AI would refuse, or that would not work there.

    Args:
        step: name of the step.
        settings: settings of the step.
        job: its custom job.
    """
    yield from problems_of(lambda: check_machine(step, settings, job))
    name = f"{step}.custom_job"
    required = _required_disk(job)
    supported = (required,) if required else _PERSISTENT_DISKS
    if job.boot_disk_type and job.boot_disk_type not in supported:
        yield InputError(
            f"{name}.boot_disk_type",
            job.boot_disk_type,
            f"is not supported on {job.machine_type}",
            f"give {' or '.join(supported)}, or omit it",
        )
    if job.network and job.network_attachment:
        yield InputError(
            f"{name}.network_attachment",
            job.network_attachment,
            "cannot be combined with a network",
            "omit one of them",
        )
    if job.strategy == "FLEX_START":
        yield from _queue_problems(name, settings, job)
    elif job.max_wait_seconds is not None:
        yield InputError(
            f"{name}.max_wait_seconds",
            job.max_wait_seconds,
            f"is not supported with strategy {job.strategy}, which does not wait",
            "set strategy: FLEX_START, or omit it",
        )
    if job.reservation not in ("", "none") and job.strategy != "STANDARD":
        yield InputError(
            f"{name}.reservation",
            job.reservation,
            f"is not supported with strategy {job.strategy}",
            "omit one of them",
        )
    if job.replicas > 1 and step not in TRAINING:
        yield InputError(
            f"{name}.replicas",
            job.replicas,
            "is not supported for this step, which uses one machine",
            "omit it",
        )
    if settings.retries:
        # Google's launcher finds the job of the first attempt, and reports its failure again.
        yield InputError(
            f"{step}.retries",
            settings.retries,
            "are not supported for a custom job: a retry would not start another job",
            "omit them; Vertex AI restarts a job that loses its machine, and training resumes",
        )


def _queue_problems(name: str, settings: StepSettings, job: CustomJob) -> Iterator[InputError]:
    """Yield what keeps a job from waiting for its machine in the queue."""
    accelerators = vertex_facts().accelerators
    queued = [name for name, gpu in accelerators.items() if gpu.queued]
    if settings.accelerator not in queued:
        yield InputError(
            f"{name}.strategy",
            job.strategy,
            f"is not supported with {settings.accelerator or 'a machine without GPUs'}",
            f"give one of {', '.join(queued)}, or another strategy",
        )
    if job.timeout_seconds > _LONGEST_QUEUED_JOB:
        yield InputError(
            f"{name}.timeout_seconds",
            job.timeout_seconds,
            f"exceeds the longest job with strategy {job.strategy}",
            f"give at most {_LONGEST_QUEUED_JOB}",
        )


def _required_disk(job: CustomJob) -> str:
    machines = vertex_facts().machines
    return machines[job.machine_type].boot_disk if job.machine_type in machines else ""


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
    elif family in {known.partition("-")[0] for known in machines}:
        related = [known for known in machines if known.startswith(f"{family}-")]
        problem, remedy = "is not a machine type", f"give one of {', '.join(related)}"
    elif not settings.accelerators or (family == "n1" and _fits_n1(settings.accelerator)):
        return
    else:
        problem = f"does not support {settings.accelerator} x {settings.accelerators}"
        remedy = f"give {' or '.join(_machines_with(settings))}"
    raise InputError(f"{step}.custom_job.machine_type", machine, problem, remedy)


def _fits_n1(accelerator: str) -> bool:
    known = vertex_facts().accelerators
    return accelerator in known and known[accelerator].fits_n1


def _machines_with(settings: StepSettings) -> list[str]:
    """Return the machine types that have a step's GPUs."""
    if _fits_n1(settings.accelerator):
        return ["one of the n1 family"]
    wanted = (settings.accelerator, settings.accelerators)
    return [name for name, gpu in vertex_facts().machines.items() if (gpu.accelerator, gpu.count) == wanted]


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
