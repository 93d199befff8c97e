"""``wals runs``: the runs on Vertex AI or Kubeflow."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from pipeline.backends import Backend, Run
from pipeline.commands.options import (
    CONTEXT,
    given_platform,
    json_option,
    platform_options,
    print_json,
    reached,
)
from pipeline.following import check_succeeded, follow, run_view


@click.command(context_settings=CONTEXT)
@click.argument("run_id", required=False)
@platform_options
@click.option("--wait", is_flag=True, help="Follow the run to its end; exit 1 if it fails.")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="How many to list.")
@json_option
def command(
    run_id: str | None, config: Path | None, wait: bool, limit: int, as_json: bool, **flags: Any
) -> None:
    """List the newest runs, or show one with its steps and metrics.

    \b
    wals runs --config config/dev.yaml
    wals runs RUN_ID --config config/dev.yaml --wait
    """
    if wait and not run_id:
        raise click.UsageError("--wait wants a RUN_ID")
    backend = reached(config, flags)
    if run_id:
        console = Console(file=sys.stderr if as_json else sys.stdout)
        run = follow_run(backend, run_id, console, config, flags) if wait else backend.get(run_id)
        show_run(run, as_json)
        check_succeeded(run)
    elif as_json:
        print_json(backend.runs(limit))
    else:
        Console().print(_runs_table(backend.runs(limit)))


def follow_run(
    backend: Backend, run_id: str, console: Console, config: Path | None, flags: dict[str, Any]
) -> Run:
    """Follow a run to its end; should it be lost, the line says how to follow it again from here."""
    options = given_platform(config, flags)
    return follow(backend, run_id, console, shlex.join(["wals", "runs", run_id, *options, "--wait"]))


def show_run(run: Run, as_json: bool) -> None:
    """Print a run."""
    if as_json:
        print_json(run)
        return
    console = Console()
    console.print(run_view(run), soft_wrap=True)
    if run.metrics:
        # Slow to import, which a person without a network should not have to wait for.
        from pipeline.results import metrics_table

        console.print(metrics_table(run.metrics))


def _runs_table(runs: list[Run]) -> Table:
    table = Table("run", "name", "state", "submitted", "took")
    for run in runs:
        took = str(run.ended - run.created).split(".")[0] if run.ended else ""
        submitted = run.created.astimezone().strftime("%Y-%m-%d %H:%M")
        table.add_row(run.id, run.name, run.state, submitted, took)
    return table
