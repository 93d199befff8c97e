"""``wals cancel``: stop a run."""

from pathlib import Path
from typing import Any

import click

from pipeline.commands.options import CONTEXT, json_option, platform_options, print_json, reached


@click.command(context_settings=CONTEXT)
@click.argument("run_id")
@platform_options
@json_option
def command(run_id: str, config: Path | None, as_json: bool, **flags: Any) -> None:
    """Ask a run on Vertex AI or Kubeflow to stop."""
    reached(config, flags).cancel(run_id)
    if as_json:
        print_json({"outcome": "asked to stop", "id": run_id})
    else:
        click.echo(f"Asked {run_id} to stop")
