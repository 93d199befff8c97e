"""``wals cancel``: stop a run."""

import rich_click as click

from pipeline.commands.base import json_option, wals_command
from pipeline.commands.jobs import reached_backend
from pipeline.commands.options import Flags, platform_options, with_flags
from pipeline.display.output import echo, print_json


@wals_command()
@click.argument("run_id")
@platform_options()
@json_option
@with_flags
def command(flags: Flags, run_id: str, as_json: bool) -> None:
    """Request that a run on Vertex AI or Kubeflow stops."""
    reached_backend(flags).cancel(run_id)
    if as_json:
        print_json("cancellation", {"outcome": "asked to stop", "id": run_id})
    else:
        echo(f"Requested that {run_id} stop")
