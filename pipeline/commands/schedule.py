"""``wals schedule``: recurring runs on Vertex AI or Kubeflow."""

import dataclasses
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import rich_click as click
from rich.console import Console

from components.extract.options import LONGEST_WINDOW
from components.limits import unhurried
from pipeline.commands.base import CONTEXT, WalsGroup, json_option
from pipeline.commands.dry_run import dry_run_of, dry_run_options, schedule_summary
from pipeline.commands.jobs import environment_of, job_of, reached_backend
from pipeline.commands.options import (
    Flags,
    parameter_option,
    platform_options,
    spec_options,
    template_option,
    with_flags,
)
from pipeline.display.dry_run import times_table
from pipeline.display.output import PlainTable, echo, print_json
from pipeline.platforms.backend import Plan, Schedule
from pipeline.platforms.connect import connect
from pipeline.platforms.cron import next_times, parse_cron, parse_time_zone
from pipeline.platforms.schedules import put_schedule, schedule_named, scheduled_job
from trainer.errors import InputError

_SHOWN_TIMES = 5
_YEARS = range(1970, 3000)


@click.group(cls=WalsGroup, context_settings=CONTEXT)
def command() -> None:
    """Run a pipeline on a schedule on Vertex AI or Kubeflow."""


@command.command("set", context_settings=CONTEXT)
@click.argument("schedule_name", metavar="NAME")
@click.option(
    "--cron",
    required=True,
    help="Minute, hour, day of month, month and day of week, such as '0 21 * * MON-FRI'.",
)
@click.option("--time-zone", default="UTC", show_default=True, help="Time zone of the cron, as an IANA name.")
@click.option(
    "--max-concurrent-runs",
    type=click.IntRange(1, 10),
    default=1,
    show_default=True,
    help="Maximum number of runs at the same time.",
)
@click.option("--start", type=click.DateTime(), help="Time in the time zone before which no run starts.")
@click.option("--end", type=click.DateTime(), help="Time in the time zone after which no run starts.")
@click.option(
    "--window-days",
    type=click.IntRange(1, LONGEST_WINDOW),
    help="Read only the interactions of this many days before each run's scheduled time.",
)
@click.option(
    "--catch-up/--no-catch-up",
    default=False,
    show_default=True,
    help="Make up for missed runs.",
)
@platform_options("submit", "schedule")
@spec_options
@template_option
@parameter_option
@click.option("--yes", is_flag=True, help="Do not prompt for confirmation.")
@dry_run_options()
@json_option
@with_flags
def set_command(
    flags: Flags,
    schedule_name: str,
    cron: str,
    time_zone: str,
    max_concurrent_runs: int,
    start: datetime | None,
    end: datetime | None,
    window_days: int | None,
    catch_up: bool,
    yes: bool,
    dry_run: bool,
    full: bool,
    as_json: bool,
) -> None:
    """Create the schedule NAME, or update it.

    Each of its runs extracts the interactions again. Runs that were missed while it was paused or the
    platform was down are made up for only with --catch-up.
    """
    if as_json and not (yes or dry_run):
        raise click.UsageError("--json requires --yes, because it cannot prompt")
    trial = dry_run_of(dry_run, full)
    zone = parse_time_zone(time_zone)
    first, last = _aware("start", start, zone), _aware("end", end, zone)
    cron = parse_cron(cron)
    times = _next_times(cron, zone, first, last)
    environment = environment_of(flags)
    backend = connect(environment.platform)
    if not trial.asked:
        backend.reach()
    job = scheduled_job(
        job_of(backend, environment, dataclasses.replace(flags, name=schedule_name)), window_days
    )
    plan = Plan(schedule_name, job, cron, time_zone, max_concurrent_runs, first, last, catch_up)
    if trial.asked:
        request = backend.schedule_request(plan)
        trial.show(request, schedule_summary(environment.platform, plan, times), as_json)
        return
    if not as_json:
        Console().print(times_table(time_zone, times))
    if catch_up and environment.platform.target == "vertex":
        echo(
            "Vertex AI makes up only for runs missed while a schedule was paused, and only when it is "
            f"resumed with `wals schedule resume {schedule_name} --catch-up`",
            err=True,
        )
    if not (yes or as_json):
        with unhurried():
            click.confirm(f"Set the schedule {schedule_name} on {environment.platform.target}?", abort=True)
    schedule, outcome = put_schedule(backend, plan)
    _print_outcome(outcome, schedule, as_json)


