"""Vertex AI Pipelines as a backend."""

import contextlib
import dataclasses
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import google.auth
import requests
from google.api_core import exceptions
from google.auth import credentials as auth_credentials
from google.auth import exceptions as auth_exceptions
from google.auth.transport.requests import Request
from google.protobuf import json_format

from pipeline.backends import (
    CONNECT_SECONDS,
    REQUEST_SECONDS,
    AccessError,
    Job,
    LogLine,
    Plan,
    Run,
    Schedule,
    Step,
    Uploaded,
    check_step,
    checked_id,
    nothing_written,
    steps_in_order,
    within,
)
from pipeline.cloud_logging import job_lines
from pipeline.environments import Vertex
from pipeline.findings import Findings
from pipeline.rights import is_on_google_cloud, look_for_data, look_for_root
from pipeline.uploads import REGISTRY_TEMPLATE, read_template, upload_to_bucket, upload_to_registry
from trainer.errors import InputError, WalsError

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_FINGERPRINT = "wals-schedule"
_CONSOLE = "https://console.cloud.google.com"
_AT_ONCE = timedelta(minutes=1)
_DELETION_SECONDS = 20.0
_DELETION_POLL_SECONDS = 0.5

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
    "UPDATING": "running",
    "EXPIRED": "failed",
    "PARTIALLY_SUCCEEDED": "failed",
    "REQUESTED": "waiting",
    "ACTIVE": "running",
    "STOPPING": "running",
    "INFEASIBLE": "failed",
}

# A training job's id has its kind before it, so that it is never taken for a pipeline job's.
_CUSTOM_JOBS, _TUNING_JOBS = "customJobs/", "hyperparameterTuningJobs/"


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
        raise AccessError(
            "the Google Cloud credentials have expired; run `gcloud auth application-default login`"
        ) from error


