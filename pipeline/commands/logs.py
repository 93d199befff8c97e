"""``wals logs``: what the steps of a run wrote."""

from pathlib import Path
from typing import Any

import click

from pipeline.commands.options import CONTEXT, json_option, platform_options, print_json, reached


@click.command(context_settings=CONTEXT)
@click.argument("run_id")
@click.argument("step", default="")
@platform_options
@json_option
def command(run_id: str, step: str, config: Path | None, as_json: bool, **flags: Any) -> None:
    """Show what the steps of a run wrote, or one step; each line of all of them begins with its step.

    \b
    wals logs RUN_ID train --config config/prod.yaml
    """
    lines = reached(config, flags).logs(run_id, step)
    if as_json:
        print_json(list(lines))
        return
    for line in lines:
        click.echo(line.text if step else f"{line.step}: {line.text}")
