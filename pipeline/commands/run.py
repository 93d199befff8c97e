"""``wals run``: the training pipeline on this machine."""

from typing import Any

from pipeline.commands.base import wals_command
from pipeline.commands.execution import LocalRun, local_run_options, run_here
from pipeline.definition.pipelines import TRAINING


@wals_command()
@local_run_options(TRAINING)
def command(local_run: LocalRun, parameters: dict[str, Any]) -> None:
    """Run the compiled pipeline on this machine: no cloud, no Docker.

    \b
    Your own ratings:  wals run --source my.csv
    From BigQuery:     wals run --source bq://project.dataset.table
    """
    run_here(TRAINING, parameters, local_run)