class VertexBackend:
    """Pipeline jobs and schedules of one project and region.

    Requests are sent once, with a time limit: the clients' own retries would keep a person waiting for a
    minute to learn that the network is gone. The limit for connecting is a short one of its own.
    """

    def __init__(self, platform: Vertex) -> None:
        self._platform = platform
        self._parent = f"projects/{platform.project}/locations/{platform.region}"
        self._endpoint = platform.endpoint or f"https://{platform.region}-aiplatform.googleapis.com"

    def reach(self) -> None:
        """Have fresh credentials and an answer of the API, before anything slow is imported or compiled.

        Raises:
            WalsError: there are no credentials, or nothing answers in time.
        """
        _ = self._credentials

        def ask() -> None:
            # Any answer will do; asking for a thing would want a right to it.
            requests.get(self._endpoint, timeout=CONNECT_SECONDS, allow_redirects=False)

        failure = f"{self._endpoint}: Vertex AI cannot be reached; check the network and try again"
        try:
            within(CONNECT_SECONDS, ask, failure)
        except requests.RequestException as error:
            raise WalsError(failure) from error

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
            # By this the console knows the template; what runs is the spec.
            **({"templateUri": job.template} if REGISTRY_TEMPLATE.fullmatch(job.template) else {}),
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
        run_id = str(created.name).rsplit("/", 1)[-1]
        if not run_id:
            raise WalsError(f"run {job.name}: {_FOREIGN}")
        return run_id

    def link(self, run_id: str) -> str:
        """Return the address of a pipeline job's page in the console."""
        region, project = self._platform.region, self._platform.project
        return f"{_CONSOLE}/vertex-ai/locations/{region}/pipelines/runs/{run_id}?project={project}"

    def submit_training(self, request: Mapping[str, Any]) -> str:
        """Start a training job, of `pipeline.custom_jobs`, and return its id with its kind before it."""
        from google.cloud import aiplatform_v1

        if "customJob" in request:
            kind, create = aiplatform_v1.CreateCustomJobRequest, self._training.create_custom_job
        else:
            kind = aiplatform_v1.CreateHyperparameterTuningJobRequest
            create = self._training.create_hyperparameter_tuning_job
        with _calling("training"):
            created = create(kind.from_json(json.dumps(request)), **_ONCE)
        return "/".join(str(created.name).split("/")[-2:])

    def get(self, run_id: str) -> Run:
        """Return a pipeline job with its steps and metrics, or a training job, whose trials are its steps."""
        with _calling(f"run {run_id}"):
            if run_id.startswith(_CUSTOM_JOBS):
                return self._training_run(self._training.get_custom_job(name=self._name(run_id), **_ONCE))
            if run_id.startswith(_TUNING_JOBS):
                return self._tuning_run(
                    self._training.get_hyperparameter_tuning_job(name=self._name(run_id), **_ONCE)
                )
            return self._run(self._jobs.get_pipeline_job(name=self._job_name(run_id), **_ONCE))

    def runs(self, limit: int) -> list[Run]:
        """Return the newest pipeline jobs, newest first."""
        request = {"parent": self._parent, "order_by": "create_time desc", "page_size": limit}
        with _calling("runs"):
            pages = self._jobs.list_pipeline_jobs(request, **_ONCE).pages
            return [self._run(job) for job in next(iter(pages)).pipeline_jobs]

    def cancel(self, run_id: str) -> None:
        """Ask a pipeline job or a training job to stop."""
        with _calling(f"run {run_id}"):
            if run_id.startswith(_CUSTOM_JOBS):
                self._training.cancel_custom_job(name=self._name(run_id), **_ONCE)
                return
            if run_id.startswith(_TUNING_JOBS):
                self._training.cancel_hyperparameter_tuning_job(name=self._name(run_id), **_ONCE)
                return
            self._jobs.cancel_pipeline_job(name=self._job_name(run_id), **_ONCE)

    def logs(self, run_id: str, step: str) -> Iterator[LogLine]:
        """Yield what the steps of a pipeline job, or a training job or its trials, wrote, by time."""
        jobs = self._jobs_of(run_id)
        check_step(step, (name for name, _ in jobs))
        steps = {
            path.rpartition("/")[2]: name for name, paths in jobs if step in ("", name) for path in paths
        }
        if not steps:
            raise nothing_written(run_id, step)
        since = self.get(run_id).created
        for job, text in job_lines(self._platform.project, self._credentials, list(steps), since):
            yield LogLine(steps[job], text)

    def cron(self, plan: Plan) -> str:
        """Return five fields after the time zone."""
        return f"TZ={plan.time_zone} {plan.cron}"

    def schedule_request(self, plan: Plan) -> dict[str, Any]:
        """Return the ``CreateScheduleRequest`` that :meth:`create_schedule` sends, as JSON values."""
        # Vertex makes each run's id; a schedule that named it could run once only.
        job = self.run_request(plan.job)
        del job["pipelineJobId"]
        job["pipelineJob"]["labels"] = {**self._platform.labels, _FINGERPRINT: plan.fingerprint}
        bounds = {"startTime": plan.start, "endTime": plan.end}
        schedule = {
            "displayName": plan.name,
            "cron": self.cron(plan),
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
        """Delete a schedule, and see that it is gone.

        Raises:
            WalsError: it is listed still after a while; the deletion goes on.
        """
        with _calling(f"schedule {schedule_id}"):
            # What it returns is an operation, which may take longer than what it stands for.
            self._schedules.delete_schedule(name=self._schedule_name(schedule_id), **_ONCE)
        deadline = time.monotonic() + _DELETION_SECONDS
        while any(schedule.id == schedule_id for schedule in self.schedules()):
            if time.monotonic() > deadline:
                raise WalsError(
                    f"schedule {schedule_id}: Vertex AI is deleting it still; "
                    "see with `wals schedule list` whether it is gone"
                )
            time.sleep(_DELETION_POLL_SECONDS)

    def pause_schedule(self, schedule_id: str) -> None:
        """Pause a schedule."""
        with _calling(f"schedule {schedule_id}"):
            self._schedules.pause_schedule(name=self._schedule_name(schedule_id), **_ONCE)

    def resume_schedule(self, schedule: Schedule, catch_up: bool | None) -> None:
        """Resume a schedule; without the runs it missed unless they are asked for."""
        request = {"name": self._schedule_name(schedule.id), "catch_up": bool(catch_up)}
        with _calling(f"schedule {schedule.id}"):
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

    def _jobs_of(self, run_id: str) -> list[tuple[str, Sequence[str]]]:
        """Return the steps of a run with the names of the custom jobs that ran them, retries included."""
        with _calling(f"run {run_id}"):
            if run_id.startswith(_CUSTOM_JOBS):
                return [("train", [run_id])]
            if run_id.startswith(_TUNING_JOBS):
                tuning = self._training.get_hyperparameter_tuning_job(name=self._name(run_id), **_ONCE)
                return [(f"trial-{trial.id}", [trial.custom_job]) for trial in tuning.trials]
            job = self._jobs.get_pipeline_job(name=self._job_name(run_id), **_ONCE)
        return [
            (task.task_name, _custom_jobs(task.executor_detail))
            for task in job.job_detail.task_details
            if task.parent_task_id
        ]

    def template(self, location: str) -> Mapping[str, Any]:
        """Return the compiled pipeline in a template repository or a bucket."""
        return read_template(location, self._credentials)

    @cached_property
    def _credentials(self) -> auth_credentials.Credentials:
        return google_credentials(self._endpoint)

    @cached_property
    def _jobs(self) -> Any:
        from google.cloud import aiplatform_v1

        return self._client(aiplatform_v1.PipelineServiceClient)

    @cached_property
    def _schedules(self) -> Any:
        from google.cloud import aiplatform_v1

        return self._client(aiplatform_v1.ScheduleServiceClient)

    def _client(self, service: Any) -> Any:
        """Return a client of a service, with a limit of its own for connecting."""
        client = service(
            credentials=self._credentials, transport="rest", client_options={"api_endpoint": self._endpoint}
        )
        # The client takes one number for both limits, and has no other way to give them apart.
        client.transport._session.mount(self._endpoint, _Adapter())
        return client

    @cached_property
    def _training(self) -> Any:
        from google.cloud import aiplatform_v1

        return self._client(aiplatform_v1.JobServiceClient)

    def _name(self, run_id: str) -> str:
        kind, _, number = run_id.partition("/")
        return f"{self._parent}/{kind}/{checked_id('run', number)}"

    def _job_name(self, run_id: str) -> str:
        return f"{self._parent}/pipelineJobs/{checked_id('run', run_id)}"

    def _schedule_name(self, schedule_id: str) -> str:
        return f"{self._parent}/schedules/{schedule_id}"

    def _run(self, job: Any) -> Run:
        run_id = str(job.name).rsplit("/", 1)[-1]
        tasks = [task for task in job.job_detail.task_details if task.parent_task_id]
        return Run(
            id=run_id,
            name=job.display_name,
            state=_state(job.state),
            created=job.create_time or datetime.now(UTC),
            ended=job.end_time,
            link=self.link(run_id),
            parameters=_plain(job.runtime_config.parameter_values or {}),
            error=job.error.message,
            steps=steps_in_order(
                Step(
                    task.task_name, _state(task.state), task.start_time, task.end_time, self._task_link(task)
                )
                for task in tasks
            ),
            metrics=_metrics(tasks),
        )

    def _training_run(self, job: Any) -> Run:
        return Run(
            id="/".join(str(job.name).split("/")[-2:]),
            name=job.display_name,
            state=_state(job.state),
            created=job.create_time or datetime.now(UTC),
            ended=job.end_time,
            link=self._training_link(str(job.name)),
            parameters={},
            error=job.error.message,
        )

    def _tuning_run(self, job: Any) -> Run:
        """Return a tuning job; its parameters are the best trial's so far, with the metric."""
        return dataclasses.replace(
            self._training_run(job),
            parameters=_best_trial(job),
            steps=steps_in_order(
                Step(f"trial-{trial.id}", _state(trial.state), trial.start_time, trial.end_time)
                for trial in job.trials
            ),
        )

    def _task_link(self, task: Any) -> str:
        """Return the page of the job that runs a task, with its logs; empty for one that has none."""
        detail = task.executor_detail
        job = detail.container_detail.main_job or detail.custom_job_detail.job
        return self._training_link(job) if job else ""

    def _training_link(self, job: str) -> str:
        """Return the page of a training job, by its resource name."""
        region, project = self._platform.region, self._platform.project
        number = job.rpartition("/")[2]
        return f"{_CONSOLE}/agent-platform/locations/{region}/training/{number}?project={project}"


class _Adapter(requests.adapters.HTTPAdapter):
    """Gives connecting a shorter limit than the answer."""

    def send(self, request: Any, *arguments: Any, **options: Any) -> Any:
        return super().send(request, *arguments, **{**options, "timeout": (CONNECT_SECONDS, REQUEST_SECONDS)})


_FOREIGN = "the answer is not Vertex AI's; is a login page or another proxy in the way?"
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
        raise AccessError(
            "the Google Cloud credentials were refused; run `gcloud auth application-default login`"
        ) from error
    except exceptions.Forbidden as error:
        raise AccessError(f"{what}: Vertex AI answers 403: {_said(error)}") from error
    except (json_format.ParseError, ValueError) as error:
        raise WalsError(f"{what}: {_FOREIGN}") from error
    except exceptions.GoogleAPICallError as error:
        raise WalsError(f"{what}: Vertex AI answers {error.code}: {_said(error)}") from error


def _said(error: exceptions.GoogleAPICallError) -> str:
    """Return what the service says, without the address asked that the client puts before it."""
    return re.sub(r"^[A-Z]+ http\S+: ", "", error.message)


_LISTING = {"run": "runs", "schedule": "schedule list"}


def _state(state: Any) -> str:
    return _STATES.get(state.name.removeprefix("PIPELINE_STATE_").removeprefix("JOB_STATE_"), "waiting")


def _schedule(schedule: Any) -> Schedule:
    return Schedule(
        id=str(schedule.name).rsplit("/", 1)[-1],
        name=schedule.display_name,
        cron=schedule.cron,
        paused=schedule.state.name == "PAUSED",
        next_run=schedule.next_run_time,
        max_concurrent_runs=schedule.max_concurrent_run_count,
        # Vertex AI gives a schedule without a start the time at which it was made.
        start=schedule.start_time if _later(schedule.start_time, schedule.create_time) else None,
        end=schedule.end_time,
        catch_up=schedule.catch_up,
        fingerprint=schedule.create_pipeline_job_request.pipeline_job.labels.get(_FINGERPRINT, ""),
    )


def _later(time: datetime | None, made: datetime | None) -> bool:
    return bool(time and (not made or time - made > _AT_ONCE))


def _metrics(tasks: Sequence[Any]) -> dict[str, float]:
    """Return what the steps logged into their metrics artifacts."""
    artifacts = [
        artifact for task in tasks for output in task.outputs.values() for artifact in output.artifacts
    ]
    return {
        name: float(value)
        for artifact in artifacts
        if artifact.schema_title == "system.Metrics"
        for name, value in _plain(artifact.metadata or {}).items()
        if isinstance(value, int | float)
    }


def _custom_jobs(executor: Any) -> list[str]:
    """Return the names of the custom jobs that ran a step; none of a step whose results were cached."""
    container, custom = executor.container_detail, executor.custom_job_detail
    jobs = [*container.failed_main_jobs, container.main_job, *custom.failed_jobs, custom.job]
    return [job for job in jobs if job]


def _best_trial(job: Any) -> dict[str, Any]:
    """Return the metric and the parameters of the trial with the least metric, once one has ended."""
    measured = [trial for trial in job.trials if trial.final_measurement.metrics]
    if not measured:
        return {}
    best = min(measured, key=lambda trial: trial.final_measurement.metrics[0].value)
    metric = best.final_measurement.metrics[0]
    chosen = {parameter.parameter_id: parameter.value for parameter in best.parameters}
    return {metric.metric_id: metric.value, **_plain(chosen)}


def _plain(values: Any) -> Any:
    """Return a message's values as JSON has them; numbers are floats, of which whole ones are made int."""
    if isinstance(values, Mapping):
        return {name: _plain(value) for name, value in values.items()}
    if isinstance(values, Sequence) and not isinstance(values, str):
        return [_plain(value) for value in values]
    return int(values) if isinstance(values, float) and values.is_integer() else values


def _timestamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
