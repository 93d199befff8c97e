"""``wals probe``: what the steps can do where they really run, on this machine or on a platform."""

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import rich_click as click
from rich.console import Console

from components.probe.findings import FIX, Finding, read_findings, table_in, table_of, total
from pipeline.commands.base import json_option, wals_command
from pipeline.commands.execution import (
    force_option,
    output_dir_option,
    run_folder,
    run_steps_here,
    runner_option,
)
from pipeline.commands.jobs import environment_of, given_parameters, job_of
from pipeline.commands.options import (
    Flags,
    image_options,
    name_option,
    parameter_option,
    platform_options,
    with_flags,
)
from pipeline.commands.runs import follow_run
from pipeline.definition.pipelines import PROBE
from pipeline.display.output import print_json, print_line
from pipeline.display.probe import findings_table
from pipeline.display.remote_run import check_succeeded
from pipeline.platforms.backend import Backend, Run
from pipeline.platforms.connect import connect
from trainer.errors import CombinedInputError, InputError, WalsError

_REPORT = "report"
# Cloud Logging shows a line seconds after it was written.
_LOG_SECONDS = 90.0
_POLL_SECONDS = 3.0


@wals_command()
@platform_options("submit")
@image_options
@parameter_option
@name_option
@output_dir_option
@force_option
@runner_option
@json_option
@click.pass_context
@with_flags
def command(
    context: click.Context, /, flags: Flags, output_dir: Path | None, force: bool, runner: str, as_json: bool
) -> None:
    """Run a small step in each image, with the settings of the real step, and show what it found.

    With an environment the steps run on its platform, else on this machine. Each line of the table is ok, a
    warning, or something to fix; the exit code is 1 if there is something to fix.

    \b
    wals probe --config config/prod.yaml
    wals probe -p source=data/ml-latest-small/ratings.csv
    """
    flags = dataclasses.replace(flags, pipeline=PROBE.name)
    console = Console(file=sys.stderr if as_json else sys.stdout)
    if flags.platform_arguments():
        _refuse("output-dir", output_dir, "is an option of runs on this machine")
        _refuse("force", force or None, "is an option of runs on this machine")
        _refuse("runner", runner if runner != "subprocess" else None, "is an option of runs on this machine")
        run, rows = _on_platform(flags, console)
    else:
        for name in ("image_prefix", "tag", "images", "settings", "name"):
            _refuse(name.replace("_", "-"), getattr(flags, name), "is an option of runs on a platform")
        run, rows = None, _on_this_machine(flags, output_dir, force, runner, console)
    if as_json:
        print_json("findings", {"run": run.id if run else None, "findings": rows})
    else:
        console.print(findings_table(rows))
        print_line(console, total(rows))
    if run:
        check_succeeded(run)
    context.exit(int(any(row.status == FIX for row in rows)))


def _refuse(option: str, value: object, problem: str) -> None:
    if value is not None:
        raise InputError(option, str(value), problem, "omit it")


def _on_this_machine(
    flags: Flags, output_dir: Path | None, force: bool, runner: str, console: Console
) -> Sequence[Finding]:
    parameters, problems = given_parameters({}, PROBE, flags.parameters)
    if problems:
        raise CombinedInputError.of(problems)
    outputs = run_steps_here(PROBE, parameters, run_folder(PROBE, output_dir), runner, console, force=force)
    return read_findings(outputs[_REPORT].path("findings"))


def _on_platform(flags: Flags, console: Console) -> tuple[Run, Sequence[Finding]]:
    environment = environment_of(flags)
    backend = connect(environment.platform)
    backend.reach()
    run_id = backend.submit(job_of(backend, environment, flags))
    print_line(console, f"Submitted {run_id}: {backend.link(run_id)}")
    run = follow_run(backend, run_id, console, flags)
    if run.state == "succeeded":
        return run, _reported(backend, run)
    return run, table_of(_found_before_failure(backend, run))


def _reported(backend: Backend, run: Run) -> list[Finding]:
    """Return the table that the last step of a run wrote.

    Raises:
        WalsError: its log cannot be read, or does not have the whole table in time.
    """
    elsewhere = f"the table is also the output `table` of {_REPORT}: {run.link}"
    try:
        lines = _log(backend, run, _REPORT, lambda lines: table_in(lines) is not None)
    except WalsError as error:
        raise WalsError(f"{error}; {elsewhere}") from error
    rows = table_in(lines)
    if rows is None:
        raise WalsError(f"run {run.id}: the log of {_REPORT} is missing lines of the table; {elsewhere}")
    return rows


def _found_before_failure(backend: Backend, run: Run) -> Iterator[Finding]:
    """Yield what each step of a failed run wrote to its log, and how those ended that found nothing."""
    # A platform may also report loops as steps, which have no log.
    for step in [step for step in run.steps if step.name in PROBE.steps and step.name != _REPORT]:
        failed = step.state == "failed"
        try:
            lines = _log(backend, run, step.name, bool if failed else lambda _: True)
        except WalsError as error:
            lines = [str(error)]
        found = [finding for line in lines if (finding := Finding.parse(line))]
        yield from found
        if failed and not found:
            last = next((line for line in reversed(lines) if line.strip()), "its log is empty")
            problem = f"fails before it finds anything: {last}"
            yield Finding("step", FIX, problem, "read its log", (step.name,))


def _log(backend: Backend, run: Run, step: str, is_enough: Callable[[list[str]], bool]) -> list[str]:
    """Return the lines of a step's log when they are enough, or those there are when the time is over.

    Raises:
        WalsError: the log cannot be read.
    """
    deadline = time.monotonic() + _LOG_SECONDS
    while True:
        lines = [line.text for line in backend.logs(run.id, step)]
        if is_enough(lines) or time.monotonic() > deadline:
            return lines
        time.sleep(_POLL_SECONDS)
