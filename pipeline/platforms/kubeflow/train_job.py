"""The trainer on several machines of a Kubernetes cluster, as a TrainJob of Kubeflow Trainer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.definition.settings import StepSettings

PORT = 2222
"""Port that workers listen on."""

MOUNT = "/mnt/wals"
"""Folder at which a volume is mounted."""

GROUP = 10001
"""Group of the images' user, which may write to the volume."""

_VERSION = "trainer.kubeflow.org/v1alpha1"
_NODE = "node"
_RESTARTS = 3


@dataclass(frozen=True)
class ClusterJob:
    """A run of ``trainer.task`` on some machines.

    Attributes:
        name: name of the job.
        namespace: its namespace; kubectl's if empty.
        service_account: service account of the pods; the namespace's if empty.
        image: image of the train step.
        arguments: flags of ``trainer.task``.
        machine: settings of the train step, for each machine.
        workers: number of machines.
        claim: PersistentVolumeClaim that is mounted at `MOUNT`; none if empty.
    """

    name: str
    namespace: str
    service_account: str
    image: str
    arguments: Sequence[str]
    machine: StepSettings
    workers: int
    claim: str


def manifests_of(job: ClusterJob) -> list[dict[str, Any]]:
    """Return a job's TrainingRuntime and TrainJob (Kubeflow Trainer 2), as JSON values.

    If a machine fails, all start again, a few times; with checkpoints they resume.
    """
    metadata = {"name": job.name, **({"namespace": job.namespace} if job.namespace else {})}
    runtime = {
        "apiVersion": _VERSION,
        "kind": "TrainingRuntime",
        "metadata": metadata,
        "spec": {"mlPolicy": {"numNodes": job.workers}, "template": {"spec": _job_set(job)}},
    }
    train_job = {
        "apiVersion": _VERSION,
        "kind": "TrainJob",
        "metadata": metadata,
        "spec": {
            "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": runtime["kind"], "name": job.name},
            "trainer": {
                "numNodes": job.workers,
                "image": job.image,
                "args": list(job.arguments),
                "resourcesPerNode": _resources(job.machine),
            },
        },
    }
    return [runtime, train_job]


def _job_set(job: ClusterJob) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": _NODE,
        "image": job.image,
        "env": [{"name": "TF_CONFIG", "value": _cluster(job)}, *_secrets(job.machine)],
        "ports": [{"containerPort": PORT, "protocol": "TCP"}],
    }
    pod: dict[str, Any] = {"restartPolicy": "Never", "containers": [container]}
    if job.service_account:
        pod["serviceAccountName"] = job.service_account
    if job.claim:
        pod["securityContext"] = {"fsGroup": GROUP}
        container["volumeMounts"] = [{"name": "data", "mountPath": MOUNT}]
        pod["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": job.claim}}]
    node = {
        # Kubeflow Trainer finds by it the job whose container the TrainJob describes.
        "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
        # The others of a machine that fails end as well, so a pod of its own would wait for them in vain.
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }
    return {
        "failurePolicy": {"maxRestarts": _RESTARTS},
        "replicatedJobs": [{"name": _NODE, "template": node}],
    }


def _cluster(job: ClusterJob) -> str:
    """Return TF_CONFIG with the host names that JobSet gives to pods; Kubernetes says which one a pod is."""
    hosts = [f"{job.name}-{_NODE}-0-{number}.{job.name}:{PORT}" for number in range(job.workers)]
    return json.dumps({"cluster": {"worker": hosts}, "task": {"type": "worker"}})


def _secrets(machine: StepSettings) -> list[dict[str, Any]]:
    named = {variable: secret.split("/") for variable, secret in machine.secrets.items()}
    return [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}
        for variable, (name, key) in named.items()
    ]


def _resources(machine: StepSettings) -> dict[str, Any]:
    amounts = {"cpu": machine.cpu, "memory": machine.memory}
    if machine.accelerators:
        amounts[machine.accelerator] = str(machine.accelerators)
    # Kubernetes requests what the limits are.
    return {"limits": amounts}
