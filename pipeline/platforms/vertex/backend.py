"""Vertex AI Pipelines as a backend."""

import contextlib
import json
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pydantic
import requests
from google.api_core import exceptions
from google.auth import credentials as auth_credentials
from google.auth import exceptions as auth_exceptions
from google.protobuf import json_format

from components.answers import bounded, field_problem
from components.extract.names import ITEM_SOURCES
from components.limits import CONNECT_SECONDS, REQUEST_SECONDS, answered
from pipeline.platforms.backend import (
    Gpus,
    Job,
    LogLine,
    Plan,
    Run,
    Schedule,
    Uploaded,
    check_step,
    checked_id,
    no_report,
    nothing_written,
)
from pipeline.platforms.environments import Vertex
from pipeline.platforms.findings import Findings
from pipeline.platforms.google.credentials import REFUSED, google_credentials
from pipeline.platforms.google.deliveries import look_for_deliveries
from pipeline.platforms.google.rights import is_on_google_cloud, look_for_data, look_for_root
from pipeline.platforms.google.templates import (
    read_object,
    read_template,
    upload_to_bucket,
    upload_to_registry,
)
from pipeline.platforms.network import AccessError
from pipeline.platforms.registries import look_for_registry, look_for_start
from pipeline.platforms.vertex.experiments import add_to_experiment, ensure_experiment
from pipeline.platforms.vertex.job_requests import cron_of, parent_of, pipeline_job_request, schedule_request
from pipeline.platforms.vertex.logs import JobLine, job_lines
from pipeline.platforms.vertex.quotas import look_for_quotas
from pipeline.platforms.vertex.records import (
    RUN_LABEL,
    custom_jobs,
    last_part,
    launched_jobs,
    launches,
    named_tasks,
    pipeline_run,
    report_uri,
    run_link,
    schedule_of,
    training_run,
    trial_name,
    tuning_run,
)
from trainer.errors import InputError, WalsError, translated

logger = logging.getLogger(__name__)

_DELETION_SECONDS = 20.0
_DELETION_POLL_SECONDS = 0.5
_CONTEXT_SECONDS = 60.0
_CONTEXT_POLL_SECONDS = 1.0

# A training job's id starts with its kind, so that it is never taken for a pipeline job's.
_CUSTOM_JOBS, _TUNING_JOBS = "customJobs/", "hyperparameterTuningJobs/"

# Step of the lines that a tuning job writes outside of its trials.
_NO_TRIAL = "tuning"

_FOREIGN = "the answer does not come from Vertex AI; is a login page or another proxy in the way?"
_ONCE: Mapping[str, Any] = {"retry": None, "timeout": REQUEST_SECONDS}
_LISTING = {"run": "runs", "schedule": "schedule list"}


