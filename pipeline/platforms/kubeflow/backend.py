"""An open-source Kubeflow Pipelines server as a backend."""

import contextlib
import dataclasses
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import kfp_server_api
import pydantic

from components.answers import field_problem
from components.extract.names import ITEM_SOURCES
from components.limits import CONNECT_SECONDS, TIMEOUT, answered
from components.workflow import pods, step_of
from pipeline.platforms.backend import (
    FINAL_STATES,
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
from pipeline.platforms.cron import with_seconds
from pipeline.platforms.environments import Kubeflow
from pipeline.platforms.findings import Findings
from pipeline.platforms.kubeflow.client import Client, ForeignError, given, pages
from pipeline.platforms.kubeflow.logs import failure, step_lines
from pipeline.platforms.kubeflow.metadata import read_artifact, run_artifacts
from pipeline.platforms.kubeflow.records import FINGERPRINT, run_of, schedule_of
from pipeline.platforms.kubeflow.workflows import workflow_in
from pipeline.platforms.registries import look_for_registry, look_for_start
from pipeline.platforms.tasks import (
    EVALUATED,
    EVALUATION,
    HTML,
    METRICS,
    MODEL,
    TRAINING,
    check_spec,
    chosen_parameters,
    repeated_steps,
    step_names,
    steps_with,
)
from trainer.errors import InputError, WalsError
from trainer.files import sha256

logger = logging.getLogger(__name__)


class NoWorkflowError(WalsError):
    """The server no longer has the older API, which reports a run's Argo Workflow."""


class KubeflowBackend:
    """Runs and recurring runs of one server, in one experiment.

    A server that requires a token gets the one in the environment variable ``KUBEFLOW_TOKEN``.
    """

    def __init__(self, platform: Kubeflow) -> None:
        self._platform = platform
        self._client = Client(platform.host)
        self._specs: dict[tuple[str, str], Mapping[str, Any]] = {}

    def reach(self) -> None:
        """Make sure that the server answers, and is not older than the kfp that pipelines are compiled with.

        Raises:
            InputError: the server is older; the line names its version.
            WalsError: the server cannot be reached.
        """
        host = self._platform.host
        with self._client.errors("version"):
            health = answered(self._client.health, host, CONNECT_SECONDS)
        server, compiler = _version(health), metadata.version("kfp")
        if server and server < _numbers(compiler)[:2]:
            raise InputError(
                "host",
                host,
                f"is Kubeflow Pipelines {'.'.join(map(str, server))}, older than the "
                f"{compiler} that pipelines are compiled with",
                "upgrade the server",
            )

    def check(
        self,
        parameters: Mapping[str, Any],
        gpus: Sequence[Gpus],  # noqa: ARG002
        findings: Findings,
    ) -> None:
        """Note problems of the server and its version, the registry, and what is missing on Google Cloud.

        GPUs are not checked: pods wait until a node has them.
        """
        with findings.noted():
            self.reach()
        look_for_registry(parameters.get("registry", ""), findings)
        look_for_start(parameters, findings)
        # Slow to import, and many servers read and deliver their data elsewhere.
        from pipeline.platforms.google.deliveries import is_delivered_on_google_cloud, look_for_deliveries
        from pipeline.platforms.google.rights import is_on_google_cloud, look_for_data

        sources = (parameters.get(name, "") for name in ("source", *ITEM_SOURCES))
        if any(map(is_on_google_cloud, sources)) or is_delivered_on_google_cloud(parameters):
            from pipeline.platforms.google.credentials import google_credentials

            credentials = google_credentials("")
            look_for_data(credentials, parameters, findings)
            look_for_deliveries(credentials, parameters, findings)

    def run_request(self, job: Job) -> dict[str, Any]:
        """Return the ``V2beta1Run`` that :meth:`submit` sends, without its experiment, as JSON values."""
        return self._json(kfp_server_api.V2beta1Run(display_name=job.name, **self._run_fields(job)))

    def submit(self, job: Job) -> str:
        """Start a run and return its id."""
        runs = kfp_server_api.RunServiceApi(self._client)
        run = {**self.run_request(job), "experiment_id": self._experiment()}
        with self._client.errors(f"run {job.name}"):
            return str(given(runs.run_service_create_run(run, _request_timeout=TIMEOUT), "run_id"))

    def link(self, run_id: str) -> str:
        """Return the address of a run's page on the server."""
        return f"{self._platform.host.rstrip('/')}/#/runs/details/{run_id}"

    def get(self, run_id: str) -> Run:
        """Return a run with its steps; an ended one with its metrics, or with the reason of its failure."""
        found = self._get(run_id)
        with self._client.errors(f"run {run_id}"):
            spec = self._spec(found)
        workflow: dict[str, Any] = {}
        if repeated := repeated_steps(spec):
            with contextlib.suppress(NoWorkflowError):
                workflow = self._workflow(run_id)

        def named(task: Any) -> str:
            if task.display_name not in repeated:
                return str(task.display_name)
            children = [child.pod_name for child in task.child_tasks or []]
            return step_of(task.display_name, children, workflow)

        with self._client.errors(f"run {run_id}"):
            run = run_of(found, spec, self.link(run_id), named)
        if run.state == "failed" and not run.error:
            with contextlib.suppress(NoWorkflowError):
                reason = failure(self._client, run_id, workflow or self._workflow(run_id))
                run = dataclasses.replace(run, error=reason)
        return self._judged(run, spec)

    def runs(self, limit: int) -> list[Run]:
        """Return the newest runs of the experiment, newest first."""
        runs = kfp_server_api.RunServiceApi(self._client)
        with self._client.errors("runs"):
            experiment = self._find_experiment()
            if not experiment:
                return []
            page = runs.run_service_list_runs(
                experiment_id=experiment,
                page_size=limit,
                sort_by="created_at desc",
                _request_timeout=TIMEOUT,
            )
            return [
                run_of(run, self._spec(run), self.link(run.run_id), lambda task: str(task.display_name))
                for run in page.runs or []
            ]

    def cancel(self, run_id: str) -> None:
        """Request that a run stops."""
        runs = kfp_server_api.RunServiceApi(self._client)
        with self._client.errors(f"run {run_id}"):
            runs.run_service_terminate_run(checked_id("run", run_id), _request_timeout=TIMEOUT)

    def cron(self, plan: Plan) -> str:
        """Return six fields, which start with the seconds."""
        return with_seconds(plan.cron)

    def logs(self, run_id: str, step: str) -> Iterator[LogLine]:
        """Yield the output of the pods of a run's steps, pod by pod in the order they started."""
        run = self._get(run_id)
        with self._client.errors(f"run {run_id}"):
            names = step_names(self._spec(run))
        workflow = self._workflow(run_id)
        started = pods(workflow)
        check_step(step, [*names, *(pod.step for pod in started if pod.step not in names)])
        wanted = [pod for pod in started if step in ("", pod.task, pod.step)]
        if not wanted:
            raise nothing_written(run_id, step)
        yield from step_lines(self._client, run_id, workflow, wanted)

    def report(self, run_id: str) -> bytes:
        """Return the HTML report of a run's evaluation from the server's object store."""
        run = self._get(run_id)
        with self._client.errors(f"run {run_id}"):
            reports = _outputs(HTML, self._spec(run), [EVALUATION])
            found = [artifact for artifact in run_artifacts(self._client, run_id) if artifact.name in reports]
        if not found:
            raise no_report(run_id)
        with self._client.errors("report"):
            return read_artifact(self._client, found[-1], self._platform.namespace)

    def schedule_request(self, plan: Plan) -> dict[str, Any]:
        """Return the ``V2beta1RecurringRun`` that :meth:`create_schedule` sends, without its experiment.

        Raises:
            InputError: the plan's time zone is not the server's.
        """
        server_zone = self._platform.time_zone
        if plan.time_zone != server_zone:
            raise InputError(
                "time zone",
                plan.time_zone,
                f"is not the server's time zone, {server_zone}, in which it reads every cron",
                f"give --time-zone {server_zone}, or change the server's CRON_SCHEDULE_TIMEZONE and set "
                "time_zone in the config",
            )
        trigger = kfp_server_api.V2beta1Trigger(
            cron_schedule=kfp_server_api.V2beta1CronSchedule(
                cron=self.cron(plan), start_time=plan.start, end_time=plan.end
            )
        )
        return self._json(
            kfp_server_api.V2beta1RecurringRun(
                display_name=plan.name,
                description=FINGERPRINT + plan.fingerprint,
                max_concurrency=str(plan.max_concurrent_runs),
                mode=kfp_server_api.RecurringRunMode.ENABLE,
                no_catchup=not plan.catch_up,
                trigger=trigger,
                **self._run_fields(plan.job),
            )
        )

    def schedules(self) -> list[Schedule]:
        """Return the recurring runs of the experiment."""
        with self._client.errors("schedules"):
            experiment = self._find_experiment()
            if not experiment:
                return []
            listing = self._recurring().recurring_run_service_list_recurring_runs
            return [
                schedule_of(recurring)
                for page in pages(listing, experiment_id=experiment)
                for recurring in page.recurring_runs or []
            ]

    def create_schedule(self, plan: Plan) -> Schedule:
        """Create a recurring run."""
        request = {**self.schedule_request(plan), "experiment_id": self._experiment()}
        with self._client.errors(f"schedule {plan.name}"):
            created = self._recurring().recurring_run_service_create_recurring_run(
                request, _request_timeout=TIMEOUT
            )
            return schedule_of(created)

    def delete_schedule(self, schedule_id: str) -> None:
        """Delete a recurring run; its runs stay, and those in progress continue."""
        with self._client.errors(f"schedule {schedule_id}"):
            # By default Kubernetes deletes what a deleted object owns, which the runs in progress are.
            self._recurring().recurring_run_service_delete_recurring_run(
                schedule_id, propagation_policy="ORPHAN", _request_timeout=TIMEOUT
            )

    def pause_schedule(self, schedule_id: str) -> None:
        """Disable a recurring run."""
        with self._client.errors(f"schedule {schedule_id}"):
            self._recurring().recurring_run_service_disable_recurring_run(
                schedule_id, _request_timeout=TIMEOUT
            )

    def resume_schedule(self, schedule: Schedule, catch_up: bool | None) -> None:
        """Enable a recurring run; whether it makes up for missed runs was decided when it was set."""
        if catch_up not in (None, schedule.catch_up):
            how = "with" if schedule.catch_up else "without"
            raise InputError(
                "schedule",
                schedule.name,
                f"was set {how} --catch-up, which Kubeflow cannot change when it is resumed",
                "set the schedule again",
            )
        with self._client.errors(f"schedule {schedule.id}"):
            self._recurring().recurring_run_service_enable_recurring_run(
                schedule.id, _request_timeout=TIMEOUT
            )

    def upload(self, spec: Path, name: str, tags: Sequence[str]) -> Uploaded:
        """Upload a compiled pipeline as a version, named by its bytes, of the pipeline ``name``."""
        if tags:
            raise InputError("tag", " ".join(tags), "is not supported on Kubeflow", "omit it")
        version = f"sha256-{sha256(spec)[:16]}"
        with self._client.errors(f"pipeline {name}"):
            pipeline_id = self._pipeline(name)
            existing = next((known for known in self._versions(pipeline_id) if known.name == version), None)
            uploaded = existing or kfp_server_api.PipelineUploadServiceApi(
                self._client
            ).upload_pipeline_version(
                str(spec),
                name=version,
                display_name=version,
                pipelineid=pipeline_id,
                _request_timeout=TIMEOUT,
            )
            place = f"{pipeline_id}/version/{given(uploaded, 'pipeline_version_id')}"
        host = self._platform.host.rstrip("/")
        return Uploaded(f"{host}/#/pipelines/details/{place}", version, created=existing is None)

    def template(self, location: str) -> Mapping[str, Any]:
        """Return the compiled pipeline of an uploaded version."""
        pipeline, version = _version_ids(location)
        reference = kfp_server_api.V2beta1PipelineVersionReference(pipeline, version)
        with self._client.errors(f"template {location}"):
            return self._version_spec(reference)

    def _get(self, run_id: str) -> Any:
        runs = kfp_server_api.RunServiceApi(self._client)
        with self._client.errors(f"run {run_id}"):
            return runs.run_service_get_run(checked_id("run", run_id), _request_timeout=TIMEOUT)

    def _workflow(self, run_id: str) -> dict[str, Any]:
        """Return the Argo Workflow of an existing run; empty before the server has created it.

        It contains the pods, which the newer API omits. Servers after 2.17 no longer have this older API.
        """
        with self._client.errors(f"run {run_id}"):
            try:
                return workflow_in(self._client.read(f"/apis/v1beta1/runs/{run_id}"))
            except kfp_server_api.ApiException as error:
                if error.status != 404:
                    raise
                raise NoWorkflowError(
                    f"{self._platform.host}: does not report a run's pods; see its page"
                ) from error

    def _judged(self, run: Run, spec: Mapping[str, Any]) -> Run:
        """Return a run with what was chosen, its metrics and its holdout; without them, only say so.

        They are read when the run has ended, since following a run reads it every few seconds.
        """
        ended = [step.name for step in run.steps if step.state == "succeeded"]
        outputs = _outputs(METRICS, spec, ended)
        if run.state not in FINAL_STATES or not (outputs or TRAINING in ended):
            return run
        try:
            with self._client.errors(f"run {run.id}"):
                artifacts = run_artifacts(self._client, run.id)
        except WalsError as error:
            logger.warning("run %s: its metrics cannot be read: %s", run.id, error)
            return run
        found = [artifact.metrics for artifact in artifacts if artifact.name in outputs]
        models = [{**artifact.metrics, **artifact.texts} for artifact in artifacts if artifact.name == MODEL]
        chosen = {name: value for model in models for name, value in chosen_parameters(model).items()}
        holdouts = [artifact.texts.get("holdout", "") for artifact in artifacts if artifact.name == EVALUATED]
        return dataclasses.replace(
            run,
            parameters={**run.parameters, **chosen},
            metrics={name: value for metrics in found for name, value in metrics.items()},
            holdout=next(filter(None, holdouts), ""),
        )

    def _run_fields(self, job: Job) -> dict[str, Any]:
        """Return the fields that a run and a recurring run share."""
        settings = self._platform
        return {
            **self._source(job),
            "runtime_config": kfp_server_api.V2beta1RuntimeConfig(
                parameters=dict(job.parameters), pipeline_root=settings.pipeline_root or None
            ),
            "service_account": settings.service_account or None,
        }

    def _source(self, job: Job) -> dict[str, Any]:
        """Return the pipeline of a job: a reference to the uploaded version if the job's spec equals it."""
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
        """Return the id of the experiment, or None if it does not exist."""
        experiments = kfp_server_api.ExperimentServiceApi(self._client)
        name, namespace = self._platform.experiment, self._platform.namespace
        for page in pages(experiments.experiment_service_list_experiments, namespace=namespace):
            for experiment in page.experiments or []:
                if experiment.display_name == name:
                    return str(given(experiment, "experiment_id"))
        return None

    def _experiment(self) -> str:
        """Return the id of the experiment; create it if missing."""
        experiments = kfp_server_api.ExperimentServiceApi(self._client)
        name, namespace = self._platform.experiment, self._platform.namespace
        with self._client.errors(f"experiment {name}"):
            existing = self._find_experiment()
            if existing:
                return existing
            experiment = kfp_server_api.V2beta1Experiment(display_name=name, namespace=namespace or None)
            created = experiments.experiment_service_create_experiment(experiment, _request_timeout=TIMEOUT)
            return str(given(created, "experiment_id"))

    def _pipeline(self, name: str) -> str:
        """Return the id of the pipeline with a name; create it if missing."""
        pipelines = kfp_server_api.PipelineServiceApi(self._client)
        namespace = self._platform.namespace
        for page in pages(pipelines.pipeline_service_list_pipelines, namespace=namespace):
            for pipeline in page.pipelines or []:
                if pipeline.display_name == name:
                    return str(given(pipeline, "pipeline_id"))
        pipeline = kfp_server_api.V2beta1Pipeline(name=name, display_name=name, namespace=namespace or None)
        created = pipelines.pipeline_service_create_pipeline(pipeline, _request_timeout=TIMEOUT)
        return str(given(created, "pipeline_id"))

    def _versions(self, pipeline_id: str) -> Iterator[Any]:
        pipelines = kfp_server_api.PipelineServiceApi(self._client)
        for page in pages(pipelines.pipeline_service_list_pipeline_versions, pipeline_id):
            yield from page.pipeline_versions or []

    def _version_spec(self, reference: Any) -> Mapping[str, Any]:
        """Return the compiled pipeline of an uploaded version."""
        place = (reference.pipeline_id, reference.pipeline_version_id)
        if place not in self._specs:
            pipelines = kfp_server_api.PipelineServiceApi(self._client)
            version = pipelines.pipeline_service_get_pipeline_version(*place, _request_timeout=TIMEOUT)
            self._specs[place] = _checked_spec(version.pipeline_spec)
        return self._specs[place]

    def _spec(self, run: Any) -> Mapping[str, Any]:
        """Return the compiled pipeline of a run; empty if it was an uploaded one that has been deleted."""
        if run.pipeline_spec or not run.pipeline_version_reference:
            return _checked_spec(run.pipeline_spec)
        try:
            return self._version_spec(run.pipeline_version_reference)
        except kfp_server_api.ApiException as error:
            if error.status == 404:
                return {}
            raise


def _checked_spec(spec: Any) -> Mapping[str, Any]:
    """Return a compiled pipeline that the server has sent; empty if it has sent none."""
    try:
        check_spec(spec or {})
    except pydantic.ValidationError as error:
        raise ForeignError(f"pipeline_spec.{field_problem(error)}") from error
    except ValueError as error:
        raise ForeignError(f"pipeline_spec: {error}") from error
    found: Mapping[str, Any] = spec or {}
    return found


def _outputs(schema: str, spec: Mapping[str, Any], steps: Sequence[str]) -> set[str]:
    """Return the names of the artifacts of a schema that some steps write."""
    return {name for step, names in steps_with(schema, spec).items() if step in steps for name in names}


def _version_ids(location: str) -> tuple[str, str]:
    """Return the ids of a pipeline and its version from the address of the version's page."""
    ids = re.fullmatch(r"https?://.+/pipelines/details/([\w.-]+)/version/([\w.-]+)", location)
    if not ids:
        raise InputError(
            "template", location, "is not a version of a pipeline", "give a location printed by `wals upload`"
        )
    return ids[1], ids[2]


def _version(health: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the server's version; the UI's server forwards it under another name."""
    return _numbers(str(health.get("tag_name") or health.get("apiServerTagName") or ""))


def _numbers(version: str) -> tuple[int, ...]:
    """Return ``(2, 17, 0)`` for ``2.17.0``, and () for a text that is not a version."""
    release = version.partition("-")[0]
    return tuple(map(int, release.split("."))) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})*", release) else ()
