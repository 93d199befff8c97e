"""The table of what the steps of a probe found."""

from collections.abc import Sequence

from components.probe.findings import Finding
from pipeline.display.output import PlainTable, plain

_STYLES = {"ok": "green", "warning": "yellow", "fix": "bold red"}


def findings_table(rows: Sequence[Finding]) -> PlainTable:
    """Return the lines of the table, the worst last, next to the prompt."""
    table = PlainTable("", "steps", "check", "found", "what to do", title="Probe", title_justify="left")
    for row in rows:
        cells = (", ".join(row.steps), row.check, row.found, row.remedy)
        table.add_row(
            plain(row.status, _STYLES[row.status]), *(plain(cell, overflow="fold") for cell in cells)
        )
    return table
