"""``wals schedule``: runs at set times, on Vertex AI or Kubeflow."""

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
    job_of,
    json_option,
    parameter_option,
    platform_options,
    print_json,
    reached,
    spec_options,
)
from pipeline.cron import next_times, parse_cron, parse_time_zone
from pipeline.schedules import put_schedule, schedule_named, scheduled_job
from trainer.errors import InputError

_SHOWN_TIMES = 5


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
@platform_options
@spec_options
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
    config: Path | None,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Create the schedule NAME, or make it as told here.

    Each of its runs extracts the interactions anew. Runs that were missed, while it was paused or the
    platform was down, are not made up for.
    """
    zone = parse_time_zone(time_zone)
    first, last = _aware(start, zone), _aware(end, zone)
    if last and last <= (first or datetime.now(UTC)):
        raise InputError("end", str(end), "is not after the start", "give a later time")
    cron = parse_cron(cron)
    environment = environment_of(config, flags)
    backend = connect(environment.platform)
    if not dry_run:
        backend.reach()
    job = scheduled_job(job_of(environment, {**flags, "name": name}), window_days)
    plan = Plan(name, job, cron, time_zone, max_concurrent_runs, first, last)
    if dry_run:
        print_json(backend.schedule_request(plan))
        return
    if not as_json:
        Console().print(_times_table(plan, zone))
    if not (yes or as_json):
        click.confirm(f"Set the schedule {name} on {environment.platform.target}?", abort=True)
    schedule, outcome = put_schedule(backend, plan)
    if as_json:
        print_json({"outcome": outcome, "schedule": schedule})
    else:
        click.echo(f"{outcome.capitalize()}: {name} ({schedule.id})")


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
def pause_command(name: str, config: Path | None, **flags: Any) -> None:
    """Let the schedule NAME start no more runs."""
    backend = reached(config, flags)
    backend.pause_schedule(schedule_named(backend, name).id)
    click.echo(f"Paused: {name}")


@command.command("resume", context_settings=CONTEXT)
@click.argument("name")
@platform_options
def resume_command(name: str, config: Path | None, **flags: Any) -> None:
    """Let the schedule NAME start runs again, from now on: none that it missed."""
    backend = reached(config, flags)
    backend.resume_schedule(schedule_named(backend, name).id)
    click.echo(f"Resumed: {name}")


@command.command("delete", context_settings=CONTEXT)
@click.argument("name")
@platform_options
def delete_command(name: str, config: Path | None, **flags: Any) -> None:
    """Delete the schedule NAME; its runs stay."""
    backend = reached(config, flags)
    backend.delete_schedule(schedule_named(backend, name).id)
    click.echo(f"Deleted: {name}")


def _aware(time: datetime | None, zone: ZoneInfo) -> datetime | None:
    return time.replace(tzinfo=zone) if time else None


def _times_table(plan: Plan, zone: ZoneInfo) -> Table:
    """Return the next times of a plan in its own zone, the reader's and UTC."""
    after = max(plan.start or datetime.now(UTC), datetime.now(UTC))
    table = Table(plan.time_zone, "local time", "UTC", title="Next runs", title_justify="left")
    for time in next_times(plan.cron, zone, after, _SHOWN_TIMES):
        if not plan.end or time <= plan.end:
            table.add_row(
                *(f"{at:%a %Y-%m-%d %H:%M}" for at in (time, time.astimezone(), time.astimezone(UTC)))
            )
    return table


def _schedules_table(schedules: list[Schedule]) -> Table:
    table = Table("schedule", "cron", "state", "next run", "id")
    for schedule in schedules:
        state = "paused" if schedule.paused else "active"
        next_run = f"{schedule.next_run.astimezone():%Y-%m-%d %H:%M}" if schedule.next_run else ""
        table.add_row(schedule.name, schedule.cron, state, next_run, schedule.id)
    return table
