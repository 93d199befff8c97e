"""Everything that differs between the platforms a pipeline is compiled for, and why."""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from kfp import dsl

from pipeline.settings import CustomJob, StepSettings, read_settings
from trainer.errors import CombinedInputError, InputError, problems_of

# Names and counts per machine that Vertex AI takes and that our images, built for x86-64, run on.
_VERTEX_ACCELERATORS = {
    "NVIDIA_TESLA_P4": (1, 2, 4),
    "NVIDIA_TESLA_P100": (1, 2, 4),
    "NVIDIA_TESLA_T4": (1, 2, 4),
    "NVIDIA_TESLA_V100": (1, 2, 4, 8),
    "NVIDIA_L4": (1, 2, 4, 8),
    "NVIDIA_TESLA_A100": (1, 2, 4, 8, 16),
    "NVIDIA_A100_80GB": (1, 2, 4, 8),
    "NVIDIA_H100_80GB": (1, 2, 4, 8),
    "NVIDIA_H100_MEGA_80GB": (8,),
    "NVIDIA_H200_141GB": (8,),
    "NVIDIA_B200": (8,),
    "NVIDIA_RTX_PRO_6000": (1, 2, 4, 8),
}
# Machines that come with GPUs, which a custom job has to name as they are.
_VERTEX_GPU_MACHINES = {
    **{f"g2-standard-{cores}": ("NVIDIA_L4", 1) for cores in (4, 8, 12, 16, 32)},
    "g2-standard-24": ("NVIDIA_L4", 2),
    "g2-standard-48": ("NVIDIA_L4", 4),
    "g2-standard-96": ("NVIDIA_L4", 8),
    **{f"a2-highgpu-{count}g": ("NVIDIA_TESLA_A100", count) for count in (1, 2, 4, 8)},
    "a2-megagpu-16g": ("NVIDIA_TESLA_A100", 16),
    **{f"a2-ultragpu-{count}g": ("NVIDIA_A100_80GB", count) for count in (1, 2, 4, 8)},
    **{f"a3-highgpu-{count}g": ("NVIDIA_H100_80GB", count) for count in (1, 2, 4, 8)},
    "a3-megagpu-8g": ("NVIDIA_H100_MEGA_80GB", 8),
    "a3-ultragpu-8g": ("NVIDIA_H200_141GB", 8),
    "a4-highgpu-8g": ("NVIDIA_B200", 8),
    **{f"g4-standard-{48 * count}": ("NVIDIA_RTX_PRO_6000", count) for count in (1, 2, 4, 8)},
}
_VERTEX_GPU_FAMILIES = {machine.partition("-")[0] for machine in _VERTEX_GPU_MACHINES}
# GPUs that a machine of the n1 family may be given; no other family takes any.
_N1_ACCELERATORS = ("NVIDIA_TESLA_T4", "NVIDIA_TESLA_P4", "NVIDIA_TESLA_P100", "NVIDIA_TESLA_V100")


def _check_vertex_machine(step: str, settings: StepSettings, job: CustomJob) -> None:
    """Refuse a machine type that does not go with the step's GPUs.

    Raises:
        InputError: naming the machine type, and which ones would do.
    """
    machine = job.machine_type
    family = machine.partition("-")[0]
    wanted = (settings.accelerator, settings.accelerators)
    if machine in _VERTEX_GPU_MACHINES:
        name, count = _VERTEX_GPU_MACHINES[machine]
        if wanted == (name, count):
            return
        problem, remedy = (
            f"comes with {name} x {count}",
            f"set accelerator: {name} and accelerators: {count}, or name another machine",
        )
    elif family in _VERTEX_GPU_FAMILIES:
        machines = [known for known in _VERTEX_GPU_MACHINES if known.startswith(f"{family}-")]
        problem, remedy = "is not a machine", f"give one of {', '.join(machines)}"
    elif not settings.accelerators or (family == "n1" and settings.accelerator in _N1_ACCELERATORS):
        return
    else:
        machines = [known for known, gpus in _VERTEX_GPU_MACHINES.items() if gpus == wanted]
        if settings.accelerator in _N1_ACCELERATORS:
            machines = ["one of the n1 family"]
        problem = f"does not take {settings.accelerator} x {settings.accelerators}"
        remedy = f"give {' or '.join(machines)}"
    raise InputError(f"{step}.custom_job.machine_type", machine, problem, remedy)


