"""The table of a run on this machine."""

import io

from rich.console import Console

from pipeline.display.local_run import RunDisplay
from pipeline.local.runner import StepEvent


def test_warnings_stay_on_a_terminal_and_other_lines_do_not() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with RunDisplay(console, ["extract"]) as display:
        display.show(StepEvent("extract", "started"))
        for line in ("columns: user item", "warning: 2 of 3 times cannot be read", "3 interactions"):
            display.show(StepEvent("extract", "logged", line))
        display.show(StepEvent("extract", "succeeded"))
    assert isinstance(console.file, io.StringIO)
    output = console.file.getvalue()
    assert output.count("extract   warning: 2 of 3 times cannot be read") == 1
    assert output.index("warning: 2 of 3") < output.rindex("3 interactions")
    assert "extract   columns" not in output
