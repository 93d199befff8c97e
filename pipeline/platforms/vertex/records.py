"""Jobs and schedules as Vertex AI returns them, as the records that all platforms share."""

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.json_format import MessageToDict

from components.workflow import repetition
from pipeline.platforms.backend import Run, Schedule, Step, groups_of_tasks, steps_in_order
from pipeline.platforms.environments import Vertex
from pipeline.platforms.tasks import (
    EVALUATED,
    EVALUATION,
    HTML,
    MODEL,
    TRAINING,
    check_spec,
    chosen_parameters,
    loop_names,
    repeated_steps,
    steps_with,
)
from pipeline.platforms.vertex.job_requests import FINGERPRINT_LABEL

RUN_LABEL = "vertex-ai-pipelines-run-billing-id"
"""Label that Vertex AI gives to a pipeline job, and to all custom jobs that run for it."""

_CONSOLE = "https://console.cloud.google.com"
_AT_ONCE = timedelta(minutes=1)
# Metadata of the execution of a step that is a custom job: what its launcher has launched, in JSON.
_LAUNCHED = "output:gcp_resources"
_CUSTOM_JOB = re.compile(r"projects/[^/]+/locations/[^/]+/customJobs/\d+")

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


def run_link(platform: Vertex, run_id: str) -> str:
    """Return the address of a pipeline job's page in the console."""
    region, project = platform.region, platform.project
    return f"{_CONSOLE}/vertex-ai/locations/{region}/pipelines/runs/{run_id}?project={project}"


def pipeline_run(platform: Vertex, job: Any) -> Run:
    """Return a ``PipelineJob`` as a run, with its steps and metrics."""
    run_id = last_part(job.name)
    tasks = named_tasks(job)
    return Run(
        id=run_id,
        name=job.display_name,
        state=_state(job.state),
        created=job.create_time or datetime.now(UTC),
        ended=job.end_time,
        link=run_link(platform, run_id),
        parameters={
            **_plain(job.runtime_config.parameter_values or {}),
            **chosen_parameters(_metadata(tasks, TRAINING, MODEL)),
        },
        error=job.error.message,
        steps=steps_in_order(
            Step(name, _state(task.state), task.start_time, task.end_time, _task_link(platform, task))
            for name, task in tasks
        ),
        metrics=_metrics([task for _, task in tasks]),
        holdout=str(_metadata(tasks, EVALUATION, EVALUATED).get("holdout", "")),
    )


def spec_of(job: Any) -> Mapping[str, Any]:
    """Return the compiled pipeline of a ``PipelineJob``; it is empty in a list of jobs.

    Raises:
        ValueError: it is not a compiled pipeline.
    """
    # A compiled pipeline is large, and reading it by the fields of the message takes twice as long.
    spec: Mapping[str, Any] = _plain(MessageToDict(type(job).pb(job).pipeline_spec))
    check_spec(spec)
    return spec


def named_tasks(job: Any) -> list[tuple[str, Any]]:
    """Return the tasks of a ``PipelineJob`` that are steps, with the steps' names.

    The run itself is a task too, which is the parent of the steps, unless they have none, which the API's
    reference says of those outside of loops. So are loops, which contain those of their steps. The runs of
    such a step share a name, so they are numbered in the order in which Vertex AI created them.
    """
    run_id = last_part(job.name)
    details = sorted(job.job_detail.task_details, key=lambda task: task.task_id)
    spec = spec_of(job)
    repeated, loops = repeated_steps(spec), loop_names(spec)
    around = {task.parent_task_id for task in details}
    numbers: Counter[str] = Counter()
    steps = []
    for task in details:
        name = task.task_name
        is_run = name == run_id and not task.parent_task_id
        if is_run or task.task_id in around or name in loops:
            continue
        numbers[name] += 1
        steps.append((repetition(name, numbers[name]) if name in repeated else name, task))
    return steps


def report_uri(job: Any) -> str:
    """Return the address of the HTML report of a ``PipelineJob``'s evaluation; "" before it is written."""
    names = steps_with(HTML, spec_of(job)).get(EVALUATION, [])
    return next(
        (
            artifact.uri
            for step, task in named_tasks(job)
            if step == EVALUATION
            for name in names
            if name in task.outputs
            for artifact in task.outputs[name].artifacts
        ),
        "",
    )


def training_run(platform: Vertex, job: Any) -> Run:
    """Return a ``CustomJob`` as a run; its id has the kind of job before the number."""
    return Run(
        id="/".join(str(job.name).split("/")[-2:]),
        name=job.display_name,
        state=_state(job.state),
        created=job.create_time or datetime.now(UTC),
        ended=job.end_time,
        link=_training_link(platform, str(job.name)),
        parameters={},
        error=job.error.message,
    )


def tuning_run(platform: Vertex, job: Any) -> Run:
    """Return a ``HyperparameterTuningJob`` as a run.

    Its steps are the trials, and its parameters the best trial's so far, with the metric.
    """
    return dataclasses.replace(
        training_run(platform, job),
        parameters=_best_trial(job),
        steps=steps_in_order(
            Step(trial_name(trial.id), _state(trial.state), trial.start_time, trial.end_time)
            for trial in job.trials
        ),
    )