def _vertex_custom_job(component: Any, settings: StepSettings, job: CustomJob) -> Any:
    """Return a component that runs another one as a Vertex AI custom job.

    Raises:
        InputError: the component has inputs of the names that a custom job has, and would take their place.
    """
    # Slow to import, and most specs have no custom job.
    from google_cloud_pipeline_components.v1.custom_job import (
        CustomTrainingJobOp,
        create_custom_training_job_from_component,
    )

    clashes = sorted({*component.component_spec.inputs} & {*CustomTrainingJobOp.component_spec.inputs})
    if clashes:
        raise InputError(
            f"{component.name}.custom_job",
            job.machine_type,
            f"is not to be had: the step's inputs {', '.join(clashes)} would take the place of the job's own",
            "leave it out, and set cpu and memory",
        )
    return create_custom_training_job_from_component(
        component,
        display_name=component.name,
        replica_count=job.replicas,
        machine_type=job.machine_type,
        accelerator_type=settings.accelerator,
        accelerator_count=settings.accelerators,
        boot_disk_type=job.boot_disk_type,
        boot_disk_size_gb=job.boot_disk_gb,
        timeout=f"{job.timeout_seconds}s",
        service_account=job.service_account,
        network=job.network,
        encryption_spec_key_name=job.encryption_key,
        labels=dict(job.labels),
        strategy="SPOT" if job.spot else "STANDARD",
    )


def _give_kubernetes_secrets(task: dsl.PipelineTask, secrets: Mapping[str, str]) -> None:
    """Set environment variables from Kubernetes secrets, in a second document of the spec.

    Args:
        task: of a step.
        secrets: ``secret/key`` by variable.
    """
    from kfp import kubernetes  # the one thing that knows Kubernetes, and only needed here

    for variable, secret in secrets.items():
        name, key = secret.split("/")
        kubernetes.use_secret_as_env(task, secret_name=name, secret_key_to_env={key: variable})


@dataclass(frozen=True)
class Target:
    """A platform that a pipeline is compiled for.

    Attributes:
        name: what ``compile.py --target`` takes.
        upload_hint: where a person takes the compiled file.
        accelerators: the platform's names of GPUs, with the counts that a step may have; any if empty.
        steps: settings by step.
        most_cores: of the largest machine.
        most_memory: of the largest machine, in bytes.
        longest_wait: what the waits between retries are bounded by, in seconds.
        custom_job: makes a component run as the platform's custom job; None where there are none.
        give_secrets: sets a task's environment variables from secrets; None where there are none, as on
            Vertex AI, which refuses the second document that they take.
    """

    name: str
    upload_hint: str
    accelerators: Mapping[str, tuple[int, ...]]
    steps: Mapping[str, StepSettings]
    most_cores: int
    most_memory: int
    longest_wait: int
    custom_job: Callable[[Any, StepSettings, CustomJob], Any] | None = None
    give_secrets: Callable[[dsl.PipelineTask, Mapping[str, str]], None] | None = None

    def with_settings(self, path: Path) -> Self:
        """Return this target with the settings of a file.

        Raises:
            InputError: the file cannot be used, or this platform cannot do what it says.
        """
        steps = read_settings(path, self.steps)
        problems = [
            problem
            for step, settings in steps.items()
            for problem in problems_of(partial(self.check, step, settings))
        ]
        if problems:
            raise CombinedInputError(problems)
        return dataclasses.replace(self, steps=steps)

    def placed(self, component: Any, image: str) -> Callable[..., dsl.PipelineTask]:
        """Return a function that makes a task of a step's component, as this platform is to run it.

        Args:
            component: of a step.
            image: container image of the step.
        """
        settings = self.steps[component.name]
        # A copy, for a custom job takes the image from the component.
        component = copy.deepcopy(component)
        component.component_spec.implementation.container.image = image

        def task(**inputs: Any) -> dsl.PipelineTask:
            return self._with_policy(self._placed(component, settings, inputs), settings)

        return task

    def _placed(self, component: Any, settings: StepSettings, inputs: Mapping[str, Any]) -> dsl.PipelineTask:
        if settings.custom_job and self.custom_job:
            return self.custom_job(component, settings, settings.custom_job)(**inputs)
        task = component(**inputs).set_cpu_limit(settings.cpu).set_memory_limit(settings.memory)
        if settings.accelerators:
            # Literals: a count that is a pipeline parameter compiles to a form Vertex alone understands.
            task.set_accelerator_type(settings.accelerator).set_accelerator_limit(settings.accelerators)
        return task

    def _with_policy(self, task: dsl.PipelineTask, settings: StepSettings) -> dsl.PipelineTask:
        if settings.retries:
            task.set_retry(settings.retries, f"{settings.retry_seconds}s", 2.0, f"{self.longest_wait}s")
        if not settings.cache:
            task.set_caching_options(False)
        if self.give_secrets:
            self.give_secrets(task, settings.secrets)
        return task

    def check(self, step: str, settings: StepSettings) -> None:
        """Refuse settings of a step that this platform does not know.

        Raises:
            InputError: naming the first of them.
        """
        if settings.cores > self.most_cores:
            raise InputError(
                f"{step}.cpu",
                settings.cpu,
                f"is more than a machine of {self.name} has",
                f"give {self.most_cores} at most",
            )
        if settings.memory_bytes > self.most_memory:
            raise InputError(
                f"{step}.memory",
                settings.memory,
                f"is more than a machine of {self.name} has",
                f"give {self.most_memory // 10**9}G at most",
            )
        if settings.accelerators:
            if settings.accelerator not in self.accelerators:
                raise InputError(
                    f"{step}.accelerator",
                    settings.accelerator,
                    f"is not known to {self.name}",
                    f"give one of {', '.join(self.accelerators)}",
                )
            counts = self.accelerators[settings.accelerator]
            if counts and settings.accelerators not in counts:
                raise InputError(
                    f"{step}.accelerators",
                    settings.accelerators,
                    f"is no number of {settings.accelerator} that a machine has",
                    f"give one of {', '.join(map(str, counts))}",
                )
        if settings.secrets and not self.give_secrets:
            raise InputError(
                f"{step}.secrets",
                ", ".join(settings.secrets),
                f"are not to be had on {self.name}",
                "let the step's service account read what it needs",
            )
        if settings.custom_job:
            if not self.custom_job:
                raise InputError(
                    f"{step}.custom_job",
                    settings.custom_job.machine_type,
                    f"is not to be had on {self.name}",
                    "leave it out, or compile for vertex",
                )
            _check_vertex_machine(step, settings, settings.custom_job)


