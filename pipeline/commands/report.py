"""``wals report``: the HTML report of a run's evaluation."""

from pathlib import Path

import rich_click as click

from pipeline.commands.base import json_option, wals_command
from pipeline.commands.jobs import runs_of
from pipeline.commands.options import Flags, platform_options, with_flags
from pipeline.display.output import echo, print_json
from pipeline.local.runs import RUNS, LocalRuns
from trainer.files import make_writable, replacing


@wals_command()
@click.argument("run_id")
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for report.html.  [default: runs/RUN_ID]",
)
@platform_options(local=True)
@json_option
@with_flags
def command(flags: Flags, run_id: str, output_dir: Path | None, as_json: bool) -> None:
    """Fetch the HTML report of a run's evaluation, and print its path.

    Without a platform it is that of a run on this machine, as in `wals runs`.

    \b
    wals report RUN_ID --config config/prod.yaml
    """
    backend = runs_of(flags)
    content = backend.report(run_id)
    folder = backend.place(run_id) if isinstance(backend, LocalRuns) else RUNS / run_id
    file = (output_dir or folder) / "report.html"
    make_writable(file.parent)
    with replacing(file) as temporary:
        temporary.write_bytes(content)
    if as_json:
        print_json("report", {"id": run_id, "report": str(file)})
    else:
        echo(file)
