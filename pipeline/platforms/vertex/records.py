"""Jobs and schedules as Vertex AI returns them, as the records that all platforms share."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.platforms.backend import Run, Schedule, Step, steps_in_order
from pipeline.platforms.environments import Vertex
from pipeline.platforms.tasks import EVALUATION, HTML, loop_names, repeated_steps, repetition, steps_with
from pipeline.platforms.vertex.job_requests import FINGERPRINT_LABEL

_CONSOLE = "https://console.cloud.google.com"
_AT_ONCE = timedelta(minutes=1)

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
        parameters=_plain(job.runtime_config.parameter_values or {}),
        error=job.error.message,
        steps=steps_in_order(
            Step(name, _state(task.state), task.start_time, task.end_time, _task_link(platform, task))
            for name, task in tasks
        ),
        metrics=_metrics([task for _, task in tasks]),
    )


def named_tasks(job: Any) -> list[tuple[str, Any]]:
    """Return the tasks of a ``PipelineJob`` that are steps, with the steps' names.

    Loops are tasks too, which contain those of their steps. The runs of such a step share a name, so they are
    numbered in the order in which Vertex AI created them.
    """
    details = sorted(job.job_detail.task_details, key=lambda task: task.task_id)
    spec = _plain(job.pipeline_spec or {})
    repeated, loops = repeated_steps(spec), loop_names(spec)
    around = {task.parent_task_id for task in details}
    numbers: Counter[str] = Counter()
    steps = []
    for task in details:
        name = task.task_name
        if not task.parent_task_id or task.task_id in around or name in loops:
            continue
        numbers[name] += 1
        steps.append((repetition(name, numbers[name]) if name in repeated else name, task))
    return steps


def report_uri(job: Any) -> str:
    """Return the address of the HTML report of a ``PipelineJob``'s evaluation; "" before it is written."""
    names = steps_with(HTML, _plain(job.pipeline_spec or {})).get(EVALUATION, [])
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
            Step(f"trial-{trial.id}", _state(trial.state), trial.start_time, trial.end_time)
            for trial in job.trials
        ),
    )


def schedule_of(schedule: Any) -> Schedule:
    """Return a ``Schedule`` of the API as a record."""
    return Schedule(
        id=last_part(schedule.name),
        name=schedule.display_name,
        cron=schedule.cron,
        paused=schedule.state.name == "PAUSED",
        next_run=schedule.next_run_time,
        max_concurrent_runs=schedule.max_concurrent_run_count,
        # Vertex AI gives a schedule without a start the time at which it was created.
        start=schedule.start_time if _later(schedule.start_time, schedule.create_time) else None,
        end=schedule.end_time,
        catch_up=schedule.catch_up,
        fingerprint=schedule.create_pipeline_job_request.pipeline_job.labels.get(FINGERPRINT_LABEL, ""),
    )


def custom_jobs(task: Any) -> list[str]:
    """Return the names of the custom jobs that ran a task, retries included; none if it was cached."""
    container, custom = task.executor_detail.container_detail, task.executor_detail.custom_job_detail
    jobs = [*container.failed_main_jobs, container.main_job, *custom.failed_jobs, custom.job]
    return [job for job in jobs if job]


def last_part(name: str) -> str:
    """Return the last part of a resource name, which is the resource's id."""
    return str(name).rsplit("/", 1)[-1]


def _task_link(platform: Vertex, task: Any) -> str:
    """Return the page of the job that runs a task, with its logs; "" if it has none."""
    detail = task.executor_detail
    job = detail.container_detail.main_job or detail.custom_job_detail.job
    return _training_link(platform, job) if job else ""


def _training_link(platform: Vertex, job: str) -> str:
    """Return the page of a training job, by its resource name."""
    region, project = platform.region, platform.project
    return f"{_CONSOLE}/agent-platform/locations/{region}/training/{last_part(job)}?project={project}"


def _state(state: Any) -> str:
    return _STATES.get(state.name.removeprefix("PIPELINE_STATE_").removeprefix("JOB_STATE_"), "waiting")


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
