"""``wals runs``: list, show and follow runs on this machine, Vertex AI or Kubeflow."""

import shlex
import sys

import rich_click as click
from rich.console import Console

from pipeline.commands.base import json_option, wals_command
from pipeline.commands.jobs import runs_of
from pipeline.commands.options import Flags, platform_options, with_flags
from pipeline.display.output import PlainTable, print_json
from pipeline.display.remote_run import check_succeeded, follow, run_view
from pipeline.platforms.backend import Run, Runs


@wals_command()
@click.argument("run_id", required=False)
@platform_options(local=True)
@click.option("--wait", is_flag=True, help="Follow the run to its end; exit 1 if it fails.")
@click.option(
    "--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="Number of runs to list."
)
@json_option
@with_flags
def command(flags: Flags, run_id: str | None, wait: bool, limit: int, as_json: bool) -> None:
    """List the newest runs, or show one with its steps and metrics.

    Without a platform these are the runs on this machine, in the folder runs; a RUN_ID may then be latest, or
    the folder of a run.

    \b
    wals runs latest
    wals runs --config config/dev.yaml
    wals runs RUN_ID --config config/dev.yaml --wait
    """
    if wait and not run_id:
        raise click.UsageError("--wait requires a RUN_ID")
    backend = runs_of(flags)
    if run_id:
        console = Console(file=sys.stderr if as_json else sys.stdout)
        run = follow_run(backend, run_id, console, flags) if wait else backend.get(run_id)
        show_run(run, as_json)
        check_succeeded(run)
    elif as_json:
        print_json("runs", {"runs": backend.runs(limit)})
    else:
        Console().print(_runs_table(backend.runs(limit)))


def follow_run(backend: Runs, run_id: str, console: Console, flags: Flags) -> Run:
    """Follow a run to its end; if the connection is lost, the error says how to follow it again."""
    command_line = ["wals", "runs", run_id, *flags.platform_arguments(), "--wait"]
    return follow(backend, run_id, console, shlex.join(command_line))


def show_run(run: Run, as_json: bool) -> None:
    """Print a run."""
    if as_json:
        print_json("run", run)
        return
    console = Console()
    console.print(run_view(run), soft_wrap=True)
    if run.metrics:
        # Slow to import, which should not delay the error of a broken network.
        from pipeline.display.results import metrics_table

        console.print(metrics_table(run.metrics))


def _runs_table(runs: list[Run]) -> PlainTable:
    table = PlainTable("run", "name", "state", "submitted", "duration")
    for run in runs:
        duration = str(run.ended - run.created).split(".")[0] if run.ended else ""
        submitted = run.created.astimezone().strftime("%Y-%m-%d %H:%M")
        table.add_row(run.id, run.name, run.state, submitted, duration)
    return table
