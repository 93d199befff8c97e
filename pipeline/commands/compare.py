"""``wals compare``: runs side by side."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import rich_click as click
from rich.console import Console

from pipeline.commands.base import json_option, wals_command
from pipeline.commands.jobs import runs_of
from pipeline.commands.options import Flags, platform_options, with_flags
from pipeline.display.output import PlainTable, echo, print_json


class Compared(Protocol):
    """What is shown in a column: a run, or a version of a model."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Values of parameters by name."""
        ...

    @property
    def metrics(self) -> Mapping[str, float]:
        """Metrics by name."""
        ...


@wals_command()
@click.argument("run_ids", nargs=-1, required=True)
@platform_options(local=True)
@click.option(
    "--all", "show_all", is_flag=True, help="Also show the parameters that are the same in every run."
)
@json_option
@with_flags
def command(flags: Flags, run_ids: tuple[str, ...], show_all: bool, as_json: bool) -> None:
    """Show the parameters and metrics of runs side by side.

    Only the parameters that differ are shown; a dash stands for the pipeline's default. Without a platform
    these are runs on this machine, as in `wals runs`.
    """
    backend = runs_of(flags)
    runs = [backend.get(run_id) for run_id in run_ids]
    if as_json:
        compared = [
            {"id": run.id, "parameters": run.parameters, "metrics": run.metrics, "holdout": run.holdout}
            for run in runs
        ]
        print_json("comparison", {"runs": compared})
        return
    table = comparison(runs, show_all)
    if table.row_count:
        Console().print(table)
    if have_same_parameters(runs):
        echo("The runs have the same parameters")
    if not any(run.metrics for run in runs):
        echo("There are no metrics to show")
    if len({run.holdout for run in runs if run.holdout}) > 1:
        echo("The runs were judged on different holdouts, so that their metrics are not comparable")


def comparison(runs: Sequence[Compared], show_all: bool) -> PlainTable:
    """Return a table of runs side by side.

    Args:
        runs: the runs.
        show_all: whether to show the parameters that are the same in all runs too.
    """
    table = PlainTable("")
    for run in runs:
        table.add_column(run.id, overflow="fold")
    for name in _parameters(runs) if show_all else _differing(runs):
        table.add_row(name, *(str(run.parameters.get(name, "-")) for run in runs))
    table.add_section()
    for name in _names([run.metrics for run in runs]):
        table.add_row(name, *(f"{run.metrics[name]:.4f}" if name in run.metrics else "-" for run in runs))
    return table


def have_same_parameters(runs: Sequence[Compared]) -> bool:
    """Return whether there are several runs, all with the same parameters."""
    return len(runs) > 1 and not _differing(runs)


def _parameters(runs: Sequence[Compared]) -> list[str]:
    return _names([run.parameters for run in runs])


def _differing(runs: Sequence[Compared]) -> list[str]:
    """Return the parameters whose values are not the same in all runs."""
    return [
        name
        for name in _parameters(runs)
        if any(run.parameters.get(name) != runs[0].parameters.get(name) for run in runs)
    ]


def _names(mappings: list[Any]) -> list[str]:
    """Return the names in any of the mappings, in order of first appearance."""
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))
