"""The requests that create pipeline jobs and schedules on Vertex AI, as JSON values."""

from datetime import UTC, datetime
from typing import Any

from pipeline.platforms.backend import Job, Plan
from pipeline.platforms.environments import Vertex
from pipeline.platforms.google.addresses import REGISTRY_TEMPLATE

_FAIL_FAST = "PIPELINE_FAILURE_POLICY_FAIL_FAST"

FINGERPRINT_LABEL = "wals-schedule"
"""Label of a schedule's runs that identifies the plan it was created from."""

METADATA_STORE = "metadataStores/default"
"""Path of a project's metadata store, in which Vertex AI keeps runs and experiments."""


def parent_of(platform: Vertex) -> str:
    """Return the resource name of a platform's project and region."""
    return f"projects/{platform.project}/locations/{platform.region}"


def network_fields(network: str, attachment: str) -> dict[str, Any]:
    """Return the fields that connect a job to a network, by peering or by an attachment; neither if empty."""
    if attachment:
        return {"pscInterfaceConfig": {"networkAttachment": attachment}}
    return {"network": network} if network else {}


def experiment_of(platform: Vertex) -> str:
    """Return the resource name of the context that stands for the platform's experiment."""
    return f"{parent_of(platform)}/{METADATA_STORE}/contexts/{platform.experiment}"


def cron_of(plan: Plan) -> str:
    """Return a plan's cron as Vertex AI takes it: five fields after the time zone."""
    return f"TZ={plan.time_zone} {plan.cron}"


def pipeline_job_request(platform: Vertex, job: Job) -> dict[str, Any]:
    """Return the ``CreatePipelineJobRequest`` of a job."""
    pipeline_job = {
        "displayName": job.name,
        "pipelineSpec": job.spec,
        "runtimeConfig": {
            "gcsOutputDirectory": platform.pipeline_root,
            "parameterValues": dict(job.parameters),
            **({"failurePolicy": _FAIL_FAST} if platform.failure_policy == "fast" else {}),
        },
        **({"serviceAccount": platform.service_account} if platform.service_account else {}),
        # Tells the console which template this is; what runs is the spec.
        **({"templateUri": job.template} if REGISTRY_TEMPLATE.fullmatch(job.template) else {}),
        **network_fields(platform.network, platform.network_attachment),
        **({"encryptionSpec": {"kmsKeyName": key}} if (key := platform.encryption_key) else {}),
        **({"labels": dict(platform.labels)} if platform.labels else {}),
        **({"preflightValidations": True} if platform.preflight_validations else {}),
    }
    return {"parent": parent_of(platform), "pipelineJob": pipeline_job, "pipelineJobId": job.name}


def schedule_request(platform: Vertex, plan: Plan) -> dict[str, Any]:
    """Return the ``CreateScheduleRequest`` of a plan."""
    # Vertex assigns each run's id; a schedule that set one could run only once.
    job = pipeline_job_request(platform, plan.job)
    del job["pipelineJobId"]
    job["pipelineJob"]["labels"] = {**platform.labels, FINGERPRINT_LABEL: plan.fingerprint}
    bounds = {"startTime": plan.start, "endTime": plan.end}
    schedule = {
        "displayName": plan.name,
        "cron": cron_of(plan),
        # Bounds only how many runs start at the same time, and is required.
        "maxConcurrentRunCount": str(plan.max_concurrent_runs),
        "maxConcurrentActiveRunCount": str(plan.max_concurrent_runs),
        "createPipelineJobRequest": job,
        **{name: _timestamp(time) for name, time in bounds.items() if time},
    }
    return {"parent": parent_of(platform), "schedule": schedule}


def _timestamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
