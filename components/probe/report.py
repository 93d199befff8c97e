"""The table of all steps' findings: in the log, as an artifact, and as HTML for the consoles."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.probe.findings import (
    FIX,
    OK,
    SCHEMA,
    WARNING,
    Finding,
    as_content,
    log_findings,
    of_content,
    read_findings,
    table_of,
    total,
)
from trainer.errors import InputError
from trainer.files import begin_artifact, finish_artifact
from trainer.options import Options

logger = logging.getLogger(__name__)

_STYLES = {OK: "passed", WARNING: "doubtful", FIX: "failed"}
"""Classes of the style sheet by status."""


def report(
    options: Options,  # noqa: ARG001 - the report has none
    *,
    trials: Sequence[Mapping[str, Any]],
    findings: Path,
    table: Path,
    **steps: Path,
) -> dict[str, Any]:
    """Collect the findings of all steps.

    Args:
        options: no options.
        trials: contents of the artifacts of the steps in the loop.
        findings: folder of the artifact to write: the lines of the table.
        table: HTML file to write.
        steps: folders of the other steps' artifacts, by the step's name.

    Returns:
        Metadata of the artifact: the number of lines by status.
    """
    found = [finding for step, folder in steps.items() for finding in _read(step, folder)]
    found += [finding for content in trials for finding in of_content(content)]
    rows = table_of(found)
    begin_artifact(findings)
    finish_artifact(findings, SCHEMA, as_content(rows))
    _write_html(rows, table)
    log_findings(rows)
    logger.info("%s", total(rows))
    return {"lines": len(rows), "to_fix": sum(row.status == FIX for row in rows)}


def _read(step: str, folder: Path) -> list[Finding]:
    try:
        return read_findings(folder)
    except InputError:
        return [
            Finding("findings", FIX, "the step's artifact cannot be read", "read the step's log", (step,))
        ]


def _write_html(rows: Sequence[Finding], path: Path) -> None:
    # Only the images whose steps write reports have what it imports.
    from components.reports.page import Cell, Table, write_page

    lines = tuple(
        (
            Cell(row.check),
            Cell(row.status, style=_STYLES.get(row.status, "")),
            Cell(", ".join(row.steps)),
            Cell(row.found),
            Cell(row.remedy, style="" if row.remedy else "none"),
        )
        for row in reversed(rows)
    )
    head = ("check", "status", "steps", "found", "what to do")
    write_page(
        "components.probe",
        path,
        total=total(rows),
        to_fix=any(row.status == FIX for row in rows),
        findings=Table("Findings, those to fix first", head, lines, words=True),
    )
