"""``wals train-job``: train on one file, here or on Vertex AI, or tune on Vertex AI."""

import dataclasses
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import rich_click as click
import yaml
from rich.console import Console

from pipeline.commands.base import CONTEXT, Command, RareOption, WalsGroup, json_option
from pipeline.commands.dry_run import dry_run_of, dry_run_options, summary_of
from pipeline.commands.jobs import environment_of, images_of, target_of
from pipeline.commands.options import Flags, image_options, platform_options, with_flags
from pipeline.commands.runs import follow_run, show_run
from pipeline.definition.settings import merged
from pipeline.definition.vertex_machines import region_problems
from pipeline.display.output import echo, print_line
from pipeline.display.remote_run import check_succeeded
from pipeline.platforms.environments import Environment, Kubeflow, Vertex
from pipeline.platforms.kubeflow.train_job import MOUNT, ClusterJob, manifests_of
from pipeline.platforms.machines import StepMachine
from pipeline.platforms.vertex.training_jobs import (
    MACHINE,
    TrainingJob,
    custom_job_request,
    hyperparameter_request,
    parsed,
    remote_arguments,
)
from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.job import flags as trainer_flags
from trainer.options import is_common

_STEP = "train"
# Options that click does not know are flags of trainer.task.
_PASSING_ON = {**CONTEXT, "ignore_unknown_options": True}
_JOB = "Job"


def _trainer_flags() -> list[click.Option]:
    """Return the trainer's flags as options, for help and completion."""
    parameters = TrainConfig.model_fields
    options: list[click.Option] = []
    # Parsers have no public way to list what was added to them.
    for action in trainer_flags.make_parser()._actions:
        if action.dest == "help":
            continue
        is_rare = action.dest in parameters and not is_common(parameters[action.dest])
        kind = RareOption if is_rare else click.RichOption
        options.append(
            kind(
                action.option_strings,
                type=click.Choice(list(action.choices)) if action.choices else action.type,
                is_flag=action.nargs == 0,
                help=action.help,
                panel="Trainer",
            )
        )
    return options


_arguments = click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[TRAINER FLAGS]...")


@dataclasses.dataclass(frozen=True)
class _Machine:
    """Values of the machine options; None keeps the train step's setting."""

    machine_type: str | None
    accelerator: str | None
    accelerators: int | None


def _vertex_options(command: Command) -> Command:
    """Give a command the options of a job on Vertex AI."""
    options: tuple[Callable[[Any], Any], ...] = (
        json_option,
        dry_run_options(_JOB),
        click.option(
            "--wait", is_flag=True, help="Follow the job to its end; exit 1 if it fails.", panel=_JOB
        ),
        click.option(
            "--accelerators", type=click.IntRange(0, 1000), help="Number of GPUs; 0 for none.", panel=_JOB
        ),
        click.option("--accelerator", help="GPU, such as NVIDIA_L4.", panel=_JOB),
        click.option("--machine-type", help="Machine type, such as g2-standard-8.", panel=_JOB),
        image_options,
        platform_options("submit", targets=("vertex",)),
    )
    for option in options:
        command = option(command)
    return command


@click.group(cls=WalsGroup, context_settings=CONTEXT)
def command() -> None:
    """Train on one file, without the pipeline.

    Takes every flag of `python -m trainer.task`, which docs/trainer-task.md describes.

    \b
    wals train-job local --train-file data/ml-latest-small/ratings.csv --data-type user_ratings
    wals train-job train --config config/prod.yaml --train-file gs://my-bucket/views.csv --data-type web_views
    """