class VertexBackend:
    """Pipeline jobs and schedules of one project and region.

    Requests are sent once, with a time limit: with the clients' own retries, a user would wait for a
    minute to learn that the network is down. Connecting has a separate, shorter limit.
    """

    def __init__(self, platform: Vertex) -> None:
        self._platform = platform
        self._parent = parent_of(platform)
        self._endpoint = platform.endpoint or f"https://{platform.region}-aiplatform.googleapis.com"

    def reach(self) -> None:
        """Get fresh credentials and an answer from the API, before anything slow is imported or compiled.

        Raises:
            WalsError: there are no credentials, or nothing answers in time.
        """
        _ = self._credentials

        def ask() -> None:
            # Any answer will do; a request for a resource would require a permission.
            with requests.get(self._endpoint, timeout=CONNECT_SECONDS, allow_redirects=False, stream=True):
                pass

        failure = f"{self._endpoint}: Vertex AI cannot be reached; check the network and try again"
        with translated((requests.RequestException, lambda _: WalsError(failure))):
            answered(ask, self._endpoint, CONNECT_SECONDS)

    def check(self, parameters: Mapping[str, Any], gpus: Sequence[Gpus], findings: Findings) -> None:
        """Note if the bucket, a source, a place to deliver to, a permission on them or a quota is missing."""
        # Vertex AI mounts buckets under /gcs.
        findings.problems += [
            InputError(name, place, "cannot be reached from Vertex AI", "give gs://BUCKET/PATH or bq://")
            for name in ("source", *ITEM_SOURCES)
            if (place := parameters.get(name, ""))
            and not (is_on_google_cloud(place) or place.startswith("/gcs/"))
        ]
        registry = re.sub("^/gcs/", "gs://", parameters.get("registry", ""))
        if registry and "://" not in registry:
            findings.problems.append(
                InputError("registry", registry, "is gone after the run", "give gs://BUCKET/PATH")
            )
        look_for_root(self._platform, self._credentials, findings)
        look_for_data(self._credentials, parameters, findings)
        look_for_registry(registry, findings)
        look_for_start(parameters, findings)
        look_for_deliveries(self._credentials, {**parameters, "registry": registry}, findings)
        look_for_quotas(self._platform, self._credentials, gpus, findings)

    def run_request(self, job: Job) -> dict[str, Any]:
        """Return the ``CreatePipelineJobRequest`` that :meth:`submit` sends, as JSON values."""
        return pipeline_job_request(self._platform, job)

    def submit(self, job: Job) -> str:
        """Start a pipeline job and return its id."""
        from google.cloud import aiplatform_v1

        request = aiplatform_v1.CreatePipelineJobRequest.from_json(json.dumps(self.run_request(job)))
        with _vertex_errors(f"run {job.name}"):
            created = self._jobs.create_pipeline_job(request, **_ONCE)
        run_id = last_part(created.name)
        if not run_id:
            raise WalsError(f"run {job.name}: {_FOREIGN}")
        if self._platform.experiment:
            self._join_experiment(run_id)
        return run_id

    def link(self, run_id: str) -> str:
        """Return the address of a pipeline job's page in the console."""
        return run_link(self._platform, run_id)

    def submit_training(self, request: Mapping[str, Any]) -> str:
        """Start a training job and return its id, with its kind before the number.

        Args:
            request: request from `pipeline.platforms.vertex.training_jobs`.
        """
        from google.cloud import aiplatform_v1

        if "customJob" in request:
            kind, create = aiplatform_v1.CreateCustomJobRequest, self._training.create_custom_job
        else:
            kind = aiplatform_v1.CreateHyperparameterTuningJobRequest
            create = self._training.create_hyperparameter_tuning_job
        if request.get("customJob", {}).get("jobSpec", {}).get("experiment"):
            with _vertex_errors(f"experiment {self._platform.experiment}"):
                ensure_experiment(self._metadata, self._platform, **_ONCE)
        with _vertex_errors("training"):
            created = create(kind.from_json(json.dumps(request)), **_ONCE)
        return "/".join(str(created.name).split("/")[-2:])

    def get(self, run_id: str) -> Run:
        """Return a pipeline job with its steps and metrics, or a training job, whose trials are its steps."""
        with _vertex_errors(f"run {run_id}"):
            if run_id.startswith(_CUSTOM_JOBS):
                job = self._training.get_custom_job(name=self._training_name(run_id), **_ONCE)
                return training_run(self._platform, job)
            if run_id.startswith(_TUNING_JOBS):
                return tuning_run(self._platform, self._tuning_job(run_id))
            return pipeline_run(self._platform, self._pipeline_job(run_id))

    def runs(self, limit: int) -> list[Run]:
        """Return the newest pipeline jobs, newest first."""
        request = {"parent": self._parent, "order_by": "create_time desc", "page_size": limit}
        with _vertex_errors("runs"):
            pages = self._jobs.list_pipeline_jobs(request, **_ONCE).pages
            return [pipeline_run(self._platform, job) for job in next(iter(pages)).pipeline_jobs]

    def cancel(self, run_id: str) -> None:
        """Request that a pipeline job or a training job stops."""
        with _vertex_errors(f"run {run_id}"):
            if run_id.startswith(_CUSTOM_JOBS):
                self._training.cancel_custom_job(name=self._training_name(run_id), **_ONCE)
            elif run_id.startswith(_TUNING_JOBS):
                self._training.cancel_hyperparameter_tuning_job(name=self._training_name(run_id), **_ONCE)
            else:
                self._jobs.cancel_pipeline_job(name=self._job_name(run_id), **_ONCE)

    def logs(self, run_id: str, step: str) -> Iterator[LogLine]:
        """Yield what the steps of a pipeline job, a training job or its trials wrote, ordered by time."""
        if run_id.startswith(_TUNING_JOBS):
            yield from self._trial_logs(run_id, step)
            return
        jobs = self._jobs_of(run_id)
        # The name of a task in a loop stands for all of its runs.
        check_step(step, [name for names, _ in jobs for name in names])
        steps = {last_part(path): names[0] for names, paths in jobs if step in ("", *names) for path in paths}
        if not steps:
            raise nothing_written(run_id, step)
        for line in self._lines(run_id, list(steps)):
            yield LogLine(steps[line.job], line.text)

    def report(self, run_id: str) -> bytes:
        """Return the HTML report of a pipeline job's evaluation from Cloud Storage."""
        if run_id.startswith((_CUSTOM_JOBS, _TUNING_JOBS)):
            raise no_report(run_id)
        with _vertex_errors(f"run {run_id}"):
            uri = report_uri(self._pipeline_job(run_id))
        if not uri:
            raise no_report(run_id)
        return read_object(uri, self._credentials)

    def cron(self, plan: Plan) -> str:
        """Return five fields after the time zone."""
        return cron_of(plan)

    def schedule_request(self, plan: Plan) -> dict[str, Any]:
        """Return the ``CreateScheduleRequest`` that :meth:`create_schedule` sends, as JSON values."""
        return schedule_request(self._platform, plan)

    def schedules(self) -> list[Schedule]:
        """Return the active and the paused schedules of the region."""
        request = {"parent": self._parent, "filter": 'state!="COMPLETED"'}
        with _vertex_errors("schedules"):
            return [schedule_of(schedule) for schedule in self._schedules.list_schedules(request, **_ONCE)]

    def create_schedule(self, plan: Plan) -> Schedule:
        """Create a schedule."""
        from google.cloud import aiplatform_v1

        request = aiplatform_v1.CreateScheduleRequest.from_json(json.dumps(self.schedule_request(plan)))
        with _vertex_errors(f"schedule {plan.name}"):
            return schedule_of(self._schedules.create_schedule(request, **_ONCE))

    def delete_schedule(self, schedule_id: str) -> None:
        """Delete a schedule, and wait until it is gone.

        Raises:
            WalsError: it is still listed after a while; the deletion continues.
        """
        with _vertex_errors(f"schedule {schedule_id}"):
            # Returns an operation, which may take longer than the deletion itself.
            self._schedules.delete_schedule(name=self._schedule_name(schedule_id), **_ONCE)
        deadline = time.monotonic() + _DELETION_SECONDS
        while any(schedule.id == schedule_id for schedule in self.schedules()):
            if time.monotonic() > deadline:
                raise WalsError(
                    f"schedule {schedule_id}: Vertex AI is still deleting it; "
                    "check with `wals schedule list` whether it is gone"
                )
            time.sleep(_DELETION_POLL_SECONDS)

    def pause_schedule(self, schedule_id: str) -> None:
        """Pause a schedule."""
        with _vertex_errors(f"schedule {schedule_id}"):
            self._schedules.pause_schedule(name=self._schedule_name(schedule_id), **_ONCE)

    def resume_schedule(self, schedule: Schedule, catch_up: bool | None) -> None:
        """Resume a schedule; missed runs are made up for only if requested."""
        request = {"name": self._schedule_name(schedule.id), "catch_up": bool(catch_up)}
        with _vertex_errors(f"schedule {schedule.id}"):
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
                "requires a template repository",
                "set template_repository, or omit the tag",
            )
        return upload_to_bucket(self._platform.pipeline_root, self._credentials, spec, name)

    def template(self, location: str) -> Mapping[str, Any]:
        """Return the compiled pipeline in a template repository or a bucket."""
        return read_template(location, self._credentials)

    def _trial_logs(self, run_id: str, step: str) -> Iterator[LogLine]:
        """Yield what the trials of a tuning job wrote.

        Their entries have the number of the tuning job, not those of the trials' custom jobs.
        """
        with _vertex_errors(f"run {run_id}"):
            trials = [trial_name(trial.id) for trial in self._tuning_job(run_id).trials]
        check_step(step, trials)
        for line in self._lines(run_id, [last_part(run_id)]):
            name = trial_name(line.trial) if line.trial else _NO_TRIAL
            if step in ("", name):
                yield LogLine(name, line.text)

    def _lines(self, run_id: str, jobs: Sequence[str]) -> Iterator[JobLine]:
        """Yield what jobs wrote since a run was created."""
        return job_lines(self._platform.project, self._credentials, jobs, self.get(run_id).created)

    def _jobs_of(self, run_id: str) -> list[tuple[tuple[str, str], Sequence[str]]]:
        """Return the custom jobs that ran the steps of a run, retries included.

        Returns:
            The names of a step and of its task, and those of its jobs.
        """
        if run_id.startswith(_CUSTOM_JOBS):
            return [(("train", "train"), [run_id])]
        with _vertex_errors(f"run {run_id}"):
            job = self._pipeline_job(run_id)
            tasks = dict(named_tasks(job))
            jobs = [(name, custom_jobs(task)) for name, task in tasks.items()]
            jobs += [(name, [launched]) for name, launched in launched_jobs(job, self._run_jobs(job))]
            return [((name, str(tasks[name].task_name)), names) for name, names in jobs]

    def _run_jobs(self, job: Any) -> list[Any]:
        """Return all custom jobs that ran for a pipeline job; none if no step of it launches any."""
        label = job.labels.get(RUN_LABEL)
        if not label or not launches(job):
            return []
        request = {"parent": self._parent, "filter": f"labels.{RUN_LABEL}={label}"}
        return list(self._training.list_custom_jobs(request, **_ONCE))

    def _join_experiment(self, run_id: str) -> None:
        """Add a run that has just started to the platform's experiment; if that fails, only say so."""
        experiment = self._platform.experiment
        try:
            context = self._run_context(run_id)
            with _vertex_errors(f"experiment {experiment}"):
                add_to_experiment(self._metadata, self._platform, context, **_ONCE)
        except WalsError as error:
            logger.warning("Run %s has started, but is not in experiment %s: %s", run_id, experiment, error)

    def _run_context(self, run_id: str) -> str:
        """Return the context of a run, once Vertex AI has created it."""
        deadline = time.monotonic() + _CONTEXT_SECONDS
        while True:
            with _vertex_errors(f"run {run_id}"):
                name = str(self._pipeline_job(run_id).job_detail.pipeline_run_context.name)
            if name:
                return name
            if time.monotonic() > deadline:
                raise WalsError("the run does not appear in the metadata store")
            time.sleep(_CONTEXT_POLL_SECONDS)

    def _pipeline_job(self, run_id: str) -> Any:
        return self._jobs.get_pipeline_job(name=self._job_name(run_id), **_ONCE)

    def _tuning_job(self, run_id: str) -> Any:
        return self._training.get_hyperparameter_tuning_job(name=self._training_name(run_id), **_ONCE)

    @cached_property
    def _credentials(self) -> auth_credentials.Credentials:
        return google_credentials(self._endpoint)

    @cached_property
    def _jobs(self) -> Any:
        return self._client("PipelineServiceClient")

    @cached_property
    def _schedules(self) -> Any:
        return self._client("ScheduleServiceClient")

    @cached_property
    def _metadata(self) -> Any:
        return self._client("MetadataServiceClient")

    @cached_property
    def _training(self) -> Any:
        return self._client("JobServiceClient")

    def _client(self, service: str) -> Any:
        """Return a client of a service, with bounded answers."""
        from google.cloud import aiplatform_v1  # slow to import

        client = getattr(aiplatform_v1, service)(
            credentials=self._credentials, transport="rest", client_options={"api_endpoint": self._endpoint}
        )
        bounded(client.transport._session, self._endpoint)
        return client

    def _training_name(self, run_id: str) -> str:
        kind, _, number = run_id.partition("/")
        return f"{self._parent}/{kind}/{checked_id('run', number)}"

    def _job_name(self, run_id: str) -> str:
        return f"{self._parent}/pipelineJobs/{checked_id('run', run_id)}"

    def _schedule_name(self, schedule_id: str) -> str:
        return f"{self._parent}/schedules/{schedule_id}"


