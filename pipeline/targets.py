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
_LONGEST_WAIT = "3600s"


def _vertex_custom_job(component: Any, settings: StepSettings, job: CustomJob) -> Any:
    """Return a component that runs another one as a Vertex AI custom job.

    Raises:
        InputError: the package with Google's own components is not installed.
    """
    # Slow to import, and most specs have no custom job.
    from google_cloud_pipeline_components.v1.custom_job import create_custom_training_job_from_component

    return create_custom_training_job_from_component(
        component,
        display_name=component.name,
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


@dataclass(frozen=True)
class Target:
    """A platform that a pipeline is compiled for.

    Attributes:
        name: what ``compile.py --target`` takes.
        upload_hint: where a person takes the compiled file.
        accelerators: the platform's names of GPUs, with the counts that a step may have; any if empty.
        steps: settings by step.
        custom_job: makes a component run as the platform's custom job; None where there are none.
    """

    name: str
    upload_hint: str
    accelerators: Mapping[str, tuple[int, ...]]
    steps: Mapping[str, StepSettings]
    custom_job: Callable[[Any, StepSettings, CustomJob], Any] | None = None

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
            return _with_policy(self._placed(component, settings, inputs), settings)

        return task

    def _placed(self, component: Any, settings: StepSettings, inputs: Mapping[str, Any]) -> dsl.PipelineTask:
        if settings.custom_job and self.custom_job:
            return self.custom_job(component, settings, settings.custom_job)(**inputs)
        task = component(**inputs).set_cpu_limit(settings.cpu).set_memory_limit(settings.memory)
        if settings.accelerators:
            # Literals: a count that is a pipeline parameter compiles to a form Vertex alone understands.
            task.set_accelerator_type(settings.accelerator).set_accelerator_limit(settings.accelerators)
        return task

    def check(self, step: str, settings: StepSettings) -> None:
        """Refuse settings of a step that this platform does not know.

        Raises:
            InputError: naming the first of them.
        """
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
        if settings.custom_job and not self.custom_job:
            raise InputError(
                f"{step}.custom_job",
                settings.custom_job.machine_type,
                f"is not to be had on {self.name}",
                "leave it out, or compile for vertex",
            )


def _with_policy(task: dsl.PipelineTask, settings: StepSettings) -> dsl.PipelineTask:
    if settings.retries:
        task.set_retry(settings.retries, f"{settings.retry_seconds}s", 2.0, _LONGEST_WAIT)
    if not settings.cache:
        task.set_caching_options(False)
    return task


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
