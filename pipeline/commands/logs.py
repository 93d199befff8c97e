"""``wals logs``: the output of a run's steps."""

from collections.abc import Iterable, Iterator

import rich_click as click

from pipeline.commands.jobs import reached_backend
from pipeline.commands.options import CONTEXT, Flags, json_option, platform_options, with_flags
from pipeline.display.output import echo, print_json
from pipeline.platforms.backend import LogLine
from pipeline.platforms.network import renew


@click.command(context_settings=CONTEXT)
@click.argument("run_id")
@click.argument("step", default="")
@platform_options
@json_option
@with_flags
def command(flags: Flags, run_id: str, step: str, as_json: bool) -> None:
    """Show the output of a run's steps, or of one step; without STEP, each line starts with its step.

    \b
    wals logs RUN_ID train --config config/prod.yaml
    """
    lines = _stream(reached_backend(flags).logs(run_id, step))
    if as_json:
        print_json(list(lines))
        return
    for line in lines:
        echo(line.text if step else f"{line.step}: {line.text}")


def _stream(lines: Iterable[LogLine]) -> Iterator[LogLine]:
    """Yield lines, each of which gives the server as long for the next one as the command had at first."""
    for line in lines:
        yield line
        renew()
