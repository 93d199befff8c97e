"""``wals run``: the training pipeline on this machine."""

from typing import Any

import rich_click as click

from pipeline.commands.execution import LocalRun, local_run_options, run_here
from pipeline.commands.options import CONTEXT
from pipeline.definition.pipelines import TRAINING


@click.command(context_settings=CONTEXT)
@local_run_options(TRAINING)
def command(local_run: LocalRun, parameters: dict[str, Any]) -> None:
    """Run the compiled pipeline on this machine: no cloud, no Docker.

    \b
    Your own ratings:  wals run --source my.csv
    From BigQuery:     wals run --source bq://project.dataset.table
    """
    run_here(TRAINING, parameters, local_run)
