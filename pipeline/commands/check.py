"""``wals check``: what is wrong with a run, before anything is paid for."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from pipeline.backends import connect
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
from pipeline.environments import CombinedInputError, Environment
from trainer.errors import InputError, WalsError


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
    problems: list[InputError] = []
    unchecked = ""
    with _noted(problems):
        job_name(flags["pipeline"], flags["name"])
    with _noted(problems):
        parse_time_zone(time_zone)
    if cron:
        with _noted(problems):
            parse_cron(cron)
    with _noted(problems):
        environment = environment_of(config, flags)
        with _noted(problems), tempfile.TemporaryDirectory() as folder:
            compiled_spec(environment, flags["pipeline"], flags, Path(folder))
        parameters: dict[str, Any] = {}
        with _noted(problems):
            parameters = parameters_of(environment, flags["pipeline"], flags["parameters"])
        if not offline:
            unchecked = _check_platform(environment, parameters.get("source", ""), problems)
    if as_json:
        print_json({"problems": [str(problem) for problem in problems], "unchecked": unchecked})
    else:
        for problem in problems:
            click.echo(str(problem), err=True)
        if unchecked:
            click.echo(f"Not looked for on {environment.platform.target}: {unchecked}", err=True)
        click.echo(f"{len(problems)} problems" if problems else "No problems")
    if problems:
        context.exit(InputError.exit_code)


def _check_platform(environment: Environment, source: str, problems: list[InputError]) -> str:
    """Add the platform's problems, or return why it could not be asked."""
    try:
        problems += connect(environment.platform).check(source)
    except InputError as error:
        problems.append(error)
    except WalsError as error:
        return str(error)
    return ""


@contextlib.contextmanager
def _noted(problems: list[InputError]) -> Iterator[None]:
    """Take note of the problems that stop the block."""
    try:
        yield
    except CombinedInputError as error:
        problems += error.problems
    except InputError as error:
        problems.append(error)
