"""``wals train-job``: one training job on a file, here or on Vertex AI, and its tuning there."""

import dataclasses
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pipeline.commands.options import (
    CONTEXT,
    Command,
    environment_of,
    image_options,
    images_of,
    json_option,
    platform_options,
    print_json,
    target_of,
)
from pipeline.commands.runs import follow_run, show_run
from pipeline.custom_jobs import (
    MACHINE,
    TrainingJob,
    custom_job_request,
    hyperparameter_request,
    parsed,
    remote_arguments,
)
from pipeline.environments import Environment, Vertex
from pipeline.following import check_succeeded
from pipeline.regions import region_problems
from pipeline.settings import merged
from trainer import task
from trainer.errors import InputError

_STEP = "train"
# What click does not know are flags of trainer.task.
_PASSING_ON = {**CONTEXT, "ignore_unknown_options": True}

_arguments = click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[TRAINER FLAGS]...")


def _vertex_options(command: Command) -> Command:
    """Give a command the options of a job on Vertex AI."""
    for option in (
        json_option,
        click.option("--dry-run", is_flag=True, help="Print the request instead of sending it."),
        click.option("--wait", is_flag=True, help="Follow the job to its end; exit 1 if it fails."),
        click.option("--accelerators", type=click.IntRange(0), help="Number of GPUs; 0 for none."),
        click.option("--accelerator", help="GPU, such as NVIDIA_L4."),
        click.option("--machine-type", help="Machine, such as g2-standard-8."),
        image_options,
        platform_options,
    ):
        command = option(command)
    return command


@click.group(context_settings=CONTEXT)
def command() -> None:
    """Train on one file, without the pipeline.

    Every flag of `python -m trainer.task` may be given; docs/trainer-task.md lists them.

    \b
    wals train-job local --train-file data/ml-latest-small/ratings.csv --data-type user_ratings
    wals train-job train --config config/prod.yaml --train-file gs://my-bucket/views.csv --data-type web_views
    """


@command.command(context_settings=_PASSING_ON)
@_arguments
@click.pass_context
def local(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Train on this machine.

    The output goes to runs/DATE-TIME unless --job-dir says otherwise.
    """
    folder = f"--job-dir={Path('runs') / datetime.now().strftime('%Y-%m-%dT%H-%M-%S')}"
    given = parsed([folder, *arguments])
    click.echo(f"Training into {given.output_dir or given.job_dir}")
    context.exit(task.main([folder, *arguments]))


@command.command(context_settings=_PASSING_ON)
@_vertex_options
@_arguments
def train(config: Path | None, arguments: tuple[str, ...], **flags: Any) -> None:
    """Train on Vertex AI, as a custom job.

    Machine and GPU are those of the train step unless flags say otherwise.
    """
    environment, platform = _environment(config, flags)
    job = _job("wals-train-job", environment, platform, arguments, flags)
    _send(platform, custom_job_request(platform, job), config, flags)


@command.command(context_settings=_PASSING_ON)
@_vertex_options
@click.option("--max-trials", type=click.IntRange(1), default=50, show_default=True, help="Trials in all.")
@click.option(
    "--parallel-trials", type=click.IntRange(1), default=5, show_default=True, help="Trials side by side."
)
@_arguments
def tune(
    config: Path | None,
    arguments: tuple[str, ...],
    max_trials: int,
    parallel_trials: int,
    **flags: Any,
) -> None:
    """Tune the parameters on Vertex AI.

    A hyperparameter tuning job searches regularization, latent_factors, unobs_weight and the weighting for
    the least error on held-out entries; each of its trials is a custom job.
    """
    environment, platform = _environment(config, flags)
    job = _job("wals-tune-job", environment, platform, arguments, flags)
    request = hyperparameter_request(platform, job, max_trials=max_trials, parallel_trials=parallel_trials)
    _send(platform, request, config, flags)


def _environment(config: Path | None, flags: dict[str, Any]) -> tuple[Environment, Vertex]:
    environment = environment_of(config, flags)
    if not isinstance(environment.platform, Vertex):
        raise InputError(
            "target",
            environment.platform.target,
            "has no training jobs",
            "give --target vertex, or run local",
        )
    return environment, environment.platform


def _job(
    name: str, environment: Environment, platform: Vertex, arguments: tuple[str, ...], flags: dict[str, Any]
) -> TrainingJob:
    """Return the job that the flags ask for, once they have been checked."""
    now = datetime.now(UTC)
    target = target_of(environment, (), flags)
    default = target.steps[_STEP]
    given = {key: flags[key] for key in ("accelerator", "accelerators") if flags[key] is not None}
    if flags["accelerators"] == 0:
        given["accelerator"] = ""
    if flags["machine_type"]:
        where = default.custom_job or MACHINE
        given["custom_job"] = {**where.model_dump(), "machine_type": flags["machine_type"]}
    machine = merged(_STEP, default, given)
    target.check(_STEP, machine)
    for problem in region_problems(platform.region, {machine.accelerator} - {""}):
        raise problem
    target = dataclasses.replace(target, steps={**target.steps, _STEP: machine})
    return TrainingJob(
        name=f"{name}-{now:%Y%m%d-%H%M%S}",
        image=images_of(target, environment, flags)(_STEP),
        arguments=remote_arguments(arguments, platform.pipeline_root, now),
        machine=machine,
    )


def _send(platform: Vertex, request: dict[str, Any], config: Path | None, flags: dict[str, Any]) -> None:
    """Send a request and show the job, or print the request."""
    if flags["dry_run"]:
        print_json(request)
        return
    # Slow to import, and of no use before the flags have been checked.
    from pipeline.vertex import VertexBackend

    backend = VertexBackend(platform)
    backend.reach()
    run_id = backend.submit_training(request)
    console = Console(file=sys.stderr if flags["as_json"] else sys.stdout)
    console.print(f"Submitted {run_id}", markup=False, highlight=False, soft_wrap=True)
    run = follow_run(backend, run_id, console, config, flags) if flags["wait"] else backend.get(run_id)
    show_run(run, flags["as_json"])
    check_succeeded(run)
    if run.parameters:
        chosen = dict(run.parameters)
        metric = chosen.pop(task.HYPERPARAMETER_METRIC_TAG)
        best = " ".join(f"--{name}={value:.6g}" for name, value in chosen.items())
        console.print(f"Best test RMSE {metric:.4f}: {best}", markup=False, highlight=False, soft_wrap=True)
