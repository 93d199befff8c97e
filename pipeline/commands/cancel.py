"""``wals cancel``: stop a run."""

from pathlib import Path
from typing import Any

import click

from pipeline.commands.options import CONTEXT, platform_options, reached


@click.command(context_settings=CONTEXT)
@click.argument("run_id")
@platform_options
def command(run_id: str, config: Path | None, **flags: Any) -> None:
    """Ask a run on Vertex AI or Kubeflow to stop."""
    reached(config, flags).cancel(run_id)
    click.echo(f"Asked {run_id} to stop")
