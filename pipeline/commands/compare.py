"""``wals compare``: runs side by side."""

from typing import Any

import rich_click as click
from rich.console import Console

from pipeline.commands.jobs import reached_backend
from pipeline.commands.options import CONTEXT, Flags, json_option, platform_options, with_flags
from pipeline.display.output import PlainTable, echo, print_json
from pipeline.platforms.backend import Run


@click.command(context_settings=CONTEXT)
@click.argument("run_ids", nargs=-1, required=True)
@platform_options
@click.option(
    "--all", "show_all", is_flag=True, help="Also show the parameters that are the same in every run."
)
@json_option
@with_flags
def command(flags: Flags, run_ids: tuple[str, ...], show_all: bool, as_json: bool) -> None:
    """Show the parameters and metrics of runs side by side.

    Only the parameters that differ are shown; a dash stands for the pipeline's default.
    """
    backend = reached_backend(flags)
    runs = [backend.get(run_id) for run_id in run_ids]
    if as_json:
        print_json([{"id": run.id, "parameters": run.parameters, "metrics": run.metrics} for run in runs])
        return
    table = _comparison(runs, show_all)
    if table.row_count:
        Console().print(table)
    if len(runs) > 1 and not _differing(runs):
        echo("The runs have the same parameters")
    if not any(run.metrics for run in runs):
        echo("There are no metrics to show")


def _comparison(runs: list[Run], show_all: bool) -> PlainTable:
    table = PlainTable("")
    for run in runs:
        table.add_column(run.id, overflow="fold")
    for name in _parameters(runs) if show_all else _differing(runs):
        table.add_row(name, *(str(run.parameters.get(name, "-")) for run in runs))
    table.add_section()
    for name in _names([run.metrics for run in runs]):
        table.add_row(name, *(f"{run.metrics[name]:.4f}" if name in run.metrics else "-" for run in runs))
    return table


def _parameters(runs: list[Run]) -> list[str]:
    return _names([run.parameters for run in runs])


def _differing(runs: list[Run]) -> list[str]:
    """Return the parameters whose values are not the same in all runs."""
    return [
        name
        for name in _parameters(runs)
        if any(run.parameters.get(name) != runs[0].parameters.get(name) for run in runs)
    ]


def _names(mappings: list[Any]) -> list[str]:
    """Return the names in any of the mappings, in order of first appearance."""
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))
