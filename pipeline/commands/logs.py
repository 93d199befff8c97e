"""``wals logs``: the output of a run's steps."""

from collections.abc import Iterable, Iterator

import rich_click as click

from components.limits import renew
from pipeline.commands.base import json_option, wals_command
from pipeline.commands.jobs import runs_of
from pipeline.commands.options import Flags, platform_options, with_flags
from pipeline.display.output import echo, print_json
from pipeline.local.runs import LocalRuns
from pipeline.platforms.backend import LogLine


@wals_command()
@click.argument("run_id")
@click.argument("step", default="")
@platform_options(local=True)
@json_option
@with_flags
def command(flags: Flags, run_id: str, step: str, as_json: bool) -> None:
    """Show the output of a run's steps, or of one step; without STEP, each line starts with its step.

    Without a platform it is that of a run on this machine, as in `wals runs`.

    \b
    wals logs latest train
    wals logs RUN_ID train --config config/prod.yaml
    """
    runs = runs_of(flags)
    lines = _stream(runs.logs(run_id, step))
    if as_json:
        print_json("logs", {"lines": list(lines)})
        return
    for line in lines:
        echo(line.text if step else f"{line.step}: {line.text}")
    if isinstance(runs, LocalRuns):
        echo(f"With the lines of Kubeflow Pipelines itself: {runs.whole_logs(run_id)}", err=True)


def _stream(lines: Iterable[LogLine]) -> Iterator[LogLine]:
    """Yield lines, each of which gives the server as long for the next one as the command had at first."""
    for line in lines:
        yield line
        renew()
