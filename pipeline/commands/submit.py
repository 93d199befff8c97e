"""``wals submit``: run a pipeline on Vertex AI or Kubeflow."""

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pipeline.backends import connect
from pipeline.commands.options import (
    CONTEXT,
    environment_of,
    json_option,
    parameter_option,
    platform_options,
    print_json,
    spec_options,
)
from pipeline.commands.runs import follow_run, show_run
from pipeline.commands.templates import job_from, template_option
from pipeline.following import check_succeeded


@click.command(context_settings=CONTEXT)
@platform_options
@spec_options
@template_option
@parameter_option
@click.option("--name", help="Of the run, and its id on Vertex AI; made from the time without it.")
@click.option("--wait", is_flag=True, help="Follow the run to its end; exit 1 if it fails.")
@click.option("--dry-run", is_flag=True, help="Print the request instead of sending it.")
@json_option
def command(config: Path | None, wait: bool, dry_run: bool, as_json: bool, **flags: Any) -> None:
    """Run a pipeline on Vertex AI or Kubeflow.

    \b
    wals submit --config config/dev.yaml --wait
    wals submit --config config/dev.yaml -p latent_factors=64 --dry-run
    """
    environment = environment_of(config, flags)
    backend = connect(environment.platform)
    if not dry_run:
        backend.reach()
    job = job_from(backend, environment, flags)
    if dry_run:
        print_json(backend.run_request(job))
        return
    run_id = backend.submit(job)
    # Progress goes where it does not mix with the JSON.
    console = Console(file=sys.stderr if as_json else sys.stdout)
    submitted = f"Submitted {run_id}: {backend.link(run_id)}"
    console.print(submitted, markup=False, highlight=False, soft_wrap=True)
    run = follow_run(backend, run_id, console, config, flags) if wait else backend.get(run_id)
    show_run(run, as_json)
    check_succeeded(run)