def _vertex_errors(what: str) -> contextlib.AbstractContextManager[None]:
    """Return a context that turns the API's errors into one line about ``what``, a kind and a name."""
    kind, _, name = what.partition(" ")

    def not_found(_: Exception) -> WalsError:
        if not name:
            return WalsError(f"{what}: Vertex AI does not know the project or the region")
        if kind == "experiment":
            return WalsError(f"{what}: the project has no metadata store before its first pipeline run")
        return InputError(kind, name, "does not exist", f"list them with `wals {_LISTING[kind]}`")

    return translated(
        (exceptions.NotFound, not_found),
        (exceptions.Conflict, lambda _: InputError(kind, name, "already exists", "give another --name")),
        (
            (requests.RequestException, auth_exceptions.TransportError),
            lambda _: WalsError(f"{what}: Vertex AI cannot be reached; check the network and try again"),
        ),
        ((exceptions.Unauthenticated, auth_exceptions.GoogleAuthError), lambda _: AccessError(REFUSED)),
        (
            exceptions.Forbidden,
            lambda error: AccessError(f"{what}: Vertex AI answers 403: {_message(error)}"),
        ),
        (json_format.ParseError, lambda error: WalsError(f"{what}: {_FOREIGN} ({_first_line(error)})")),
        # A pipeline that is none; pydantic's errors have a line for each field.
        (pydantic.ValidationError, lambda error: WalsError(f"{what}: {_FOREIGN} ({field_problem(error)})")),
        (ValueError, lambda _: WalsError(f"{what}: {_FOREIGN}")),
        (
            exceptions.GoogleAPICallError,
            lambda error: WalsError(f"{what}: Vertex AI answers {error.code}: {_message(error)}"),
        ),
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _message(error: exceptions.GoogleAPICallError) -> str:
    """Return the service's message without the address that the client puts before it."""
    return re.sub(r"^[A-Z]+ http\S+: ", "", error.message)