def schedule_of(schedule: Any) -> Schedule:
    """Return a ``Schedule`` of the API as a record."""
    return Schedule(
        id=last_part(schedule.name),
        name=schedule.display_name,
        cron=schedule.cron,
        paused=getattr(schedule.state, "name", "") == "PAUSED",
        next_run=schedule.next_run_time,
        max_concurrent_runs=_concurrent_runs(schedule),
        # Vertex AI gives a schedule without a start the time at which it was created.
        start=schedule.start_time if _later(schedule.start_time, schedule.create_time) else None,
        end=schedule.end_time,
        catch_up=schedule.catch_up,
        fingerprint=schedule.create_pipeline_job_request.pipeline_job.labels.get(FINGERPRINT_LABEL, ""),
    )


def _concurrent_runs(schedule: Any) -> int | None:
    """Return how many runs of a schedule may be active, or None if as many may not start at the same time."""
    active: int = schedule.max_concurrent_active_run_count
    return active if active == schedule.max_concurrent_run_count else None


def custom_jobs(task: Any) -> list[str]:
    """Return the names of the custom jobs that ran a task, retries included; none if it was cached.

    A step that is a custom job has two: its launcher's and, as the last, the one that this launched.
    """
    container, custom = task.executor_detail.container_detail, task.executor_detail.custom_job_detail
    jobs = [*container.failed_main_jobs, container.main_job, *custom.failed_jobs, custom.job]
    ran = [job for job in jobs if job]
    # A cached step reports the job of the run whose results it took over.
    launched = str((task.execution.metadata or {}).get(_LAUNCHED, "")) if ran else ""
    return [*ran, *_CUSTOM_JOB.findall(launched)]


def launches(job: Any) -> dict[str, str]:
    """Return the display name of the custom jobs that each step of a ``PipelineJob`` launches.

    Only steps that are custom jobs are contained.
    """
    spec = spec_of(job)
    components = spec.get("components", {})
    inputs = {
        name: components.get(task.get("componentRef", {}).get("name"), {})
        .get("inputDefinitions", {})
        .get("parameters", {})
        for tasks in groups_of_tasks(spec)
        for name, task in tasks.items()
    }
    return {
        name: str(given.get("display_name", {}).get("defaultValue", ""))
        for name, given in inputs.items()
        if "worker_pool_specs" in given
    }


def launched_jobs(job: Any, run_jobs: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Yield the custom jobs that steps of a ``PipelineJob`` launched, also of steps that failed or still run.

    Args:
        job: the pipeline job.
        run_jobs: all ``CustomJob``s that ran for it.

    Yields:
        The name of a step, and of a job.
    """
    names = launches(job)
    for (step, task), custom in itertools.product(named_tasks(job), run_jobs):
        # The rounds of a study are steps of one component, whose jobs have the same display name.
        began, created, ended = task.start_time, custom.create_time, task.end_time
        at_that_time = began and created and began <= created and (not ended or created <= ended)
        if custom.display_name == names.get(task.task_name) and at_that_time:
            yield step, custom.name


def trial_name(trial_id: str) -> str:
    """Return the name of the step that a trial of a tuning job is."""
    return f"trial-{trial_id}"


def last_part(name: str) -> str:
    """Return the last part of a resource name, which is the resource's id."""
    return str(name).rsplit("/", 1)[-1]


def _task_link(platform: Vertex, task: Any) -> str:
    """Return the page of the job that runs a task, with its logs; "" if it has none."""
    jobs = custom_jobs(task)
    return _training_link(platform, jobs[-1]) if jobs else ""


def _training_link(platform: Vertex, job: str) -> str:
    """Return the page of a training job, by its resource name."""
    region, project = platform.region, platform.project
    return f"{_CONSOLE}/agent-platform/locations/{region}/training/{last_part(job)}?project={project}"


def _state(state: Any) -> str:
    # A state that the installed client does not know is a number.
    name = str(getattr(state, "name", ""))
    return _STATES.get(name.removeprefix("PIPELINE_STATE_").removeprefix("JOB_STATE_"), "waiting")


def _later(time: datetime | None, created: datetime | None) -> bool:
    return bool(time and (not created or time - created > _AT_ONCE))


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


def _metadata(tasks: Sequence[tuple[str, Any]], step: str, output: str) -> Mapping[str, Any]:
    """Return the metadata of a step's output; empty if there are none."""
    artifacts = (
        artifact
        for name, task in tasks
        if name == step and output in task.outputs
        for artifact in task.outputs[output].artifacts
    )
    return next((_plain(artifact.metadata or {}) for artifact in artifacts), {})


def _best_trial(job: Any) -> dict[str, Any]:
    """Return the metric and the parameters of the trial with the lowest metric; none before one has ended."""
    measured = [trial for trial in job.trials if trial.final_measurement.metrics]
    if not measured:
        return {}
    best = min(measured, key=lambda trial: trial.final_measurement.metrics[0].value)
    metric = best.final_measurement.metrics[0]
    chosen = {parameter.parameter_id: parameter.value for parameter in best.parameters}
    return {metric.metric_id: metric.value, **_plain(chosen)}


def _plain(values: Any) -> Any:
    """Return a message's values as JSON has them; its numbers are floats, and whole ones become int."""
    if isinstance(values, Mapping):
        return {name: _plain(value) for name, value in values.items()}
    if isinstance(values, Sequence) and not isinstance(values, str):
        return [_plain(value) for value in values]
    return int(values) if isinstance(values, float) and values.is_integer() else values