@command.command("list", context_settings=CONTEXT)
@platform_options()
@json_option
@with_flags
def list_command(flags: Flags, as_json: bool) -> None:
    """List the schedules."""
    schedules = reached_backend(flags).schedules()
    if as_json:
        print_json("schedules", {"schedules": schedules})
    else:
        Console().print(_schedules_table(schedules))


@command.command("pause", context_settings=CONTEXT)
@click.argument("schedule_name", metavar="NAME")
@platform_options()
@json_option
@with_flags
def pause_command(flags: Flags, schedule_name: str, as_json: bool) -> None:
    """Pause the schedule NAME: it starts no more runs."""
    backend = reached_backend(flags)
    schedule = schedule_named(backend, schedule_name)
    backend.pause_schedule(schedule.id)
    _print_outcome("paused", dataclasses.replace(schedule, paused=True), as_json)


@command.command("resume", context_settings=CONTEXT)
@click.argument("schedule_name", metavar="NAME")
@click.option(
    "--catch-up/--no-catch-up",
    default=None,
    help="Make up for missed runs. [default: no on Vertex AI; as it was set on Kubeflow]",
)
@platform_options()
@json_option
@with_flags
def resume_command(flags: Flags, schedule_name: str, catch_up: bool | None, as_json: bool) -> None:
    """Resume the schedule NAME."""
    backend = reached_backend(flags)
    schedule = schedule_named(backend, schedule_name)
    backend.resume_schedule(schedule, catch_up)
    _print_outcome("resumed", dataclasses.replace(schedule, paused=False), as_json)


@command.command("delete", context_settings=CONTEXT)
@click.argument("schedule_name", metavar="NAME")
@platform_options()
@json_option
@with_flags
def delete_command(flags: Flags, schedule_name: str, as_json: bool) -> None:
    """Delete the schedule NAME; its runs stay."""
    backend = reached_backend(flags)
    schedule = schedule_named(backend, schedule_name)
    backend.delete_schedule(schedule.id)
    _print_outcome("deleted", schedule, as_json)


def _print_outcome(outcome: str, schedule: Schedule, as_json: bool) -> None:
    """Print the outcome of a command on a schedule."""
    if as_json:
        print_json("schedule", {"outcome": outcome, "schedule": schedule})
    else:
        echo(f"{outcome.capitalize()}: {schedule.name} ({schedule.id})")


def _aware(option: str, time: datetime | None, zone: ZoneInfo) -> datetime | None:
    """Return a time with its time zone.

    Raises:
        InputError: the year is outside the range that time zones and platforms support.
    """
    if time and time.year not in _YEARS:
        raise InputError(option, str(time), "is out of range", f"give a year before {_YEARS.stop}")
    return time.replace(tzinfo=zone) if time else None


def _next_times(cron: str, zone: ZoneInfo, start: datetime | None, end: datetime | None) -> list[datetime]:
    """Return the next times of a schedule.

    Raises:
        InputError: it ends before the first one.
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


def _schedules_table(schedules: list[Schedule]) -> PlainTable:
    table = PlainTable("schedule", "cron", "state", "next run", "id")
    for schedule in schedules:
        state = "paused" if schedule.paused else "active"
        next_run = f"{schedule.next_run.astimezone():%Y-%m-%d %H:%M}" if schedule.next_run else ""
        table.add_row(schedule.name, schedule.cron, state, next_run, schedule.id)
    return table
