"""``wals schedule``: runs at set times, on Vertex AI or Kubeflow."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
from rich.console import Console
from rich.table import Table

from pipeline.backends import Plan, Schedule, connect
from pipeline.commands.options import (
    CONTEXT,
    environment_of,
    json_option,
    parameter_option,
    platform_options,
    print_json,
    reached,
    spec_options,
)
from pipeline.commands.templates import job_from, template_option
from pipeline.cron import next_times, parse_cron, parse_time_zone
from pipeline.schedules import put_schedule, schedule_named, scheduled_job
from trainer.errors import InputError

_SHOWN_TIMES = 5
_YEARS = range(1970, 3000)


@click.group(context_settings=CONTEXT)
def command() -> None:
    """Run a pipeline at set times on Vertex AI or Kubeflow."""


@command.command("set", context_settings=CONTEXT)
@click.argument("name")
@click.option(
    "--cron", required=True, help="Minute, hour, day of month, month, day of week: '0 21 * * MON-FRI'."
)
@click.option("--time-zone", default="UTC", show_default=True, help="IANA name of the zone of the cron.")
@click.option(
    "--max-concurrent-runs",
    type=click.IntRange(1, 10),
    default=1,
    show_default=True,
    help="No run starts while as many are going.",
)
@click.option("--start", type=click.DateTime(), help="No run before this time of the zone.")
@click.option("--end", type=click.DateTime(), help="No run after this time of the zone.")
@click.option(
    "--window-days",
    type=click.IntRange(1),
    help="Read the interactions of as many days up to each run's time.",
)
@click.option(
    "--catch-up/--no-catch-up",
    default=False,
    show_default=True,
    help="Make up for the runs that were missed.",
)
@platform_options
@spec_options
@template_option
@parameter_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Print the request instead of sending it.")
@json_option
def set_command(
    name: str,
    cron: str,
    time_zone: str,
    max_concurrent_runs: int,
    start: datetime | None,
    end: datetime | None,
    window_days: int | None,
    catch_up: bool,
    config: Path | None,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Create the schedule NAME, or make it as told here.

    Each of its runs extracts the interactions anew. Runs that were missed, while it was paused or the
    platform was down, are made up for only with --catch-up.
    """
    if as_json and not (yes or dry_run):
        raise click.UsageError("--json wants --yes, as there is nobody to ask")
    zone = parse_time_zone(time_zone)
    first, last = _aware("start", start, zone), _aware("end", end, zone)
    cron = parse_cron(cron)
    times = _next_times(cron, zone, first, last)
    environment = environment_of(config, flags)
    backend = connect(environment.platform)
    if not dry_run:
        backend.reach()
    job = scheduled_job(job_from(backend, environment, {**flags, "name": name}), window_days)
    plan = Plan(name, job, cron, time_zone, max_concurrent_runs, first, last, catch_up)
    if dry_run:
        print_json(backend.schedule_request(plan))
        return
    if not as_json:
        Console().print(_times_table(time_zone, times))
    if catch_up and environment.platform.target == "vertex":
        click.echo(
            "Vertex AI makes up for what was missed while a schedule was paused, and only if told so when "
            f"it is resumed: `wals schedule resume {name} --catch-up`",
            err=True,
        )
    if not (yes or as_json):
        click.confirm(f"Set the schedule {name} on {environment.platform.target}?", abort=True)
    schedule, outcome = put_schedule(backend, plan)
    _tell(outcome, schedule, as_json)


@command.command("list", context_settings=CONTEXT)
@platform_options
@json_option
def list_command(config: Path | None, as_json: bool, **flags: Any) -> None:
    """List the schedules."""
    schedules = reached(config, flags).schedules()
    if as_json:
        print_json(schedules)
    else:
        Console().print(_schedules_table(schedules))


@command.command("pause", context_settings=CONTEXT)
@click.argument("name")
@platform_options
@json_option
def pause_command(name: str, config: Path | None, as_json: bool, **flags: Any) -> None:
    """Let the schedule NAME start no more runs."""
    backend = reached(config, flags)
    schedule = schedule_named(backend, name)
    backend.pause_schedule(schedule.id)
    _tell("paused", dataclasses.replace(schedule, paused=True), as_json)


@command.command("resume", context_settings=CONTEXT)
@click.argument("name")
@click.option(
    "--catch-up/--no-catch-up",
    default=None,
    help="Make up for the runs that it missed. [default: on Vertex AI no; on Kubeflow as it was set]",
)
@platform_options
@json_option
def resume_command(
    name: str, catch_up: bool | None, config: Path | None, as_json: bool, **flags: Any
) -> None:
    """Let the schedule NAME start runs again."""
    backend = reached(config, flags)
    schedule = schedule_named(backend, name)
    backend.resume_schedule(schedule, catch_up)
    _tell("resumed", dataclasses.replace(schedule, paused=False), as_json)


@command.command("delete", context_settings=CONTEXT)
@click.argument("name")
@platform_options
@json_option
def delete_command(name: str, config: Path | None, as_json: bool, **flags: Any) -> None:
    """Delete the schedule NAME; its runs stay."""
    backend = reached(config, flags)
    schedule = schedule_named(backend, name)
    backend.delete_schedule(schedule.id)
    _tell("deleted", schedule, as_json)


def _tell(outcome: str, schedule: Schedule, as_json: bool) -> None:
    """Print what was done to a schedule."""
    if as_json:
        print_json({"outcome": outcome, "schedule": schedule})
    else:
        click.echo(f"{outcome.capitalize()}: {schedule.name} ({schedule.id})")


def _aware(option: str, time: datetime | None, zone: ZoneInfo) -> datetime | None:
    """Return a time of a zone.

    Raises:
        InputError: it is so far away that there is no such time in other zones, or on the platforms.
    """
    if time and time.year not in _YEARS:
        raise InputError(option, str(time), "is too far away", f"give a year before {_YEARS.stop}")
    return time.replace(tzinfo=zone) if time else None


def _next_times(cron: str, zone: ZoneInfo, start: datetime | None, end: datetime | None) -> list[datetime]:
    """Return the next times of a schedule.

    Raises:
        InputError: it ends before there is one.
    """
    now = datetime.now(UTC)
    times = [
        time
        for time in next_times(cron, zone, max(start or now, now), _SHOWN_TIMES)
        if not end or time <= end
    ]
    if end and not times:
        raise InputError("end", str(end), "comes before the first run", "give a later time")
    return times


def _times_table(time_zone: str, times: list[datetime]) -> Table:
    """Return times in their own zone, the reader's and UTC."""
    table = Table(time_zone, "local time", "UTC", title="Next runs", title_justify="left")
    for time in times:
        table.add_row(*(f"{at:%a %Y-%m-%d %H:%M}" for at in (time, time.astimezone(), time.astimezone(UTC))))
    return table


def _schedules_table(schedules: list[Schedule]) -> Table:
    table = Table("schedule", "cron", "state", "next run", "id")
    for schedule in schedules:
        state = "paused" if schedule.paused else "active"
        next_run = f"{schedule.next_run.astimezone():%Y-%m-%d %H:%M}" if schedule.next_run else ""
        table.add_row(schedule.name, schedule.cron, state, next_run, schedule.id)
    return table
