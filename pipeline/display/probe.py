"""The table of what the steps of a probe found."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from components.probe.findings import Finding

_STYLES = {"ok": "green", "warning": "yellow", "fix": "bold red"}


def findings_table(rows: Sequence[Finding]) -> Table:
    """Return the lines of the table, the worst last, next to the prompt."""
    table = Table("", "steps", "check", "found", "what to do", title="Probe", title_justify="left")
    for row in rows:
        cells = (", ".join(row.steps), row.check, row.found, row.remedy)
        table.add_row(Text(row.status, _STYLES[row.status]), *(Text(cell, overflow="fold") for cell in cells))
    return table
