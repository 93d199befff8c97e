"""``wals compare``: runs side by side."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from pipeline.backends import Run
from pipeline.commands.options import CONTEXT, json_option, platform_options, print_json, reached


@click.command(context_settings=CONTEXT)
@click.argument("run_ids", nargs=-1, required=True)
@platform_options
@click.option(
    "--all", "show_all", is_flag=True, help="Show the parameters that are the same everywhere, too."
)
@json_option
def command(
    run_ids: tuple[str, ...], config: Path | None, show_all: bool, as_json: bool, **flags: Any
) -> None:
    """Show the parameters and metrics of runs side by side.

    Of the parameters those that differ are shown; a dash stands for the pipeline's default.
    """
    backend = reached(config, flags)
    runs = [backend.get(run_id) for run_id in run_ids]
    if as_json:
        print_json([{"id": run.id, "parameters": run.parameters, "metrics": run.metrics} for run in runs])
    else:
        Console().print(_comparison(runs, show_all))


def _comparison(runs: list[Run], show_all: bool) -> Table:
    table = Table("", *(run.id for run in runs))
    for name in _names([run.parameters for run in runs]):
        values = [run.parameters.get(name, "-") for run in runs]
        if show_all or any(value != values[0] for value in values):
            table.add_row(name, *map(str, values))
    table.add_section()
    for name in _names([run.metrics for run in runs]):
        table.add_row(name, *(f"{run.metrics[name]:.4f}" if name in run.metrics else "-" for run in runs))
    return table


def _names(mappings: list[Any]) -> list[str]:
    """Return the names in any of the mappings, in the order they first come."""
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))
