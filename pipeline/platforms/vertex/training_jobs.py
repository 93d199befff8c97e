"""Stand-alone training jobs on Vertex AI: ``trainer.task`` in the train image, once or for each trial."""

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import click

from pipeline.definition.settings import CustomJob, StepSettings
from pipeline.definition.vertex_machines import boot_disk_of, reservation_affinity
from pipeline.platforms.environments import Vertex
from pipeline.platforms.vertex.job_requests import experiment_of, network_fields, parent_of
from trainer.errors import InputError
from trainer.job import flags

MACHINE = CustomJob(machine_type="n1-standard-8")
"""Default machine: the smallest one that fits the train step's cpu and memory."""

_REMOTE = ("gs://", "/gcs/")

# The search spaces of the TensorFlow 1 job that this replaces: kind, minimum, maximum and scale.
_Range = tuple[str, float, float, str]
_SPACES: Mapping[str, Mapping[str, _Range]] = {
    flags.RATINGS: {
        "regularization": ("double", 0.001, 10.0, "UNIT_REVERSE_LOG_SCALE"),
        "latent_factors": ("integer", 5, 50, "UNIT_REVERSE_LOG_SCALE"),
        "unobs_weight": ("double", 0.001, 5.0, "UNIT_REVERSE_LOG_SCALE"),
        "feature_wt_factor": ("double", 1.0, 200.0, "UNIT_LOG_SCALE"),
    },
    flags.WEB_VIEWS: {
        "regularization": ("double", 0.001, 10.0, "UNIT_LINEAR_SCALE"),
        "latent_factors": ("integer", 5, 50, "UNIT_LINEAR_SCALE"),
        "unobs_weight": ("double", 0.001, 5.0, "UNIT_LOG_SCALE"),
        "feature_wt_exp": ("double", 0.0001, 10.0, "UNIT_LINEAR_SCALE"),
    },
}
SEARCH_SPACES = {**_SPACES, flags.USER_RATINGS: _SPACES[flags.RATINGS]}
"""The tuned parameters and their ranges, by data type."""


@dataclass(frozen=True)
class TrainingJob:
    """A run of ``trainer.task``.

    Attributes:
        name: display name.
        image: image of the train step.
        arguments: flags of ``trainer.task``.
        machine: settings of the train step; only the accelerator and the custom job are used.
    """

    name: str
    image: str
    arguments: Sequence[str]
    machine: StepSettings


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise an error for the command to report in one line; argparse would print the usage and exit."""
        raise click.UsageError(message)


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse and check the flags of ``trainer.task`` as the job itself does.

    Raises:
        click.UsageError: argparse refuses them.
        InputError: naming the first flag that cannot be used.
    """
    given = flags.make_parser(_Parser).parse_args(arguments)
    flags.check(given)
    return given


def remote_arguments(arguments: Sequence[str], pipeline_root: str, now: datetime) -> list[str]:
    """Return the flags for a job on Vertex AI, with a ``--job-dir`` named by time if they have none.

    A job that writes checkpoints gets the folder by its mount, because checkpoints require a file system.

    Args:
        arguments: the given flags.
        pipeline_root: Cloud Storage folder that jobs write under.
        now: time of the job's creation.

    Raises:
        click.UsageError: argparse refuses the flags.
        InputError: a flag cannot be used, or is a path that cannot be reached from Vertex AI.
    """
    folder = f"{pipeline_root.rstrip('/')}/jobs/{now:%Y%m%d-%H%M%S}"
    mounted = folder.replace("gs://", "/gcs/", 1)
    given = parsed([f"--job-dir={mounted}", *arguments])
    paths = {
        "--train-file": flags.source_of(given),
        "--job-dir": given.job_dir,
        "--output-dir": given.output_dir,
        "--warm_start": given.warm_start,
    }
    for flag, path in paths.items():
        if path and not path.startswith(_REMOTE):
            raise InputError(
                flag, path, "cannot be reached from Vertex AI", "give gs://…, or /gcs/BUCKET/… for its mount"
            )
    if given.job_dir != mounted:
        return list(arguments)
    return [f"--job-dir={mounted if given.checkpoint_every else folder}", *arguments]


def custom_job_request(platform: Vertex, job: TrainingJob) -> dict[str, Any]:
    """Return the ``CreateCustomJobRequest`` of a job, as JSON values."""
    where = _job_of(platform, job)
    spec = _spec(where, job)
    # A job is shown in a TensorBoard instance or in an experiment, but not in both.
    if platform.experiment and not where.tensorboard:
        spec["experiment"] = experiment_of(platform)
    made = {"displayName": job.name, "jobSpec": spec, **_common(where)}
    return {"parent": parent_of(platform), "customJob": made}


