"""Everything that differs between the platforms that a pipeline is compiled for, and why."""

import copy
import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from components.images import ON_GPU
from components.notify.options import VERSIONS_OF_SECRETS
from components.runtime import SECRETS
from pipeline.definition.settings import (
    KUBERNETES_SECRETS,
    LIKE,
    CustomJob,
    StepSettings,
    read_settings,
)
from pipeline.definition.vertex_machines import (
    boot_disk_of,
    job_problems,
    reservation_affinity,
    vertex_facts,
)
from trainer.errors import CombinedInputError, InputError

if TYPE_CHECKING:
    from kfp import dsl


@dataclass(frozen=True)
class Target:
    """A platform that a pipeline is compiled for.

    Attributes:
        name: value of ``compile.py --target``.
        upload_hint: where to upload the compiled file.
        accelerators: the platform's names of GPUs, with the counts that a step may have; any if empty.
        steps: settings by step.
        most_cores: cores of the largest machine.
        most_memory: memory of the largest machine in bytes.
        longest_wait: upper bound of the waits between retries, in seconds.
        run_id: placeholder that the platform replaces by a run's id.
        retries_if: what retries require that only the platform's operator can tell; nothing if empty.
        custom_job: function that makes a component run as a custom job; None if the platform has none.
        secret: pattern of the names of secrets, and such a name with a placeholder for each part.
        give_secrets: function that gives a task environment variables from secrets.
    """

    name: str
    upload_hint: str
    accelerators: Mapping[str, tuple[int, ...]]
    steps: Mapping[str, StepSettings]
    most_cores: int
    most_memory: int
    longest_wait: int
    run_id: str
    secret: tuple[str, str]
    give_secrets: "Callable[[dsl.PipelineTask, Mapping[str, str]], None]"
    retries_if: str = ""
    custom_job: Callable[[Any, StepSettings, CustomJob], Any] | None = None

    def with_settings(self, path: Path) -> Self:
        """Return this target with the settings of a file.

        Raises:
            InputError: the file cannot be used, or this platform does not support a setting.
        """
        steps = read_settings(path, self.steps)
        # A step with the settings of another one has its problems too.
        own = [step for step in steps if steps[step] != steps.get(LIKE.get(step, ""))]
        problems = [problem for step in own for problem in self.problems(step, steps[step])]
        if problems:
            raise CombinedInputError.of(problems)
        return dataclasses.replace(self, steps=steps)

    def on_this_machine(self, run_id: str) -> Self:
        """Return this target for a run on this machine, where a step that fails would fail again.

        Args:
            run_id: what to call the run.
        """
        steps = {step: settings.model_copy(update={"retries": 0}) for step, settings in self.steps.items()}
        return dataclasses.replace(self, run_id=run_id, steps=steps)

    def problems(self, step: str, settings: StepSettings) -> Iterator[InputError]:
        """Yield the problems of settings that this platform does not support.

        Args:
            step: name of the step.
            settings: settings of the step.
        """
        for field, value, amount, most, shown in (
            ("cpu", settings.cpu, settings.cores, self.most_cores, f"{self.most_cores}"),
            (
                "memory",
                settings.memory,
                settings.memory_bytes,
                self.most_memory,
                f"{self.most_memory // 10**9}G",
            ),
        ):
            if amount > most:
                yield InputError(
                    f"{step}.{field}",
                    value,
                    f"exceeds the largest machine of {self.name}",
                    f"give at most {shown}",
                )
        accelerator_problems = list(self._accelerator_problems(step, settings))
        yield from accelerator_problems
        yield from self._secret_problems(step, settings)
        job = settings.custom_job
        if job and self.custom_job and not accelerator_problems:
            yield from job_problems(step, settings, job)
        elif job and not self.custom_job:
            yield InputError(
                f"{step}.custom_job",
                job.machine_type,
                f"is not supported on {self.name}",
                "omit it, or compile for vertex",
            )

    def _secret_problems(self, step: str, settings: StepSettings) -> Iterator[InputError]:
        pattern, example = self.secret
        for variable, name in settings.secrets.items():
            if not re.fullmatch(pattern, name):
                problem = f"is not the name of a secret on {self.name}"
                yield InputError(f"{step}.secrets.{variable}", name, problem, f"give {example}")
        if settings.secrets and settings.custom_job and self.custom_job:
            yield InputError(
                f"{step}.secrets",
                ", ".join(settings.secrets),
                "are not supported for a custom job",
                "grant the job's service account access to what it reads, or omit custom_job",
            )

    def with_job_defaults(self, defaults: Mapping[str, str]) -> Self:
        """Return this target with values for the custom jobs that do not set them.

        Args:
            defaults: values by setting of a custom job; an empty one is none.
        """
        given = {name: value for name, value in defaults.items() if value}
        steps = {step: settings.with_job_defaults(given) for step, settings in self.steps.items()}
        return dataclasses.replace(self, steps=steps)

    def _accelerator_problems(self, step: str, settings: StepSettings) -> Iterator[InputError]:
        if not settings.accelerators:
            return
        if step not in ON_GPU:
            yield InputError(
                f"{step}.accelerators",
                settings.accelerators,
                "is not supported, because the step does not use a GPU",
                f"omit accelerator and accelerators; these steps use GPUs: {', '.join(ON_GPU)}",
            )
            return
        if settings.accelerator not in self.accelerators:
            yield InputError(
                f"{step}.accelerator",
                settings.accelerator,
                f"is unknown on {self.name}",
                f"give one of {', '.join(self.accelerators)}",
            )
            return
        counts = self.accelerators[settings.accelerator]
        if counts and settings.accelerators not in counts:
            yield InputError(
                f"{step}.accelerators",
                settings.accelerators,
                f"is not a supported count of {settings.accelerator}",
                f"give one of {', '.join(map(str, counts))}",
            )

    def placed(self, component: Any, image: str, step: str = "") -> "Callable[..., dsl.PipelineTask]":
        """Return a function that creates a task of a step's component for this platform.

        Args:
            component: component of the step.
            image: container image of the step.
            step: step whose settings the task has; the component's own if empty.
        """
        settings = self.steps[step or component.name]
        # A copy, because a custom job takes the image from the component.
        component = copy.deepcopy(component)
        component.component_spec.implementation.container.image = image

        def task(**inputs: Any) -> "dsl.PipelineTask":
            return self._with_policy(self._placed(component, settings, inputs), settings)

        return task

    def _placed(
        self, component: Any, settings: StepSettings, inputs: Mapping[str, Any]
    ) -> "dsl.PipelineTask":
        if settings.custom_job and self.custom_job:
            return self.custom_job(component, settings, settings.custom_job)(**inputs)
        task = component(**inputs).set_cpu_limit(settings.cpu).set_memory_limit(settings.memory)
        if settings.accelerators:
            # Literals: a count that is a pipeline parameter compiles to a form that only Vertex understands.
            task.set_accelerator_type(settings.accelerator).set_accelerator_limit(settings.accelerators)
        return task

    def _with_policy(self, task: "dsl.PipelineTask", settings: StepSettings) -> "dsl.PipelineTask":
        if settings.retries:
            task.set_retry(settings.retries, f"{settings.retry_seconds}s", 2.0, f"{self.longest_wait}s")
        if not settings.cache:
            task.set_caching_options(False)
        if settings.secrets:
            self.give_secrets(task, settings.secrets)
        return task


