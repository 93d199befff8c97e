"""What the steps of a compiled pipeline run on, from its spec, which may have been compiled elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.platforms.backend import groups_of_tasks, pipeline_of


@dataclass(frozen=True)
class StepMachine:
    """What a step runs on.

    Attributes:
        step: name of the step.
        image: its container image.
        cpu: limit of cores, in Kubernetes notation; "" if the machine type decides.
        memory: limit of memory, likewise.
        machine_type: machine type of a Vertex AI custom job; "" for none.
        strategy: how a custom job obtains machines, such as SPOT; "" for none.
        accelerator: the platform's name of the GPU; "" for none.
        accelerators: number of GPUs of a machine.
        replicas: number of machines.
        retries: number of times that it is retried if it fails.
        timeout: time after which a custom job is stopped, such as 3600s; "" for none.
    """

    step: str
    image: str
    cpu: str = ""
    memory: str = ""
    machine_type: str = ""
    strategy: str = ""
    accelerator: str = ""
    accelerators: int = 0
    replicas: int = 1
    retries: int = 0
    timeout: str = ""


def machines_of(spec: Mapping[str, Any]) -> list[StepMachine]:
    """Return what each step of a spec runs on, in the order of the spec."""
    pipeline = pipeline_of(spec)
    components, executors = pipeline["components"], pipeline["deploymentSpec"]["executors"]
    found = []
    for tasks in groups_of_tasks(spec):
        for name, task in tasks.items():
            component = components[task["componentRef"]["name"]]
            if label := component.get("executorLabel"):
                retries = int(task.get("retryPolicy", {}).get("maxRetryCount", 0))
                found.append(_machine(name, component, executors[label], retries))
    return found


def _machine(
    step: str, component: Mapping[str, Any], executor: Mapping[str, Any], retries: int
) -> StepMachine:
    parameters = component.get("inputDefinitions", {}).get("parameters", {})
    defaults = {name: parameter.get("defaultValue") for name, parameter in parameters.items()}
    # A custom job's own task only starts it, from the values of inputs that nothing sets.
    if pools := defaults.get("worker_pool_specs"):
        machine = pools[0]["machine_spec"]
        return StepMachine(
            step,
            pools[0]["container_spec"]["image_uri"],
            machine_type=machine["machine_type"],
            strategy=str(defaults.get("strategy") or ""),
            accelerator=machine.get("accelerator_type") or "",
            accelerators=int(machine.get("accelerator_count") or 0),
            replicas=sum(int(pool["replica_count"]) for pool in pools),
            retries=retries,
            timeout=str(defaults.get("timeout") or ""),
        )
    container = executor["container"]
    resources = container.get("resources", {})
    accelerator = resources.get("accelerator", {})
    return StepMachine(
        step,
        container["image"],
        cpu=str(resources.get("resourceCpuLimit", "")),
        memory=str(resources.get("resourceMemoryLimit", "")),
        accelerator=str(accelerator.get("type", "")),
        accelerators=int(accelerator.get("count", 0)),
        retries=retries,
    )
