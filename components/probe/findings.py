"""Findings: what a step found about the place where it runs, and what to fix there."""

import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from components.runtime import LOG_MARK
from trainer.files import Manifest, Schema, read_manifest

logger = logging.getLogger(__name__)

SCHEMA = Schema("wals.probe", 1)

OK, WARNING, FIX = STATUSES = ("ok", "warning", "fix")
"""In the order of the table, so that what to fix stands next to the end."""

ALL = "all"
"""Stands in the table for every step."""

_BETWEEN = " | "
_LINE = re.compile(rf"{LOG_MARK} (?P<status>{'|'.join(STATUSES)}) *\| (?P<rest>[^|]*\|[^|]*\|.*)")
_TOTAL = re.compile(rf"{LOG_MARK} (?P<lines>\d+) lines: ")


@dataclass(frozen=True)
class Finding:
    """One finding; a line of the table.

    Attributes:
        check: what was looked at, such as ``gpu driver``.
        status: ``ok``, ``warning`` or ``fix``.
        found: what was found.
        remedy: what to do; empty if there is nothing to do.
        steps: steps that found it; in a table, "all" stands for every step.
    """

    check: str
    status: str
    found: str
    remedy: str = ""
    steps: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return a line of the table as it is logged; `parse` reads it."""
        cells = (
            f"{self.status:<7}",
            f"{', '.join(self.steps):<9}",
            f"{self.check:<16}",
            self.found,
            self.remedy,
        )
        plain = (" ".join(cell.replace("|", "/").splitlines()) for cell in cells)
        return _BETWEEN.join(plain).rstrip(_BETWEEN)

    @classmethod
    def parse(cls, line: str) -> Self | None:
        """Return the finding in a line of a step's log; None if it has none."""
        match = _LINE.search(line)
        if not match:
            return None
        cells = [cell.strip() for cell in match["rest"].split(_BETWEEN.strip())]
        steps, check, found, remedy = [*cells, ""][:4]
        return cls(check, match["status"], found, remedy, tuple(steps.split(", ")))


def ok(check: str, found: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(check, OK, found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """Return a finding with which a run works, but slower, or other than the settings say."""
    return Finding(check, WARNING, found, remedy)


def fix(check: str, found: str, remedy: str) -> Finding:
    """Return a finding with which a run fails, or wastes what it costs."""
    return Finding(check, FIX, found, remedy)


def bounded(check: str, seconds: float, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return what a check finds within a time; a hang and an exception are findings too.

    Args:
        check: name of the check.
        seconds: time after which to give up. A thread that hangs is left behind, and ends with the process.
        look: the check; what it has found before it hangs or fails is kept.
    """
    found: list[Finding] = []

    def work() -> None:
        try:
            for finding in look():
                found.append(finding)  # noqa: PERF402 - one by one, since the next may hang
        except ModuleNotFoundError as error:
            found.append(ok(check, f"not applicable: the image has no {error.name}"))
        except BaseException as error:
            logger.warning("%s", check, exc_info=error)
            found.append(
                warning(check, f"cannot be checked: {type(error).__name__}: {error}", "see the step's log")
            )

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    hangs = thread.is_alive()
    kept = list(found)
    if hangs:
        kept.append(fix(check, f"no answer within {seconds:g} s", "check what hangs; a step would hang too"))
    return kept


def as_content(findings: Iterable[Finding]) -> dict[str, Any]:
    """Return findings as the content of an artifact of schema ``wals.probe``."""
    return {"findings": [asdict(finding) for finding in findings]}


def of_content(content: Mapping[str, Any]) -> list[Finding]:
    """Return the findings of an artifact's content."""
    return [Finding(**{**values, "steps": tuple(values["steps"])}) for values in content["findings"]]


class _Findings(Manifest):
    findings: tuple[Finding, ...]


def read_findings(folder: Path) -> list[Finding]:
    """Return the findings of an artifact.

    Raises:
        InputError: the folder is not an artifact of schema ``wals.probe``.
    """
    return list(read_manifest(folder, SCHEMA, _Findings).findings)


def table_of(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings as the lines of a table: one for what several steps found alike, the worst last."""
    found_by: dict[Finding, tuple[str, ...]] = {}
    for finding in findings:
        alike = replace(finding, steps=())
        found_by[alike] = (*found_by.get(alike, ()), *finding.steps)
    everyone = {step for steps in found_by.values() for step in steps}
    # Those of many steps first.
    merged = sorted(found_by.items(), key=lambda item: (STATUSES.index(item[0].status), -len(item[1])))
    return [
        replace(finding, steps=(ALL,) if len(everyone) > 1 and set(steps) == everyone else steps)
        for finding, steps in merged
    ]


def total(rows: Sequence[Finding]) -> str:
    """Return the table's last line; `table_in` reads it."""
    counts = Counter(row.status for row in rows)
    return f"{len(rows)} lines: " + ", ".join(f"{counts[status]} {status}" for status in STATUSES)


def log_findings(rows: Sequence[Finding]) -> None:
    """Write lines of the table to the step's log."""
    for row in rows:
        logger.info("%s", row)


def table_in(lines: Sequence[str]) -> list[Finding] | None:
    """Return the table in a log, the last one if there are several; None if lines of it are missing.

    Args:
        lines: lines of the log, which may arrive in parts.
    """
    promised = [int(match["lines"]) for line in lines if (match := _TOTAL.search(line))]
    rows = [row for line in lines if (row := Finding.parse(line))]
    if not promised or len(rows) < promised[-1]:
        return None
    return rows[len(rows) - promised[-1] :]