def hyperparameter_request(
    platform: Vertex, job: TrainingJob, *, max_trials: int, parallel_trials: int
) -> dict[str, Any]:
    """Return the ``CreateHyperparameterTuningJobRequest`` of a job, as JSON values.

    Each trial runs the job with ``--hypertune`` and additional flags for the values that the service chose.

    Args:
        platform: platform that runs the job.
        job: job with the flags that all trials share.
        max_trials: total number of trials.
        parallel_trials: number of trials that run at the same time.

    Raises:
        InputError: the flags set a parameter that is tuned, or parallel trials exceed the total.
    """
    given = parsed([*job.arguments, "--hypertune"])
    space = SEARCH_SPACES[given.data_type]
    # The kind of weighting determines which of its parameters is tuned.
    for name in (*space, "wt_type"):
        if getattr(given, name) is not None:
            raise InputError(f"--{name}", getattr(given, name), f"is tuned for {given.data_type}", "omit it")
    if parallel_trials > max_trials:
        raise InputError(
            "--parallel-trials", parallel_trials, f"is above --max-trials {max_trials}", "lower it"
        )
    where = _job_of(platform, job)
    trial = TrainingJob(job.name, job.image, [*job.arguments, "--hypertune"], job.machine)
    made = {
        "displayName": job.name,
        "studySpec": {
            "metrics": [{"metricId": flags.HYPERPARAMETER_METRIC_TAG, "goal": "MINIMIZE"}],
            "parameters": [_parameter(name, *range_) for name, range_ in space.items()],
        },
        "maxTrialCount": max_trials,
        "parallelTrialCount": parallel_trials,
        "trialJobSpec": _spec(where, trial),
        **_common(where),
    }
    return {"parent": parent_of(platform), "hyperparameterTuningJob": made}


def _parameter(name: str, kind: str, least: float, most: float, scale: str) -> dict[str, Any]:
    bounds = {"minValue": least, "maxValue": most}
    return {"parameterId": name, f"{kind}ValueSpec": bounds, "scaleType": scale}


def _job_of(platform: Vertex, job: TrainingJob) -> CustomJob:
    """Return the custom job that the train step's settings describe, with what the platform's runs have."""
    where = (job.machine.custom_job or MACHINE).with_defaults(
        {
            name: getattr(platform, name)
            for name in ("service_account", "network", "network_attachment", "encryption_key", "tensorboard")
        }
    )
    return where.model_copy(update={"labels": {**platform.labels, **where.labels}})


def _spec(where: CustomJob, job: TrainingJob) -> dict[str, Any]:
    """Return the ``CustomJobSpec`` of a job."""
    if where.tensorboard and not where.service_account:
        raise InputError(
            "tensorboard",
            where.tensorboard,
            "requires a service account, which uploads the progress",
            "give --service-account",
        )
    machine: dict[str, Any] = {"machineType": where.machine_type}
    if job.machine.accelerators:
        machine |= {
            "acceleratorType": job.machine.accelerator,
            "acceleratorCount": job.machine.accelerators,
        }
    if affinity := reservation_affinity(where):
        machine["reservationAffinity"] = affinity
    scheduling: dict[str, Any] = {"timeout": f"{where.timeout_seconds}s", "strategy": where.strategy}
    if where.max_wait_seconds is not None:
        scheduling["maxWaitDuration"] = f"{where.max_wait_seconds}s"
    if where.replicas > 1:
        # Vertex AI replaces a machine that it lost; the others have to begin again with it.
        scheduling["restartJobOnWorkerRestart"] = True
    optional = {
        "serviceAccount": where.service_account,
        "persistentResourceId": where.persistent_resource,
        "tensorboard": where.tensorboard,
    }
    pool = {
        "machineSpec": machine,
        "replicaCount": 1,
        "diskSpec": {"bootDiskType": boot_disk_of(where), "bootDiskSizeGb": where.boot_disk_gb},
        "containerSpec": {"imageUri": job.image, "args": list(job.arguments)},
    }
    others = [{**pool, "replicaCount": where.replicas - 1}] if where.replicas > 1 else []
    return {
        "workerPoolSpecs": [pool, *others],
        "scheduling": scheduling,
        # With it, Vertex AI names the folder that it shows in TensorBoard.
        "baseOutputDirectory": {"outputUriPrefix": _output_of(job)},
        **{name: value for name, value in optional.items() if value},
        **network_fields(where.network, where.network_attachment),
    }


def _output_of(job: TrainingJob) -> str:
    """Return the Cloud Storage folder that a job writes to."""
    return re.sub("^/gcs/", "gs://", flags.output_of(parsed(job.arguments)))


def _common(where: CustomJob) -> dict[str, Any]:
    """Return the fields that both kinds of job share."""
    return {
        **({"labels": where.labels} if where.labels else {}),
        **({"encryptionSpec": {"kmsKeyName": where.encryption_key}} if where.encryption_key else {}),
    }