@command.command(context_settings=_PASSING_ON, passed_on=_trainer_flags())
@_arguments
@click.pass_context
def local(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Train on this machine.

    Writes to runs/DATE-TIME unless --job-dir is given.
    """
    folder = f"--job-dir={Path('runs') / datetime.now().strftime('%Y-%m-%dT%H-%M-%S')}"
    given = parsed([folder, *arguments])
    echo(f"Training into {given.output_dir or given.job_dir}")
    from trainer import task  # slow to import

    context.exit(task.main([folder, *arguments]))


@command.command(context_settings=_PASSING_ON, passed_on=_trainer_flags())
@_vertex_options
@_arguments
@with_flags
def train(flags: Flags, arguments: tuple[str, ...], **options: Any) -> None:
    """Train on Vertex AI, as a custom job.

    Uses the machine and GPU of the train step's settings unless options override them.
    """
    _submit("wals-train-job", "custom job", custom_job_request, flags, arguments, **options)


@command.command(context_settings=_PASSING_ON, passed_on=_trainer_flags())
@_vertex_options
@click.option(
    "--max-trials",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="Total number of trials.",
    panel=_JOB,
)
@click.option(
    "--parallel-trials",
    type=click.IntRange(1, 10_000),
    default=5,
    show_default=True,
    help="Number of trials that run at the same time.",
    panel=_JOB,
)
@_arguments
@with_flags
def tune(
    flags: Flags,
    arguments: tuple[str, ...],
    max_trials: int,
    parallel_trials: int,
    **options: Any,
) -> None:
    """Tune the parameters on Vertex AI.

    A hyperparameter tuning job searches regularization, latent_factors, unobs_weight and the weighting for
    the lowest error on held-out entries; each of its trials is a custom job.
    """
    request_of = partial(hyperparameter_request, max_trials=max_trials, parallel_trials=parallel_trials)
    trials = {"in_total": max_trials, "at_once": parallel_trials}
    _submit(
        "wals-tune-job", "hyperparameter tuning job", request_of, flags, arguments, trials=trials, **options
    )


@command.command(context_settings=_PASSING_ON, passed_on=_trainer_flags())
@click.option(
    "--workers",
    type=click.IntRange(1, 1000),
    default=2,
    show_default=True,
    help="Machines, which divide the training among them.",
    panel=_JOB,
)
@click.option("--claim", default="", help=f"PersistentVolumeClaim to mount at {MOUNT}.", panel=_JOB)
@image_options
@platform_options("submit", targets=("kubeflow",))
@_arguments
@with_flags
def kubernetes(flags: Flags, arguments: tuple[str, ...], workers: int, claim: str) -> None:
    """Print the manifest of a job on several machines of a cluster.

    The job is a TrainJob of Kubeflow Trainer, with the image, the resources and the secrets of the train
    step. Start it with `kubectl apply -f -`, and follow it with `kubectl logs`.
    """
    environment = environment_of(flags)
    platform = environment.platform
    if not isinstance(platform, Kubeflow):
        raise InputError("target", platform.target, "is not a cluster", "give --target kubeflow")
    target = target_of(environment, (), flags)
    name = f"wals-train-job-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    given = parsed([f"--job-dir={f'{MOUNT}/jobs/{name}' if claim else ''}", *arguments])
    for flag, path in (("--train-file", trainer_flags.source_of(given)), ("--job-dir", given.job_dir)):
        if not path.startswith(("gs://", "/")):
            remedy = f"give gs://…, or --claim and a path below {MOUNT}"
            raise InputError(flag, path, "cannot be reached from a cluster", remedy)
    job = ClusterJob(
        name=name,
        namespace=platform.namespace,
        service_account=platform.service_account,
        image=images_of(target, environment, flags)(_STEP),
        arguments=[f"--job-dir={given.job_dir}", *arguments],
        machine=target.steps[_STEP],
        workers=workers,
        claim=claim,
    )
    echo(yaml.safe_dump_all(manifests_of(job), sort_keys=False).rstrip())


def _submit(
    name: str,
    kind: str,
    request_of: Callable[[Vertex, TrainingJob], dict[str, Any]],
    flags: Flags,
    arguments: tuple[str, ...],
    *,
    wait: bool,
    dry_run: bool,
    full: bool,
    as_json: bool,
    trials: dict[str, int] | None = None,
    **machine: Any,
) -> None:
    """Send a job to Vertex AI, or show what would be sent; the options are those of `_vertex_options`."""
    trial = dry_run_of(dry_run, full)
    environment, platform = _environment(flags)
    job = _job(name, environment, platform, arguments, flags, _Machine(**machine))
    request = request_of(platform, job)
    if trial.asked:
        trial.show(request, _summary(kind, platform, job, trials), as_json)
    else:
        _send(platform, request, flags, wait=wait, as_json=as_json)


def _environment(flags: Flags) -> tuple[Environment, Vertex]:
    environment = environment_of(flags)
    if not isinstance(environment.platform, Vertex):
        raise InputError(
            "target",
            environment.platform.target,
            "does not support training jobs",
            "give --target vertex, or use `wals train-job local`",
        )
    return environment, environment.platform


def _job(
    name: str,
    environment: Environment,
    platform: Vertex,
    arguments: tuple[str, ...],
    flags: Flags,
    wanted: _Machine,
) -> TrainingJob:
    """Return the job that the options describe, once they have been checked."""
    now = datetime.now(UTC)
    target = target_of(environment, (), flags)
    default = target.steps[_STEP]
    given: dict[str, Any] = {
        name: value
        for name, value in (("accelerator", wanted.accelerator), ("accelerators", wanted.accelerators))
        if value is not None
    }
    if wanted.accelerators == 0:
        given["accelerator"] = ""
    if wanted.machine_type:
        where = default.custom_job or MACHINE
        given["custom_job"] = {**where.model_dump(), "machine_type": wanted.machine_type}
    machine = merged(_STEP, default, given)
    for problem in (
        *target.problems(_STEP, machine),
        *region_problems(platform.region, {machine.accelerator} - {""}),
    ):
        raise problem
    target = dataclasses.replace(target, steps={**target.steps, _STEP: machine})
    return TrainingJob(
        name=f"{name}-{now:%Y%m%d-%H%M%S}",
        image=images_of(target, environment, flags)(_STEP),
        arguments=remote_arguments(arguments, platform.pipeline_root, now),
        machine=machine,
    )


def _summary(
    kind: str, platform: Vertex, job: TrainingJob, trials: dict[str, int] | None = None
) -> dict[str, Any]:
    """Return what the job would be."""
    where = job.machine.custom_job or MACHINE
    machine = StepMachine(
        _STEP,
        job.image,
        machine_type=where.machine_type,
        strategy=where.strategy,
        accelerator=job.machine.accelerator,
        accelerators=job.machine.accelerators,
        replicas=where.replicas,
        timeout=f"{where.timeout_seconds}s",
    )
    side_by_side = {_STEP: trials["at_once"]} if trials else {}
    return summary_of(
        kind,
        job.name,
        platform,
        [machine],
        arguments=job.arguments,
        trials=trials,
        side_by_side=side_by_side,
    )


def _send(platform: Vertex, request: dict[str, Any], flags: Flags, *, wait: bool, as_json: bool) -> None:
    """Send a request and show the job."""
    # Slow to import, which should not delay the error of a bad flag.
    from pipeline.platforms.vertex.backend import VertexBackend

    backend = VertexBackend(platform)
    backend.reach()
    run_id = backend.submit_training(request)
    console = Console(file=sys.stderr if as_json else sys.stdout)
    print_line(console, f"Submitted {run_id}")
    run = follow_run(backend, run_id, console, flags) if wait else backend.get(run_id)
    show_run(run, as_json)
    check_succeeded(run)
    if run.parameters:
        chosen = dict(run.parameters)
        metric = chosen.pop(trainer_flags.HYPERPARAMETER_METRIC_TAG)
        best = " ".join(f"--{name}={value:.6g}" for name, value in chosen.items())
        print_line(console, f"Best test RMSE {metric:.4f}: {best}")
