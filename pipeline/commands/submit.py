"""``wals submit``: run a pipeline on Vertex AI or Kubeflow."""

import sys

import rich_click as click
from rich.console import Console

from pipeline.commands.base import json_option, wals_command
from pipeline.commands.dry_run import dry_run_of, dry_run_options, run_summary
from pipeline.commands.jobs import environment_of, job_of
from pipeline.commands.options import (
    Flags,
    name_option,
    parameter_option,
    platform_options,
    spec_options,
    template_option,
    with_flags,
)
from pipeline.commands.runs import follow_run, show_run
from pipeline.display.output import print_line
from pipeline.display.remote_run import check_succeeded
from pipeline.platforms.caching import submitted_job
from pipeline.platforms.connect import connect


@wals_command()
@platform_options("submit")
@spec_options
@template_option
@parameter_option
@name_option
@click.option(
    "--no-cache",
    is_flag=True,
    help="Run every step again, even if an earlier run had the same inputs; for example because its "
    "artifacts were deleted.",
)
@click.option("--wait", is_flag=True, help="Follow the run to its end; exit 1 if it fails.")
@dry_run_options()
@json_option
@with_flags
def command(flags: Flags, no_cache: bool, wait: bool, dry_run: bool, full: bool, as_json: bool) -> None:
    """Run a pipeline on Vertex AI or Kubeflow.

    Extracts again, unless snapshot or window_end determines the rows.

    \b
    wals submit --config config/dev.yaml --wait
    wals submit --config config/dev.yaml -p latent_factors=64 --dry-run
    """
    trial = dry_run_of(dry_run, full)
    environment = environment_of(flags)
    backend = connect(environment.platform)
    if not trial.asked:
        backend.reach()
    job = submitted_job(job_of(backend, environment, flags), cache=not no_cache)
    if trial.asked:
        trial.show(backend.run_request(job), run_summary(environment.platform, job), as_json)
        return
    run_id = backend.submit(job)
    # Progress goes where it does not mix with the JSON.
    console = Console(file=sys.stderr if as_json else sys.stdout)
    print_line(console, f"Submitted {run_id}: {backend.link(run_id)}")
    run = follow_run(backend, run_id, console, flags) if wait else backend.get(run_id)
    show_run(run, as_json)
    check_succeeded(run)
