"""``wals run``: the training pipeline on this machine."""

from pathlib import Path
from typing import Any

import click

from pipeline.commands.execution import local_run_options, run_here
from pipeline.commands.options import CONTEXT
from pipeline.training import STEPS


@click.command(context_settings=CONTEXT)
@local_run_options("wals-train")
def command(
    titles: Path | None, output_dir: Path | None, runner: str, as_json: bool, **parameters: Any
) -> None:
    """Run the compiled pipeline on this machine: no cloud, no Docker.

    \b
    Your own ratings:  wals run --source my.csv
    From BigQuery:     wals run --source bq://project.dataset.table
    """
    run_here(
        "wals-train",
        STEPS,
        parameters,
        titles=titles,
        output_dir=output_dir,
        runner=runner,
        as_json=as_json,
    )
