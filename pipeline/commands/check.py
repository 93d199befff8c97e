"""``wals check``: find the problems of a run before it costs anything."""

import shlex
import tempfile
from pathlib import Path
from typing import Any

import rich_click as click

from pipeline.commands.base import json_option, wals_command
from pipeline.commands.jobs import (
    compiled_spec,
    environment_of,
    given_parameters,
    gpus_of,
    job_name,
    target_of,
)
from pipeline.commands.options import (
    Flags,
    name_option,
    parameter_option,
    platform_options,
    spec_options,
    with_flags,
)
from pipeline.definition.pipelines import PIPELINES
from pipeline.definition.targets import TARGETS
from pipeline.display.output import echo, print_json
from pipeline.platforms.backend import Gpus, Job, Plan
from pipeline.platforms.connect import connect
from pipeline.platforms.cron import parse_cron, parse_time_zone
from pipeline.platforms.environments import file_parameters, start_problems, with_payer
from pipeline.platforms.findings import Findings
from trainer.errors import InputError


@wals_command()
@platform_options("submit", "upload", "schedule")
@spec_options
@parameter_option
@name_option
@click.option("--cron", help="Cron expression of a schedule to check as well.")
@click.option("--time-zone", default="UTC", show_default=True, help="Time zone of the cron.")
@click.option("--offline", is_flag=True, help="Send no requests to the platform.")
@json_option
@click.pass_context
@with_flags
def command(
    context: click.Context, /, flags: Flags, cron: str | None, time_zone: str, offline: bool, as_json: bool
) -> None:
    """Report every problem of a run at once, before it is submitted; exit 2 if there is one.

    Checks the parameters against the pipeline. With credentials, also checks that the folders and tables
    exist and that you may use them, and that the project's quotas allow the GPUs.
    """
    findings = Findings()
    with findings.noted():
        job_name(flags.pipeline, flags.name)
    zone = parsed_cron = None
    with findings.noted():
        zone = parse_time_zone(time_zone)
    if cron:
        with findings.noted():
            parsed_cron = parse_cron(cron)
    environment = None
    with findings.noted():
        environment = environment_of(flags)
    parameters: dict[str, Any] = {}
    from_file = file_parameters(flags.config)
    if from_file is not None:
        parameters, problems = given_parameters(from_file, PIPELINES[flags.pipeline], flags.parameters)
        findings.problems += problems
    if environment:
        pipeline = PIPELINES[flags.pipeline]
        findings.problems += start_problems(parameters, environment.platform)
        gpus: list[Gpus] = []
        with findings.noted(), tempfile.TemporaryDirectory() as folder:
            compiled_spec(environment, flags, Path(folder))
            target = target_of(environment, pipeline.steps, flags)
            gpus = gpus_of(pipeline, target, parameters)
            usual = TARGETS[target.name].steps
            # Only what was asked for: a default does no harm where it has no effect.
            if target.retries_if and any(
                target.steps[step].retries not in (0, usual[step].retries) for step in pipeline.steps
            ):
                findings.unchecked.append(target.retries_if)
        if zone and parsed_cron:
            # Not every platform supports schedules in every time zone.
            plan = Plan("check", Job("check", {}, {}), parsed_cron, time_zone, 1, None, None)
            with findings.noted():
                connect(environment.platform).schedule_request(plan)
        if not offline:
            with findings.noted():
                platform = environment.platform
                connect(platform).check(with_payer(parameters, platform), gpus, findings)
    _report(findings, as_json)
    if findings.problems:
        context.exit(InputError.exit_code)
    elif not (findings.unchecked or as_json):
        command_line = shlex.join(["wals", "probe", *flags.platform_arguments()])
        echo(f"What only a run can tell, such as the steps' own rights and GPUs: `{command_line}`")


def _report(findings: Findings, as_json: bool) -> None:
    if as_json:
        print_json(
            "problems",
            {
                "problems": list(map(str, findings.problems)),
                "unchecked": findings.unchecked,
                "columns": findings.columns,
            },
        )
        return
    if findings.columns:
        echo(f"columns of the source: {findings.columns}")
    for problem in findings.problems:
        echo(problem, err=True)
    count = len(findings.problems)
    summary = f"{count or 'No'} problem{'s' if count != 1 else ''} found"
    if findings.unchecked:
        summary += f"; could not check everything: {'; '.join(findings.unchecked)}"
    echo(summary)