VERTEX = Target(
    name="vertex",
    upload_hint="Vertex AI > Pipelines > Create run > Upload file: https://console.cloud.google.com/vertex-ai/pipelines",
    accelerators=_VERTEX_ACCELERATORS,
    # Vertex picks a machine that fits the limits.
    steps={
        "extract": StepSettings(cpu="4", memory="16G"),
        "prepare": StepSettings(cpu="8", memory="32G"),
        "train": StepSettings(cpu="8", memory="30G", accelerator="NVIDIA_TESLA_T4", accelerators=1),
        "evaluate": StepSettings(cpu="4", memory="16G"),
        "publish": StepSettings(cpu="4", memory="16G"),
        "suggest": StepSettings(cpu="1", memory="4G"),
        "trial": StepSettings(cpu="8", memory="30G", accelerator="NVIDIA_TESLA_T4", accelerators=1),
        "choose": StepSettings(cpu="1", memory="4G"),
    },
    # What Vertex AI documents as the most that a step may ask for.
    most_cores=96,
    most_memory=624 * 10**9,
    longest_wait=3600,
    custom_job=_vertex_custom_job,
)

KUBEFLOW = Target(
    name="kubeflow",
    upload_hint="your Kubeflow Pipelines UI > Pipelines > Upload pipeline (port-forwarded: http://localhost:8080)",
    # Kubernetes schedules by the name of a resource, of which a node has whatever it has.
    accelerators={"nvidia.com/gpu": ()},
    # Limits become requests, so on a laptop's cluster a larger size than the node has leaves the pod pending
    # for ever; hence none of a GPU and little of the rest.
    steps={
        step: StepSettings(cpu="1", memory="2G")
        for step in ("extract", "prepare", "train", "evaluate", "publish", "suggest", "trial", "choose")
    },
    # More than any node that clouds rent out has.
    most_cores=2048,
    most_memory=32 * 2**40,
    # Not of one wait: Argo tries a step again within so long of its first start only, however long it ran.
    longest_wait=7 * 86_400,
    give_secrets=_give_kubernetes_secrets,
)

TARGETS: Mapping[str, Target] = {target.name: target for target in (VERTEX, KUBEFLOW)}


def target_named(name: str) -> Target:
    """Return the target of that name.

    Raises:
        InputError: there is none; the line names those there are.
    """
    try:
        return TARGETS[name]
    except KeyError:
        raise InputError("target", name, "is not a target", f"give one of {', '.join(TARGETS)}") from None
