"""Vertex AI Pipelines as a backend."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import google.auth
import requests
from google.api_core import exceptions
from google.auth import credentials as auth_credentials
from google.auth import exceptions as auth_exceptions
from google.auth.transport.requests import Request

from pipeline.backends import (
    CONNECT_SECONDS,
    REQUEST_SECONDS,
    Job,
    Plan,
    Run,
    Schedule,
    Step,
    Uploaded,
    steps_in_order,
    within,
)
from pipeline.environments import Vertex
from pipeline.findings import Findings
from pipeline.rights import is_on_google_cloud, look_for_data, look_for_root
from pipeline.uploads import upload_to_bucket, upload_to_registry
from trainer.errors import InputError, WalsError

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_FINGERPRINT = "wals-schedule"

_STATES = {
    "QUEUED": "waiting",
    "PENDING": "waiting",
    "RUNNING": "running",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "CANCELLING": "running",
    "CANCEL_PENDING": "running",
    "CANCELLED": "cancelled",
    "PAUSED": "waiting",
    "SKIPPED": "skipped",
    "NOT_TRIGGERED": "skipped",
}


def google_credentials(endpoint: str) -> auth_credentials.Credentials:
    """Return credentials that hold a fresh token, or anonymous ones for an endpoint without encryption.

    Raises:
        WalsError: there are none, they have expired, or Google cannot be reached to renew them.
    """
    if endpoint.startswith("http://"):
        return auth_credentials.AnonymousCredentials()  # type: ignore[no-untyped-call]

    def fresh() -> auth_credentials.Credentials:
        found, _ = google.auth.default(scopes=_SCOPES)
        found.refresh(Request())  # type: ignore[no-untyped-call]
        return found

    try:
        return within(CONNECT_SECONDS, fresh, "Google Cloud did not answer; check the network and try again")
    except auth_exceptions.DefaultCredentialsError as error:
        raise WalsError(
            "no Google Cloud credentials were found; run `gcloud auth application-default login`"
        ) from error
    except auth_exceptions.TransportError as error:
        raise WalsError("Google Cloud cannot be reached; check the network and try again") from error
    except auth_exceptions.RefreshError as error:
        raise WalsError(
            "the Google Cloud credentials have expired; run `gcloud auth application-default login`"
        ) from error


class VertexBackend:
    """Pipeline jobs and schedules of one project and region.

    Requests are sent once, with a time limit: the clients' own retries would keep a person waiting for a
    minute to learn that the network is gone.
    """

    def __init__(self, platform: Vertex) -> None:
        self._platform = platform
        self._parent = f"projects/{platform.project}/locations/{platform.region}"
        self._endpoint = platform.endpoint or f"https://{platform.region}-aiplatform.googleapis.com"

    def reach(self) -> None:
        """Have fresh credentials, before anything slow is imported or compiled."""
        _ = self._credentials

    def check(self, parameters: Mapping[str, Any], findings: Findings) -> None:
        """Note what is missing of the bucket, the source and the staging dataset, or of rights to them."""
        source = parameters.get("source", "")
        # Vertex AI mounts buckets under /gcs.
        if source and not (is_on_google_cloud(source) or source.startswith("/gcs/")):
            findings.problems.append(
                InputError("source", source, "is out of Vertex AI's reach", "give gs://BUCKET/PATH or bq://")
            )
        look_for_root(self._platform, self._credentials, findings)
        look_for_data(self._credentials, parameters, findings)

    def run_request(self, job: Job) -> dict[str, Any]:
        """Return the ``CreatePipelineJobRequest`` that :meth:`submit` sends, as JSON values."""
        settings = self._platform
        pipeline_job = {
            "displayName": job.name,
            "pipelineSpec": job.spec,
            "runtimeConfig": {
                "gcsOutputDirectory": settings.pipeline_root,
                "parameterValues": dict(job.parameters),
            },
            **({"serviceAccount": settings.service_account} if settings.service_account else {}),
            **({"network": settings.network} if settings.network else {}),
            **({"encryptionSpec": {"kmsKeyName": key}} if (key := settings.encryption_key) else {}),
            **({"labels": dict(settings.labels)} if settings.labels else {}),
        }
        return {"parent": self._parent, "pipelineJob": pipeline_job, "pipelineJobId": job.name}

    def submit(self, job: Job) -> str:
        """Start a pipeline job and return its id."""
        from google.cloud import aiplatform_v1

        request = aiplatform_v1.CreatePipelineJobRequest.from_json(json.dumps(self.run_request(job)))
        with _calling(f"run {job.name}"):
            created = self._jobs.create_pipeline_job(request, **_ONCE)
        return str(created.name).rsplit("/", 1)[-1]

    def get(self, run_id: str) -> Run:
        """Return a pipeline job with its steps and metrics."""
        with _calling(f"run {run_id}"):
            return self._run(self._jobs.get_pipeline_job(name=self._job_name(run_id), **_ONCE))

    def runs(self, limit: int) -> list[Run]:
        """Return the newest pipeline jobs, newest first."""
        request = {"parent": self._parent, "order_by": "create_time desc", "page_size": limit}
        with _calling("runs"):
            pages = self._jobs.list_pipeline_jobs(request, **_ONCE).pages
            return [self._run(job) for job in next(iter(pages)).pipeline_jobs]

    def cancel(self, run_id: str) -> None:
        """Ask a pipeline job to stop."""
        with _calling(f"run {run_id}"):
            self._jobs.cancel_pipeline_job(name=self._job_name(run_id), **_ONCE)

    def schedule_request(self, plan: Plan) -> dict[str, Any]:
        """Return the ``CreateScheduleRequest`` that :meth:`create_schedule` sends, as JSON values."""
        # Vertex makes each run's id; a schedule that named it could run once only.
        job = self.run_request(plan.job)
        del job["pipelineJobId"]
        job["pipelineJob"]["labels"] = {**self._platform.labels, _FINGERPRINT: plan.fingerprint}
        bounds = {"startTime": plan.start, "endTime": plan.end}
        schedule = {
            "displayName": plan.name,
            "cron": f"TZ={plan.time_zone} {plan.cron}",
            "maxConcurrentRunCount": str(plan.max_concurrent_runs),
            "createPipelineJobRequest": job,
            **{name: _timestamp(time) for name, time in bounds.items() if time},
        }
        return {"parent": self._parent, "schedule": schedule}

    def schedules(self) -> list[Schedule]:
        """Return the active and the paused schedules of the region."""
        with _calling("schedules"):
            found = self._schedules.list_schedules(
                {"parent": self._parent, "filter": 'state!="COMPLETED"'}, **_ONCE
            )
            return [_schedule(schedule) for schedule in found]

    def create_schedule(self, plan: Plan) -> Schedule:
        """Create a schedule."""
        from google.cloud import aiplatform_v1

        request = aiplatform_v1.CreateScheduleRequest.from_json(json.dumps(self.schedule_request(plan)))
        with _calling(f"schedule {plan.name}"):
            return _schedule(self._schedules.create_schedule(request, **_ONCE))

    def delete_schedule(self, schedule_id: str) -> None:
        """Delete a schedule."""
        with _calling(f"schedule {schedule_id}"):
            self._schedules.delete_schedule(name=self._schedule_name(schedule_id), **_ONCE).result(
                timeout=REQUEST_SECONDS
            )

    def pause_schedule(self, schedule_id: str) -> None:
        """Pause a schedule."""
        with _calling(f"schedule {schedule_id}"):
            self._schedules.pause_schedule(name=self._schedule_name(schedule_id), **_ONCE)

    def resume_schedule(self, schedule_id: str) -> None:
        """Resume a schedule without the runs it missed, which Vertex AI would otherwise make up for."""
        request = {"name": self._schedule_name(schedule_id), "catch_up": False}
        with _calling(f"schedule {schedule_id}"):
            self._schedules.resume_schedule(request, **_ONCE)

    def upload(self, spec: Path, name: str, tags: Sequence[str]) -> Uploaded:
        """Put a compiled pipeline in the template repository, or else under the pipeline root."""
        repository = self._platform.template_repository
        if repository:
            return upload_to_registry(repository, self._credentials, spec, name, tags)
        if tags:
            raise InputError(
                "tag",
                " ".join(tags),
                "wants a template repository",
                "set template_repository, or leave it out",
            )
        return upload_to_bucket(self._platform.pipeline_root, self._credentials, spec, name)

    @cached_property
    def _credentials(self) -> auth_credentials.Credentials:
        return google_credentials(self._endpoint)

    @cached_property
    def _jobs(self) -> Any:
        from google.cloud import aiplatform_v1

        return aiplatform_v1.PipelineServiceClient(
            credentials=self._credentials, transport="rest", client_options={"api_endpoint": self._endpoint}
        )

    @cached_property
    def _schedules(self) -> Any:
        from google.cloud import aiplatform_v1

        return aiplatform_v1.ScheduleServiceClient(
            credentials=self._credentials, transport="rest", client_options={"api_endpoint": self._endpoint}
        )

    def _job_name(self, run_id: str) -> str:
        return f"{self._parent}/pipelineJobs/{run_id}"

    def _schedule_name(self, schedule_id: str) -> str:
        return f"{self._parent}/schedules/{schedule_id}"

    def _run(self, job: Any) -> Run:
        run_id = str(job.name).rsplit("/", 1)[-1]
        region, project = self._platform.region, self._platform.project
        tasks = [task for task in job.job_detail.task_details if task.parent_task_id]
        return Run(
            id=run_id,
            name=job.display_name,
            state=_state(job.state),
            created=job.create_time or datetime.now(UTC),
            ended=job.end_time,
            link="https://console.cloud.google.com/vertex-ai/locations/"
            f"{region}/pipelines/runs/{run_id}?project={project}",
            parameters=_plain(job.runtime_config.parameter_values),
            error=job.error.message,
            steps=steps_in_order(
                Step(task.task_name, _state(task.state), task.start_time, task.end_time) for task in tasks
            ),
            metrics=_metrics(tasks),
        )


_ONCE: Mapping[str, Any] = {"retry": None, "timeout": REQUEST_SECONDS}


@contextlib.contextmanager
def _calling(what: str) -> Iterator[None]:
    """Turn what the API says into one line about ``what``, a kind of thing and its name."""
    kind, _, name = what.partition(" ")
    try:
        yield
    except exceptions.NotFound as error:
        if not name:
            raise WalsError(f"{what}: Vertex AI knows no such project or region") from error
        raise InputError(kind, name, "does not exist", f"list them with `wals {_LISTING[kind]}`") from error
    except exceptions.Conflict as error:
        raise InputError(kind, name, "exists already", "give another --name") from error
    except (requests.RequestException, auth_exceptions.TransportError) as error:
        raise WalsError(f"{what}: Vertex AI cannot be reached; check the network and try again") from error
    except (exceptions.Unauthenticated, auth_exceptions.GoogleAuthError) as error:
        raise WalsError(
            "the Google Cloud credentials were refused; run `gcloud auth application-default login`"
        ) from error
    except exceptions.GoogleAPICallError as error:
        # The client puts the address it asked before what the service says.
        said = re.sub(r"^[A-Z]+ http\S+: ", "", error.message)
        raise WalsError(f"{what}: Vertex AI answers {error.code}: {said}") from error


_LISTING = {"run": "runs", "schedule": "schedule list"}


def _state(state: Any) -> str:
    return _STATES.get(state.name.removeprefix("PIPELINE_STATE_"), "waiting")


def _schedule(schedule: Any) -> Schedule:
    return Schedule(
        id=str(schedule.name).rsplit("/", 1)[-1],
        name=schedule.display_name,
        cron=schedule.cron,
        paused=schedule.state.name == "PAUSED",
        next_run=schedule.next_run_time,
        fingerprint=schedule.create_pipeline_job_request.pipeline_job.labels.get(_FINGERPRINT, ""),
    )


def _metrics(tasks: Sequence[Any]) -> dict[str, float]:
    """Return what the steps logged into their metrics artifacts."""
    artifacts = [
        artifact for task in tasks for output in task.outputs.values() for artifact in output.artifacts
    ]
    return {
        name: float(value)
        for artifact in artifacts
        if artifact.schema_title == "system.Metrics"
        for name, value in _plain(artifact.metadata).items()
        if isinstance(value, int | float)
    }


def _plain(values: Any) -> dict[str, Any]:
    """Return a message's values; numbers come back as floats, so that whole ones are made int again."""
    plain = dict(values or {})
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in plain.items()
    }


def _timestamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