def _vertex_custom_job(component: Any, settings: StepSettings, job: CustomJob) -> Any:
    """Return a component that runs another one as a Vertex AI custom job.

    Raises:
        InputError: the component has inputs with the names of a custom job's own, and would override them, or
            it receives the status of the run.
    """
    # Slow to import, and most specs have no custom job.
    from google_cloud_pipeline_components.v1.custom_job import (
        CustomTrainingJobOp,
        create_custom_training_job_from_component,
    )

    if any(given.type == _FINAL_STATUS for given in component.component_spec.inputs.values()):
        raise InputError(
            f"{component.name}.custom_job",
            job.machine_type,
            "is not supported for this step, which receives the status of the run",
            "omit it, and set cpu and memory",
        )
    clashes = sorted({*component.component_spec.inputs} & {*CustomTrainingJobOp.component_spec.inputs})
    if clashes:
        raise InputError(
            f"{component.name}.custom_job",
            job.machine_type,
            f"is not supported for this step, whose inputs {', '.join(clashes)} would override the job's own",
            "omit it, and set cpu and memory",
        )
    return create_custom_training_job_from_component(
        component,
        display_name=component.name,
        replica_count=job.replicas,
        machine_type=job.machine_type,
        accelerator_type=settings.accelerator,
        accelerator_count=settings.accelerators,
        boot_disk_type=boot_disk_of(job),
        boot_disk_size_gb=job.boot_disk_gb,
        timeout=f"{job.timeout_seconds}s",
        # Vertex AI replaces a machine that it lost; the others have to begin again with it.
        restart_job_on_worker_restart=job.replicas > 1,
        service_account=job.service_account or _RUNS_SERVICE_ACCOUNT,
        network=job.network or ("" if job.network_attachment else _RUNS_NETWORK),
        encryption_spec_key_name=job.encryption_key or _RUNS_ENCRYPTION_KEY,
        tensorboard=job.tensorboard,
        # Vertex AI names a folder for TensorBoard's files only to jobs that have an output directory.
        base_output_directory=_JOB_FOLDER if job.tensorboard else "",
        labels=dict(job.labels),
        strategy=job.strategy,
        **_optional(job),
    )


# kfp's name of the type of the status that an exit handler's task receives.
_FINAL_STATUS = "PipelineTaskFinalStatus"
# What Vertex AI replaces at run time. A job without a service account runs as Google's agent for custom code,
# not as the run's account; without the others it has neither the run's network nor its key.
_RUNS_SERVICE_ACCOUNT = "{{$.pipeline_service_account}}"
_RUNS_NETWORK = "{{$.pipeline_network}}"
_RUNS_ENCRYPTION_KEY = "{{$.pipeline_encryption_key_name}}"
_JOB_FOLDER = "{{$.pipeline_root}}/jobs/{{$.pipeline_job_name}}/{{$.pipeline_task_uuid}}"


