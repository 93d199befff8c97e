"""An open-source Kubeflow Pipelines server as a backend."""

import contextlib
import json
import os
import re
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
    pipeline_of,
    steps_in_order,
    within,
)
from pipeline.cron import with_seconds
from pipeline.environments import Kubeflow
from pipeline.findings import Findings
from trainer.errors import InputError, WalsError
from trainer.files import sha256

_TOKEN = "KUBEFLOW_TOKEN"  # noqa: S105 - the variable's name
_FINGERPRINT = "wals-schedule "
_FOREIGN = (
    "does not answer as Kubeflow Pipelines does; give the address of its API, "
    f"and put a token into {_TOKEN} if there is a login page before it"
)
_TIMEOUT = (CONNECT_SECONDS, REQUEST_SECONDS)
_PAGE = 100
# How the templates end whose pods run a step's own container, and not what prepares it.
_EXECUTOR = "system-container-impl"
_HEALTH = ("/apis/v1beta1/healthz", "/apis/v2beta1/healthz")  # servers after 2.17 have the second alone

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
        self._client = _Client(configuration)
        self._specs: dict[tuple[str, str], Mapping[str, Any]] = {}

    def reach(self) -> None:
        """Refuse a server that is not there, or is older than the kfp that pipelines are compiled with.

        Raises:
            InputError: the server is older, naming its version.
            WalsError: the server cannot be asked.
        """
        host = self._platform.host
        with self._calling("version"):
            health = within(CONNECT_SECONDS, self._health, f"{host}: did not answer in {CONNECT_SECONDS} s")
        found = _version(health)
        if found and found < _numbers(kfp.__version__)[:2]:
            raise InputError(
                "host",
                host,
                f"is Kubeflow Pipelines {'.'.join(map(str, found))}, older than the "
                f"{kfp.__version__} that pipelines are compiled with",
                "upgrade the server",
            )

    def check(self, parameters: Mapping[str, Any], findings: Findings) -> None:
        """Note what is wrong with the server and its version, and what is missing of data on Google Cloud."""
        with findings.noted():
            self.reach()
        # Slow to import, and many a server has its data elsewhere.
        from pipeline.rights import is_on_google_cloud, look_for_data

        if is_on_google_cloud(parameters.get("source", "")):
            from pipeline.vertex import google_credentials

            look_for_data(google_credentials(""), parameters, findings)

    def run_request(self, job: Job) -> dict[str, Any]:
        """Return the ``V2beta1Run`` that :meth:`submit` sends, without its experiment, as JSON values."""
        return self._json(kfp_server_api.V2beta1Run(display_name=job.name, **self._what(job)))

    def submit(self, job: Job) -> str:
        """Start a run and return its id."""
        runs = kfp_server_api.RunServiceApi(self._client)
        run = {**self.run_request(job), "experiment_id": self._experiment()}
        with self._calling(f"run {job.name}"):
            return _id(runs.run_service_create_run(run, _request_timeout=_TIMEOUT).run_id)

    def link(self, run_id: str) -> str:
        """Return the address of a run's page on the server."""
        return f"{self._platform.host.rstrip('/')}/#/runs/details/{run_id}"

    def get(self, run_id: str) -> Run:
        """Return a run with its steps; the server keeps metrics where its API does not show them."""
        runs = kfp_server_api.RunServiceApi(self._client)
        with self._calling(f"run {run_id}"):
            return self._run(runs.run_service_get_run(checked_id("run", run_id), _request_timeout=_TIMEOUT))

    def runs(self, limit: int) -> list[Run]:
        """Return the newest runs of the experiment, newest first."""
        runs = kfp_server_api.RunServiceApi(self._client)
        with self._calling("runs"):
            experiment = self._find_experiment()
            if not experiment:
                return []
            page = runs.run_service_list_runs(
                experiment_id=experiment,
                page_size=limit,
                sort_by="created_at desc",
                _request_timeout=_TIMEOUT,
            )
            return [self._run(run) for run in page.runs or []]

    def cancel(self, run_id: str) -> None:
        """Ask a run to stop."""
        runs = kfp_server_api.RunServiceApi(self._client)
        with self._calling(f"run {run_id}"):
            runs.run_service_terminate_run(checked_id("run", run_id), _request_timeout=_TIMEOUT)

    def cron(self, plan: Plan) -> str:
        """Return six fields, of which the first is the seconds."""
        return with_seconds(plan.cron)

    def logs(self, run_id: str, step: str) -> Iterator[LogLine]:
        """Yield what the pods of a run's steps wrote, pod by pod in the order they began."""
        runs = kfp_server_api.RunServiceApi(self._client)
        with self._calling(f"run {run_id}"):
            run = runs.run_service_get_run(checked_id("run", run_id), _request_timeout=_TIMEOUT)
            names = _task_names(self._spec(run))
        check_step(step, sorted(names))
        pods = [(name, pod) for name, pod in _pods(self._workflow(run_id)) if not step or name == step]
        if not pods:
            raise nothing_written(run_id, step)
        for name, pod in pods:
            with self._calling(f"run {run_id}"):
                text = self._read(f"/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log")
            if problem := _log_problem(text):
                raise WalsError(f"run {run_id}: the log of {name} cannot be read: {problem}")
            yield from (LogLine(name, line) for line in text.splitlines())

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
                cron=self.cron(plan), start_time=plan.start, end_time=plan.end
            )
        )
        return self._json(
            kfp_server_api.V2beta1RecurringRun(
                display_name=plan.name,
                description=_FINGERPRINT + plan.fingerprint,
                max_concurrency=str(plan.max_concurrent_runs),
                mode=kfp_server_api.RecurringRunMode.ENABLE,
                no_catchup=not plan.catch_up,
                trigger=trigger,
                **self._what(plan.job),
            )
        )

    def schedules(self) -> list[Schedule]:
        """Return the recurring runs of the experiment."""
        with self._calling("schedules"):
            experiment = self._find_experiment()
            if not experiment:
                return []
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

    def resume_schedule(self, schedule: Schedule, catch_up: bool | None) -> None:
        """Enable a recurring run, which makes up for missed runs or not as it was set."""
        if catch_up not in (None, schedule.catch_up):
            made = "with" if schedule.catch_up else "without"
            raise InputError(
                "schedule",
                schedule.name,
                f"was set {made} --catch-up, which Kubeflow does not change when it is resumed",
                "set it again as wanted",
            )
        with self._calling(f"schedule {schedule.id}"):
            self._recurring().recurring_run_service_enable_recurring_run(
                schedule.id, _request_timeout=_TIMEOUT
            )

    def upload(self, spec: Path, name: str, tags: Sequence[str]) -> Uploaded:
        """Upload a compiled pipeline as a version named by its bytes, of the pipeline of that name."""
        if tags:
            raise InputError("tag", " ".join(tags), "is not to be had on Kubeflow", "leave it out")
        version = f"sha256-{sha256(spec)[:16]}"
        with self._calling(f"pipeline {name}"):
            pipeline_id = self._pipeline(name)
            held = next((held for held in self._versions(pipeline_id) if held.name == version), None)
            uploaded = held or kfp_server_api.PipelineUploadServiceApi(self._client).upload_pipeline_version(
                str(spec),
                name=version,
                display_name=version,
                pipelineid=pipeline_id,
                _request_timeout=_TIMEOUT,
            )
            place = f"{pipeline_id}/version/{_id(uploaded.pipeline_version_id)}"
        host = self._platform.host.rstrip("/")
        return Uploaded(f"{host}/#/pipelines/details/{place}", version, created=held is None)

    def template(self, location: str) -> Mapping[str, Any]:
        """Return the compiled pipeline of an uploaded version."""
        pipeline, version = _version_ids(location)
        reference = kfp_server_api.V2beta1PipelineVersionReference(pipeline, version)
        with self._calling(f"template {location}"):
            return self._version_spec(reference)

    def _workflow(self, run_id: str) -> dict[str, Any]:
        """Return the Argo Workflow of a run that there is; empty before the server has made it.

        It tells of the pods, which the newer API leaves out. Servers after 2.17 have dropped the older one.
        """
        with self._calling(f"run {run_id}"):
            try:
                found = json.loads(self._read(f"/apis/v1beta1/runs/{run_id}"))
            except kfp_server_api.ApiException as error:
                if error.status != 404:
                    raise
                raise WalsError(
                    f"{self._platform.host}: does not tell of a run's pods; see its page"
                ) from error
        workflow: dict[str, Any] = json.loads(
            (found.get("pipeline_runtime") or {}).get("workflow_manifest") or "{}"
        )
        return workflow

    def _read(self, path: str) -> str:
        """Return what the server has at a path that its client has no method for."""
        url = f"{self._platform.host.rstrip('/')}{path}"
        answer = self._client.rest_client.GET(url, headers=self._authorization(), _request_timeout=_TIMEOUT)
        return bytes(answer.data).decode("utf-8", "replace")

    def _authorization(self) -> dict[str, str]:
        token = self._client.configuration.get_api_key_with_prefix("authorization")
        return {"authorization": token} if token else {}

    def _what(self, job: Job) -> dict[str, Any]:
        """Return what a run and a recurring run have in common."""
        settings = self._platform
        return {
            **self._source(job),
            "runtime_config": kfp_server_api.V2beta1RuntimeConfig(
                parameters=dict(job.parameters), pipeline_root=settings.pipeline_root or None
            ),
            "service_account": settings.service_account or None,
        }

    def _source(self, job: Job) -> dict[str, Any]:
        """Return the pipeline of a job: the uploaded version, where the job is just as that is."""
        if not job.template:
            return {"pipeline_spec": job.spec}
        pipeline, version = _version_ids(job.template)
        if job.spec != self._specs.get((pipeline, version)):
            return {"pipeline_spec": job.spec}
        reference = {"pipeline_id": pipeline, "pipeline_version_id": version}
        return {"pipeline_version_reference": reference}

    def _json(self, model: Any) -> dict[str, Any]:
        return dict(self._client.sanitize_for_serialization(model))

    def _recurring(self) -> Any:
        return kfp_server_api.RecurringRunServiceApi(self._client)

    def _find_experiment(self) -> str | None:
        """Return the id of the experiment, or None if there is none yet."""
        experiments = kfp_server_api.ExperimentServiceApi(self._client)
        name, namespace = self._platform.experiment, self._platform.namespace
        for page in _pages(experiments.experiment_service_list_experiments, namespace=namespace):
            for experiment in page.experiments or []:
                if experiment.display_name == name:
                    return _id(experiment.experiment_id)
        return None

    def _experiment(self) -> str:
        """Return the id of the experiment, made if missing."""
        experiments = kfp_server_api.ExperimentServiceApi(self._client)
        name, namespace = self._platform.experiment, self._platform.namespace
        with self._calling(f"experiment {name}"):
            found = self._find_experiment()
            if found:
                return found
            made = kfp_server_api.V2beta1Experiment(display_name=name, namespace=namespace or None)
            created = experiments.experiment_service_create_experiment(made, _request_timeout=_TIMEOUT)
            return _id(created.experiment_id)

    def _pipeline(self, name: str) -> str:
        """Return the id of the pipeline of a name, made if missing."""
        pipelines = kfp_server_api.PipelineServiceApi(self._client)
        namespace = self._platform.namespace
        for page in _pages(pipelines.pipeline_service_list_pipelines, namespace=namespace):
            for pipeline in page.pipelines or []:
                if pipeline.display_name == name:
                    return _id(pipeline.pipeline_id)
        made = kfp_server_api.V2beta1Pipeline(name=name, display_name=name, namespace=namespace or None)
        return _id(pipelines.pipeline_service_create_pipeline(made, _request_timeout=_TIMEOUT).pipeline_id)

    def _versions(self, pipeline_id: str) -> Iterator[Any]:
        pipelines = kfp_server_api.PipelineServiceApi(self._client)
        for page in _pages(pipelines.pipeline_service_list_pipeline_versions, pipeline_id):
            yield from page.pipeline_versions or []

    def _version_spec(self, reference: Any) -> Mapping[str, Any]:
        """Return the compiled pipeline that a reference to an uploaded version stands for."""
        place = (reference.pipeline_id, reference.pipeline_version_id)
        if place not in self._specs:
            pipelines = kfp_server_api.PipelineServiceApi(self._client)
            version = pipelines.pipeline_service_get_pipeline_version(*place, _request_timeout=_TIMEOUT)
            self._specs[place] = version.pipeline_spec or {}
        return self._specs[place]

    def _spec(self, run: Any) -> Mapping[str, Any]:
        """Return the compiled pipeline of a run; empty if it was uploaded and has been deleted since."""
        if run.pipeline_spec or not run.pipeline_version_reference:
            return run.pipeline_spec or {}
        try:
            return self._version_spec(run.pipeline_version_reference)
        except kfp_server_api.ApiException as error:
            if error.status == 404:
                return {}
            raise

    def _health(self) -> Mapping[str, Any]:
        """Return what the server tells about itself."""
        for path in _HEALTH:
            try:
                answer = self._client.rest_client.GET(
                    self._client.configuration.host + path,
                    headers=self._authorization(),
                    # A pair: of one number the client takes none but whole ones.
                    _request_timeout=(CONNECT_SECONDS, CONNECT_SECONDS),
                )
            except kfp_server_api.ApiException as error:
                if error.status != 404:
                    raise
            else:
                return _object(answer.data)
        raise _ForeignError

    def _run(self, run: Any) -> Run:
        details = (run.run_details.task_details if run.run_details else None) or []
        # The server also tells of what it runs around the steps: drivers, executors, the run itself.
        names = _task_names(self._spec(run))
        link = self.link(run.run_id)
        steps = [task for task in details if task.display_name in names]
        return Run(
            id=_id(run.run_id),
            name=run.display_name,
            state=_STATES.get(run.state, "waiting"),
            created=run.created_at,
            ended=_time(run.finished_at),
            link=link,
            parameters=(run.runtime_config.parameters if run.runtime_config else None) or {},
            error=(run.error.message if run.error else "") or "",
            steps=steps_in_order(
                Step(
                    task.display_name,
                    _STATES.get(task.state, "waiting"),
                    _time(task.start_time),
                    _time(task.end_time),
                    link,
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
                raise AccessError(f"{host}: refuses access; put a valid token into {_TOKEN}") from error
            if error.status in (301, 302, 303, 307, 308):
                raise WalsError(f"{host}: {_FOREIGN}") from error
            raise WalsError(f"{what}: {host} answers {error.status}: {_message(error)}") from error
        except urllib3.exceptions.HTTPError as error:
            raise WalsError(f"{host}: cannot be reached; start the server or its port-forward") from error
        except _ForeignError as error:
            raise WalsError(f"{host}: {_FOREIGN}") from error


class _ForeignError(Exception):
    """An answer that Kubeflow Pipelines does not give, such as a login page."""


class _Client(kfp_server_api.ApiClient):  # type: ignore[misc]
    """A client that takes nothing but JSON: the published one makes an empty object of any other text."""

    def deserialize(self, response: Any, response_type: Any) -> Any:
        _object(response.data)
        return super().deserialize(response, response_type)


def _pages(call: Callable[..., Any], *place: str, **where: str) -> Iterator[Any]:
    """Yield all pages of a list."""
    token = ""
    while True:
        page = call(*place, **where, page_size=_PAGE, page_token=token, _request_timeout=_TIMEOUT)
        yield page
        token = page.next_page_token
        if not token:
            return


def _version_ids(location: str) -> tuple[str, str]:
    """Return the ids of a pipeline and its version out of the address of the version's page."""
    found = re.fullmatch(r"https?://.+/pipelines/details/([\w.-]+)/version/([\w.-]+)", location)
    if not found:
        raise InputError(
            "template", location, "is no version of a pipeline", "give a location that `wals upload` printed"
        )
    return found[1], found[2]


def _object(text: str) -> Mapping[str, Any]:
    """Return an answer's JSON object."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _ForeignError from error
    if not isinstance(content, dict):
        raise _ForeignError
    return content


def _id(value: str | None) -> str:
    """Return an id that the server must have given."""
    if not value:
        raise _ForeignError
    return value


def _schedule(recurring: Any) -> Schedule:
    trigger = recurring.trigger.cron_schedule if recurring.trigger else None
    description = recurring.description or ""
    made_here = description.startswith(_FINGERPRINT)
    return Schedule(
        id=_id(recurring.recurring_run_id),
        name=recurring.display_name,
        cron=trigger.cron if trigger else "",
        paused=recurring.status == "DISABLED",
        next_run=None,
        max_concurrent_runs=int(recurring.max_concurrency or 1),
        start=_time(trigger.start_time) if trigger else None,
        end=_time(trigger.end_time) if trigger else None,
        catch_up=not recurring.no_catchup,
        fingerprint=description.removeprefix(_FINGERPRINT) if made_here else "",
    )


def _task_names(spec: Mapping[str, Any]) -> set[str]:
    """Return the names of the tasks of a compiled pipeline, also of those inside loops and conditions."""
    pipeline = pipeline_of(spec)
    parts = [pipeline.get("root", {}), *pipeline.get("components", {}).values()]
    return {name for part in parts for name in part.get("dag", {}).get("tasks", {})}


def _pods(workflow: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the steps of an Argo Workflow and their pods, in the order they began.

    A step is a node around its pods: one, or one for each time it was tried. The API server names pods in
    the same way (``RetrievePodName`` of its ``common/util/workflow.go``).
    """
    metadata = workflow.get("metadata", {})
    nodes: Mapping[str, Any] = workflow.get("status", {}).get("nodes") or {}
    plain = metadata.get("annotations", {}).get("workflows.argoproj.io/pod-name-format") == "v1"
    ran = [
        node
        for node in nodes.values()
        if node["type"] == "Pod" and node.get("templateName", "").endswith(_EXECUTOR)
    ]
    return [
        (
            nodes[node["boundaryID"]]["displayName"],
            node["id"]
            if plain
            else f"{metadata['name']}-{node['templateName']}-{node['id'].rpartition('-')[2]}",
        )
        for node in sorted(ran, key=lambda node: str(node.get("startedAt") or "9"))
    ]


def _log_problem(text: str) -> str:
    """Return why a log cannot be read, which the server says in its place and with a status of success."""
    if not text.startswith('{"error_'):
        return ""
    try:
        return str(json.loads(text).get("error_message", "")).partition("\n")[0]
    except ValueError:
        return ""


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


def _version(health: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the server's version; its web pages hand it on under another name."""
    return _numbers(str(health.get("tag_name") or health.get("apiServerTagName") or ""))


def _numbers(version: str) -> tuple[int, ...]:
    """Return ``(2, 17, 0)`` for ``2.17.0``, and nothing for what is no version."""
    parts = version.split("-")[0].split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()
