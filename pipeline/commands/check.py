"""``wals check``: what is wrong with a run, before anything is paid for."""

import tempfile
from pathlib import Path
from typing import Any

import click

from pipeline.backends import Job, Plan, connect
from pipeline.commands.options import (
    CONTEXT,
    compiled_spec,
    environment_of,
    job_name,
    json_option,
    parameter_option,
    parameters_of,
    platform_options,
    print_json,
    spec_options,
)
from pipeline.cron import parse_cron, parse_time_zone
from pipeline.environments import file_parameters
from pipeline.findings import Findings
from trainer.errors import InputError


@click.command(context_settings=CONTEXT)
@platform_options
@spec_options
@parameter_option
@click.option("--name", help="Of the run.")
@click.option("--cron", help="Of a schedule, to be checked too.")
@click.option("--time-zone", default="UTC", show_default=True, help="Of the cron.")
@click.option("--offline", is_flag=True, help="Ask nothing of the platform.")
@json_option
@click.pass_context
def command(
    context: click.Context,
    /,
    config: Path | None,
    cron: str | None,
    time_zone: str,
    offline: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Check all that a run is given, and tell every problem at once; exit 2 if there is one.

    The parameters are held against the pipeline's own signature. With credentials, the folders and tables
    named are looked for too.
    """
    findings = Findings()
    with findings.noted():
        job_name(flags["pipeline"], flags["name"])
    zone = parsed_cron = None
    with findings.noted():
        zone = parse_time_zone(time_zone)
    if cron:
        with findings.noted():
            parsed_cron = parse_cron(cron)
    environment = None
    with findings.noted():
        environment = environment_of(config, flags)
    parameters: dict[str, Any] = {}
    given = file_parameters(config)
    if given is not None:
        parameters, problems = parameters_of(given, flags["pipeline"], flags["parameters"])
        findings.problems += problems
    if environment:
        with findings.noted(), tempfile.TemporaryDirectory() as folder:
            compiled_spec(environment, flags["pipeline"], flags, Path(folder))
        if zone and parsed_cron:
            # Not every platform has schedules in every zone.
            plan = Plan("check", Job("check", {}, {}), parsed_cron, time_zone, 1, None, None)
            with findings.noted():
                connect(environment.platform).schedule_request(plan)
        if not offline:
            with findings.noted():
                connect(environment.platform).check(parameters, findings)
    _tell(findings, as_json)
    if findings.problems:
        context.exit(InputError.exit_code)


def _tell(findings: Findings, as_json: bool) -> None:
    if as_json:
        print_json({"problems": list(map(str, findings.problems)), "unchecked": findings.unchecked})
        return
    for problem in findings.problems:
        click.echo(str(problem), err=True)
    count = len(findings.problems)
    told = f"{count or 'No'} problem{'s' if count != 1 else ''}"
    if findings.unchecked:
        told += f" found; not everything was looked for: {'; '.join(findings.unchecked)}"
    click.echo(told)