def _optional(job: CustomJob) -> dict[str, Any]:
    """Return the arguments of a custom job that have no value unless the user gives one."""
    given: dict[str, Any] = {}
    if job.persistent_resource:
        given["persistent_resource_id"] = job.persistent_resource
    if job.max_wait_seconds is not None:
        given["max_wait_duration"] = f"{job.max_wait_seconds}s"
    if job.network_attachment:
        given["psc_interface_config"] = {"network_attachment": job.network_attachment}
    if affinity := reservation_affinity(job):
        given |= {
            "reservation_affinity_type": affinity["reservationAffinityType"],
            "reservation_affinity_key": affinity.get("key"),
            "reservation_affinity_values": affinity.get("values"),
        }
    return given


def _name_secrets(task: "dsl.PipelineTask", secrets: Mapping[str, str]) -> None:
    """Tell a task the names of the secrets that it reads from Secret Manager when it starts.

    Args:
        task: task of a step.
        secrets: ``projects/P/secrets/S/versions/V`` by variable.
    """
    if secrets:
        task.set_env_variable(SECRETS, json.dumps(dict(secrets), sort_keys=True))


def _give_kubernetes_secrets(task: "dsl.PipelineTask", secrets: Mapping[str, str]) -> None:
    """Set environment variables from Kubernetes secrets, in a second document of the spec.

    Args:
        task: task of a step.
        secrets: ``secret/key`` by variable.
    """
    from kfp import kubernetes  # the only code that depends on Kubernetes

    for variable, secret in secrets.items():
        name, key = secret.split("/")
        kubernetes.use_secret_as_env(task, secret_name=name, secret_key_to_env={key: variable})


# Other services than the platform's may be down for a minute. Neither platform can tell bad input from that.
_OF_SERVICES = 2
_TRAINS = StepSettings(cpu="8", memory="30G", accelerator="NVIDIA_TESLA_T4", accelerators=1)
_SMALL = StepSettings(cpu="1", memory="4G")
# What these steps do depends on more than their inputs, such as the model that serves.
_SMALL_UNCACHED = StepSettings(cpu="1", memory="4G", cache=False)

VERTEX = Target(
    name="vertex",
    upload_hint="Vertex AI > Pipelines > Create run > Upload file: https://console.cloud.google.com/vertex-ai/pipelines",
    accelerators={name: gpu.counts for name, gpu in vertex_facts().accelerators.items()},
    # Vertex picks a machine that fits the limits.
    steps={
        "extract": StepSettings(cpu="4", memory="16G", retries=_OF_SERVICES),
        "prepare": StepSettings(cpu="8", memory="32G"),
        "train": _TRAINS,
        "evaluate": StepSettings(cpu="4", memory="16G", cache=False),
        "reject": _SMALL_UNCACHED,
        "refit": _TRAINS,
        "publish": StepSettings(cpu="4", memory="16G"),
        "deliver": StepSettings(cpu="2", memory="8G", cache=False, retries=_OF_SERVICES),
        "notify": _SMALL_UNCACHED,
        "suggest": _SMALL,
        "trial": _TRAINS,
        "choose": _SMALL,
    },
    most_cores=vertex_facts().limits.cores,
    most_memory=vertex_facts().limits.memory_gb * 10**9,
    longest_wait=3600,
    # Runs are called by their names; the uuid is a number that no address contains.
    run_id="{{$.pipeline_job_name}}",
    secret=(VERSIONS_OF_SECRETS, "projects/PROJECT/secrets/SECRET/versions/VERSION"),
    # Vertex AI refuses the second document that Kubernetes secrets need in a spec.
    give_secrets=_name_secrets,
    custom_job=_vertex_custom_job,
)

KUBEFLOW = Target(
    name="kubeflow",
    upload_hint="your Kubeflow Pipelines UI > Pipelines > Upload pipeline (port-forwarded: http://localhost:8080)",
    # Kubernetes schedules by the name of a resource; a node may have any number of it.
    accelerators={"nvidia.com/gpu": ()},
    # Kubernetes takes requests from limits, and a pod that requests more than any node has stays pending
    # forever; so the defaults fit a laptop's cluster.
    steps={
        step: StepSettings(cpu="1", memory="2G", cache=settings.cache, retries=settings.retries)
        for step, settings in VERTEX.steps.items()
    },
    # More than any node that a cloud offers.
    most_cores=2048,
    most_memory=32 * 2**40,
    # Not a single wait: Argo retries a step only within this time of its first start, however long it ran.
    longest_wait=7 * 86_400,
    run_id="{{$.pipeline_job_uuid}}",
    secret=(KUBERNETES_SECRETS, "SECRET/KEY"),
    give_secrets=_give_kubernetes_secrets,
    retries_if="whether the server retries steps that fail, which Kubeflow Pipelines' own manifests rule out "
    "(see docs/kind.md)",
)

TARGETS: Mapping[str, Target] = {target.name: target for target in (VERTEX, KUBEFLOW)}
