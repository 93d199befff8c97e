"""``--dry-run``: what a command would send, in a summary or in full."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import rich_click as click
from rich.console import Console

from pipeline.commands.base import Command
from pipeline.definition.pipelines import PIPELINES
from pipeline.display.dry_run import show_summary
from pipeline.display.output import print_json, print_request
from pipeline.platforms.backend import Job, Plan, pipeline_of
from pipeline.platforms.environments import Platform
from pipeline.platforms.machines import StepMachine, machines_of


@dataclass(frozen=True)
class DryRun:
    """Values of the options below.

    Attributes:
        asked: whether to show what would be sent instead of sending it.
        full: whether to show the request itself instead of a summary.
    """

    asked: bool
    full: bool

    def show(self, request: Mapping[str, Any], summary: Mapping[str, Any], as_json: bool) -> None:
        """Show what would be sent.

        Args:
            request: the request, as JSON values.
            summary: as `summary_of` returns it.
            as_json: whether to print the summary as JSON; the request always is.
        """
        if self.full:
            print_request(request)
        elif as_json:
            print_json("dry-run", summary)
        else:
            show_summary(Console(), summary)


def dry_run_options(panel: str | None = None) -> Callable[[Command], Command]:
    """Return a decorator that gives a command ``--dry-run`` and ``--full``."""
    texts = {
        "--full": "With --dry-run, print the whole request as JSON.",
        "--dry-run": "Show a summary of the request instead of sending it.",
    }

    def decorate(command: Command) -> Command:
        for flag, text in texts.items():
            command = click.option(flag, is_flag=True, help=text, panel=panel)(command)
        return command

    return decorate


def dry_run_of(dry_run: bool, full: bool) -> DryRun:
    """Return the values of the options.

    Raises:
        click.UsageError: ``--full`` is given alone.
    """
    if full and not dry_run:
        raise click.UsageError("--full requires --dry-run")
    return DryRun(dry_run, full)


def run_summary(platform: Platform, job: Job) -> dict[str, Any]:
    """Return what a run would be, with the parameters that differ from the defaults and what costs money."""
    pipeline = pipeline_of(job.spec)
    name = pipeline["pipelineInfo"]["name"]
    inputs = pipeline["root"].get("inputDefinitions", {}).get("parameters", {})
    defaults = {parameter: about.get("defaultValue") for parameter, about in inputs.items()}
    record = PIPELINES.get(name)
    steps = machines_of(job.spec)
    if record:
        order = {step: number for number, step in enumerate(record.steps)}
        steps = sorted(steps, key=lambda machine: order.get(machine.step, len(order)))
    side_by_side = {
        step: int(job.parameters.get(parameter, defaults.get(parameter)))
        for step, parameter in (record.side_by_side if record else {}).items()
    }
    return summary_of(
        "run",
        job.name,
        platform,
        steps,
        pipeline=name,
        template=job.template or None,
        parameters={
            parameter: value
            for parameter, value in job.parameters.items()
            if value != defaults.get(parameter)
        },
        side_by_side=side_by_side,
    )


def schedule_summary(platform: Platform, plan: Plan, times: Sequence[datetime]) -> dict[str, Any]:
    """Return what a schedule would be: as a run's, with its times."""
    schedule = {
        "cron": plan.cron,
        "time_zone": plan.time_zone,
        "max_concurrent_runs": plan.max_concurrent_runs,
        "start": plan.start,
        "end": plan.end,
        "catch_up": plan.catch_up,
        "next_times": list(times),
    }
    run = run_summary(platform, replace(plan.job, name=plan.name))
    return {**run, "kind": "schedule", "schedule": schedule}


def summary_of(
    kind: str,
    name: str,
    platform: Platform,
    steps: Sequence[StepMachine],
    *,
    pipeline: str | None = None,
    template: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    side_by_side: Mapping[str, int] | None = None,
    arguments: Sequence[str] | None = None,
    trials: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Return a summary; what does not apply to the kind is None.

    Args:
        kind: what would be created.
        name: its name.
        platform: platform that it would be created on.
        steps: what the steps run on.
        pipeline: name of the pipeline.
        template: location of the uploaded pipeline.
        parameters: parameters that differ from the pipeline's defaults.
        side_by_side: number of tasks that run at the same time, by step, if more than one.
        arguments: flags of the trainer.
        trials: number of trials of a tuning job in total, and at the same time.
    """
    where = {"target": platform.target, **platform.model_dump(mode="json", exclude_defaults=True)}
    more = side_by_side or {}
    return {
        "kind": kind,
        "name": name,
        "platform": where,
        "pipeline": pipeline,
        "template": template,
        "parameters": parameters,
        # The steps of later rounds have the name of the first with a number.
        "steps": [
            {**asdict(step), "side_by_side": more.get(re.sub(r"-\d+$", "", step.step), 1)} for step in steps
        ],
        "arguments": arguments,
        "trials": trials,
        "schedule": None,
    }
