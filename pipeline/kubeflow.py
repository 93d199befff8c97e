"""An open-source Kubeflow Pipelines server as a backend."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api
import urllib3

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
from pipeline.cron import with_seconds
from pipeline.environments import Kubeflow
from trainer.errors import InputError, WalsError
from trainer.files import sha256

_TOKEN = "KUBEFLOW_TOKEN"  # noqa: S105 - the variable's name
_FINGERPRINT = "wals-schedule "
_TIMEOUT = (CONNECT_SECONDS, REQUEST_SECONDS)
_PAGE = 100

_STATES = {
    "PENDING": "waiting",
    "RUNNING": "running",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "CANCELING": "running",
    "CANCELED": "cancelled",
    "PAUSED": "waiting",
    "SKIPPED": "skipped",
}


class KubeflowBackend:
    """Runs and recurring runs of one server, in one experiment.

    A server that wants a token gets the one in the environment variable ``KUBEFLOW_TOKEN``.
    """

    def __init__(self, platform: Kubeflow) -> None:
        self._platform = platform
        configuration = kfp_server_api.Configuration(host=platform.host.rstrip("/"))
        configuration.retries = False
        token = os.environ.get(_TOKEN)
        if token:
            configuration.api_key = {"authorization": token}
            configuration.api_key_prefix = {"authorization": "Bearer"}
        self._client = kfp_server_api.ApiClient(configuration)

    def reach(self) -> None:
        """Refuse a server that is not there, or is older than the kfp that pipelines are compiled with.

        Raises:
            WalsError: naming the server and its version.
        """
        host = self._platform.host

        def ask() -> Any:
            return self._client.rest_client.GET(
                f"{host.rstrip('/')}/apis/v1beta1/healthz",
                headers=self._authorization(),
                _request_timeout=CONNECT_SECONDS,
            )

        try:
            answer = within(CONNECT_SECONDS + 0.5, ask, f"{host}: did not answer in {CONNECT_SECONDS:.0f} s")
        except kfp_server_api.ApiException as error:
            # Servers after 2.17 have dropped this path.
            if error.status == 404:
                return
            raise WalsError(f"{host}: answers {error.status} {error.reason}") from error
        except urllib3.exceptions.HTTPError as error:
            raise WalsError(f"{host}: cannot be reached; start the server or its port-forward") from error
        found = _version(answer.data)
        if found and found < _numbers(kfp.__version__)[:2]:
            raise WalsError(
                f"{host}: is Kubeflow Pipelines {'.'.join(map(str, found))}, older than the "
                f"{kfp.__version__} that pipelines are compiled with; upgrade the server"
            )

    def check(self, source: str) -> list[InputError]:  # noqa: ARG002 - the server sees to the source
        """Return no problems once the server has answered and is of a version that will do."""
        self.reach()
        return []

    def run_request(self, job: Job) -> dict[str, Any]:
        """Return the ``V2beta1Run`` that :meth:`submit` sends, without its experiment, as JSON values."""
        return self._json(kfp_server_api.V2beta1Run(display_name=job.name, **self._what(job)))

    def submit(self, job: Job) -> str:
        """Start a run and return its id."""
        runs = kfp_server_api.RunServiceApi(self._client)
        run = {**self.run_request(job), "experiment_id": self._experiment()}
        with self._calling(f"run {job.name}"):
            return str(runs.run_service_create_run(run, _request_timeout=_TIMEOUT).run_id)

    def get(self, run_id: str) -> Run:
        """Return a run with its steps; the server keeps metrics where its API does not show them."""
        runs = kfp_server_api.RunServiceApi(self._client)
        with self._calling(f"run {run_id}"):
            return self._run(runs.run_service_get_run(run_id, _request_timeout=_TIMEOUT))

    def runs(self, limit: int) -> list[Run]:
        """Return the newest runs of the experiment, newest first."""
        runs = kfp_server_api.RunServiceApi(self._client)
        with self._calling("runs"):
            page = runs.run_service_list_runs(
                experiment_id=self._experiment(),
                page_size=limit,
                sort_by="created_at desc",
                _request_timeout=_TIMEOUT,
            )
            return [self._run(run) for run in page.runs or []]

    def cancel(self, run_id: str) -> None:
        """Ask a run to stop."""
        runs = kfp_server_api.RunServiceApi(self._client)
        with self._calling(f"run {run_id}"):
            runs.run_service_terminate_run(run_id, _request_timeout=_TIMEOUT)

    def schedule_request(self, plan: Plan) -> dict[str, Any]:
        """Return the ``V2beta1RecurringRun`` that :meth:`create_schedule` sends, without its experiment.

        Raises:
            InputError: the plan's time zone is not the one that the server reads its crons in.
        """
        server_zone = self._platform.time_zone
        if plan.time_zone != server_zone:
            raise InputError(
                "time zone",
                plan.time_zone,
                f"is not the server's, which reads every cron in {server_zone}",
                f"give --time-zone {server_zone}, or change the server's CRON_SCHEDULE_TIMEZONE and say so "
                "in time_zone of the config",
            )
        trigger = kfp_server_api.V2beta1Trigger(
            cron_schedule=kfp_server_api.V2beta1CronSchedule(
                cron=with_seconds(plan.cron), start_time=plan.start, end_time=plan.end
            )
        )
        return self._json(
            kfp_server_api.V2beta1RecurringRun(
                display_name=plan.name,
                description=_FINGERPRINT + plan.fingerprint,
                max_concurrency=str(plan.max_concurrent_runs),
                mode=kfp_server_api.RecurringRunMode.ENABLE,
                no_catchup=True,
                trigger=trigger,
                **self._what(plan.job),
            )
        )

    def schedules(self) -> list[Schedule]:
        """Return the recurring runs of the experiment."""
        experiment = self._experiment()
        with self._calling("schedules"):
            pages = _pages(
                self._recurring().recurring_run_service_list_recurring_runs, experiment_id=experiment
            )
            return [_schedule(found) for page in pages for found in page.recurring_runs or []]

    def create_schedule(self, plan: Plan) -> Schedule:
        """Create a recurring run."""
        request = {**self.schedule_request(plan), "experiment_id": self._experiment()}
        with self._calling(f"schedule {plan.name}"):
            created = self._recurring().recurring_run_service_create_recurring_run(
                request, _request_timeout=_TIMEOUT
            )
            return _schedule(created)

    def delete_schedule(self, schedule_id: str) -> None:
        """Delete a recurring run."""
        with self._calling(f"schedule {schedule_id}"):
            self._recurring().recurring_run_service_delete_recurring_run(
                schedule_id, _request_timeout=_TIMEOUT
            )

    def pause_schedule(self, schedule_id: str) -> None:
        """Disable a recurring run."""
        with self._calling(f"schedule {schedule_id}"):
            self._recurring().recurring_run_service_disable_recurring_run(
                schedule_id, _request_timeout=_TIMEOUT
            )

    def resume_schedule(self, schedule_id: str) -> None:
        """Enable a recurring run, which was made without catch-up."""
        with self._calling(f"schedule {schedule_id}"):
            self._recurring().recurring_run_service_enable_recurring_run(
                schedule_id, _request_timeout=_TIMEOUT
            )

    def upload(self, spec: Path, name: str, tags: Sequence[str]) -> Uploaded:
        """Upload a compiled pipeline as a version named by its bytes, of the pipeline of that name."""
        if tags:
            raise InputError("tag", " ".join(tags), "is not to be had on Kubeflow", "leave it out")
        version = f"sha256-{sha256(spec)[:16]}"
        with self._calling(f"pipeline {name}"):
            pipeline_id = self._pipeline(name)
            created = not any(version == held.name for held in self._versions(pipeline_id))
            if created:
                kfp_server_api.PipelineUploadServiceApi(self._client).upload_pipeline_version(
                    str(spec),
                    name=version,
                    display_name=version,
                    pipelineid=pipeline_id,
                    _request_timeout=_TIMEOUT,
                )
        return Uploaded(
            f"{self._platform.host.rstrip('/')}/#/pipelines/details/{pipeline_id}", version, created
        )

    def _what(self, job: Job) -> dict[str, Any]:
        """Return what a run and a recurring run have in common."""
        settings = self._platform
        return {
            "pipeline_spec": job.spec,
            "runtime_config": kfp_server_api.V2beta1RuntimeConfig(
                parameters=dict(job.parameters), pipeline_root=settings.pipeline_root or None
            ),
            "service_account": settings.service_account or None,
        }

    def _json(self, model: Any) -> dict[str, Any]:
        return dict(self._client.sanitize_for_serialization(model))

    def _recurring(self) -> Any:
        return kfp_server_api.RecurringRunServiceApi(self._client)

    def _experiment(self) -> str:
        """Return the id of the experiment, made if missing."""
        experiments = kfp_server_api.ExperimentServiceApi(self._client)
        name, namespace = self._platform.experiment, self._platform.namespace
        with self._calling(f"experiment {name}"):
            for page in _pages(experiments.experiment_service_list_experiments, namespace=namespace):
                for experiment in page.experiments or []:
                    if experiment.display_name == name:
                        return str(experiment.experiment_id)
            made = kfp_server_api.V2beta1Experiment(display_name=name, namespace=namespace or None)
            created = experiments.experiment_service_create_experiment(made, _request_timeout=_TIMEOUT)
            return str(created.experiment_id)

    def _pipeline(self, name: str) -> str:
        """Return the id of the pipeline of a name, made if missing."""
        pipelines = kfp_server_api.PipelineServiceApi(self._client)
        namespace = self._platform.namespace
        for page in _pages(pipelines.pipeline_service_list_pipelines, namespace=namespace):
            for pipeline in page.pipelines or []:
                if pipeline.display_name == name:
                    return str(pipeline.pipeline_id)
        made = kfp_server_api.V2beta1Pipeline(name=name, display_name=name, namespace=namespace or None)
        return str(pipelines.pipeline_service_create_pipeline(made, _request_timeout=_TIMEOUT).pipeline_id)

    def _versions(self, pipeline_id: str) -> Iterator[Any]:
        pipelines = kfp_server_api.PipelineServiceApi(self._client)
        for page in _pages(pipelines.pipeline_service_list_pipeline_versions, pipeline_id):
            yield from page.pipeline_versions or []

    def _authorization(self) -> dict[str, str]:
        token = self._client.configuration.get_api_key_with_prefix("authorization")
        return {"authorization": token} if token else {}

    def _run(self, run: Any) -> Run:
        details = (run.run_details.task_details if run.run_details else None) or []
        # The server also tells of what it runs around the steps: drivers, executors, the run itself.
        names = _task_names(run.pipeline_spec or {})
        steps = [task for task in details if task.display_name in names]
        return Run(
            id=run.run_id,
            name=run.display_name,
            state=_STATES.get(run.state, "waiting"),
            created=run.created_at,
            ended=_time(run.finished_at),
            link=f"{self._platform.host.rstrip('/')}/#/runs/details/{run.run_id}",
            parameters=(run.runtime_config.parameters if run.runtime_config else None) or {},
            error=(run.error.message if run.error else "") or "",
            steps=steps_in_order(
                Step(
                    task.display_name,
                    _STATES.get(task.state, "waiting"),
                    _time(task.start_time),
                    _time(task.end_time),
                )
                for task in steps
            ),
        )

    @contextlib.contextmanager
    def _calling(self, what: str) -> Iterator[None]:
        """Turn what the server says into one line about ``what``."""
        host = self._platform.host
        kind, _, name = what.partition(" ")
        try:
            yield
        except kfp_server_api.ApiException as error:
            if error.status == 404 and name:
                raise InputError(kind, name, f"does not exist on {host}", "list what there is") from error
            if error.status in (401, 403):
                raise WalsError(f"{host}: refuses access; put a valid token into {_TOKEN}") from error
            raise WalsError(f"{what}: {host} answers {error.status}: {_message(error)}") from error
        except urllib3.exceptions.HTTPError as error:
            raise WalsError(f"{host}: cannot be reached; start the server or its port-forward") from error


def _pages(call: Callable[..., Any], *place: str, **where: str) -> Iterator[Any]:
    """Yield all pages of a list."""
    token = ""
    while True:
        page = call(*place, **where, page_size=_PAGE, page_token=token, _request_timeout=_TIMEOUT)
        yield page
        token = page.next_page_token
        if not token:
            return


def _schedule(recurring: Any) -> Schedule:
    trigger = recurring.trigger.cron_schedule if recurring.trigger else None
    description = recurring.description or ""
    made_here = description.startswith(_FINGERPRINT)
    return Schedule(
        id=recurring.recurring_run_id,
        name=recurring.display_name,
        cron=trigger.cron if trigger else "",
        paused=recurring.status == "DISABLED",
        next_run=None,
        fingerprint=description.removeprefix(_FINGERPRINT) if made_here else "",
    )


def _task_names(spec: Mapping[str, Any]) -> set[str]:
    """Return the names of the tasks of a compiled pipeline, also of those inside loops and conditions."""
    spec = spec.get("pipeline_spec", spec)
    parts = [spec.get("root", {}), *spec.get("components", {}).values()]
    return {name for part in parts for name in part.get("dag", {}).get("tasks", {})}


def _time(time: datetime | None) -> datetime | None:
    """Return a time, or None for the epoch that the server writes for none."""
    return time if time and time > datetime(1971, 1, 1, tzinfo=UTC) else None


def _message(error: kfp_server_api.ApiException) -> str:
    """Return what the server says is wrong, out of its JSON if it sent some."""
    try:
        body: Mapping[str, Any] = json.loads(error.body)
        return str(body.get("message") or body.get("error") or error.reason)
    except (TypeError, ValueError, AttributeError):
        return str(error.body or error.reason)


def _version(body: str) -> tuple[int, ...]:
    try:
        return _numbers(str(json.loads(body).get("tag_name", "")))
    except (ValueError, AttributeError):
        return ()


def _numbers(version: str) -> tuple[int, ...]:
    """Return ``(2, 17, 0)`` for ``2.17.0``, and nothing for what is no version."""
    parts = version.split("-")[0].split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()
