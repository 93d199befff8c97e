"""``wals report``: the HTML report of a run's evaluation."""

from pathlib import Path

import rich_click as click

from pipeline.commands.jobs import reached_backend
from pipeline.commands.options import CONTEXT, Flags, json_option, platform_options, with_flags
from pipeline.display.output import echo, print_json
from trainer.files import make_writable, replacing


@click.command(context_settings=CONTEXT)
@click.argument("run_id")
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for report.html.  [default: runs/RUN_ID]",
)
@platform_options
@json_option
@with_flags
def command(flags: Flags, run_id: str, output_dir: Path | None, as_json: bool) -> None:
    """Fetch the HTML report of a run's evaluation, and print its path.

    \b
    wals report RUN_ID --config config/prod.yaml
    """
    content = reached_backend(flags).report(run_id)
    file = (output_dir or Path("runs") / run_id) / "report.html"
    make_writable(file.parent)
    with replacing(file) as temporary:
        temporary.write_bytes(content)
    if as_json:
        print_json({"id": run_id, "report": str(file)})
    else:
        echo(file)
