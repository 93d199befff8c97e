"""Findings: bounded checks, and the table that goes through a step's log."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from components.probe.findings import (
    Finding,
    as_content,
    bounded,
    fix,
    of_content,
    ok,
    table_in,
    table_of,
    total,
    warning,
)
from trainer.errors import WalsError

ROWS = [
    Finding("user", "ok", "uid 10001, groups 10001", "", ("all",)),
    Finding(
        "gpu library", "fix", "libcuda.so.1 is in /usr/local/nvidia", "build it again", ("train", "trial")
    ),
    Finding("clock", "warning", "+9 s from the server's", "set it", ("extract",)),
]


def logged(rows: list[Finding]) -> list[str]:
    return [f"wals: {row}" for row in rows]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.status)
@pytest.mark.parametrize("prefix", ["", "    ", "2026-11-26T17:00:00Z "])
def test_a_line_of_the_log_is_the_finding(row: Finding, prefix: str) -> None:
    assert Finding.parse(f"{prefix}wals: {row}") == row


@pytest.mark.parametrize(
    "line",
    [
        "",
        "wals: query reads 5 bytes",
        "ok | all | user | uid 1",
        "wals: ok then",
        "wals: fix | it",
        "| fix | a",
    ],
)
def test_other_lines_are_no_findings(line: str) -> None:
    assert Finding.parse(line) is None


def test_a_text_of_several_lines_and_bars_stays_one_line() -> None:
    found = Finding("source", "fix", "a | b\nc", "d", ("extract",))
    line = f"wals: {found}"
    assert "\n" not in line
    assert Finding.parse(line) == Finding("source", "fix", "a / b c", "d", ("extract",))


def test_what_steps_find_alike_is_one_line_and_what_to_fix_comes_last() -> None:
    def by(step: str, *found: Finding) -> list[Finding]:
        return [replace(one, steps=(step,)) for one in found]

    user, none = ok("user", "uid 0"), ok("gpu", "none")
    missing = fix("gpu", "none, where the settings say 1", "ask for quota")
    slow = warning("clock", "9 s", "set it")
    found = [*by("extract", missing, user), *by("train", user, slow, none), *by("trial", user, none)]
    assert table_of(found) == [
        replace(user, steps=("all",)),
        replace(none, steps=("train", "trial")),
        replace(slow, steps=("train",)),
        replace(missing, steps=("extract",)),
    ]


def test_the_findings_of_one_step_name_it() -> None:
    (row,) = table_of([Finding("user", "ok", "uid 0", steps=("train",))])
    assert row.steps == ("train",)


def test_a_log_has_the_table_when_it_has_as_many_lines_as_its_end_says() -> None:
    lines = [*logged(ROWS), f"wals: {total(ROWS)}"]
    assert "3 lines: 1 ok, 1 warning, 1 fix" in lines[-1]
    assert table_in(lines) == ROWS
    assert [table_in(lines[:cut]) for cut in range(len(lines))] == [None] * len(lines)
    assert table_in([lines[0], *lines[2:]]) is None


def test_of_two_attempts_the_table_is_the_last_ones() -> None:
    lines = [*logged([*ROWS, ROWS[0]]), f"wals: {total(ROWS)}", *logged(ROWS), f"wals: {total(ROWS)}"]
    assert table_in(lines) == ROWS


def test_an_artifact_has_all_of_a_finding() -> None:
    assert of_content(as_content(ROWS)) == ROWS


def test_a_check_that_hangs_is_a_finding_and_keeps_what_it_found_before() -> None:
    never = threading.Event()

    def look() -> Iterator[Finding]:
        yield ok("disk", "is there")
        never.wait()

    before, hangs = bounded("disk", 0.05, look)
    never.set()
    assert before == ok("disk", "is there")
    assert (hangs.status, hangs.check) == ("fix", "disk")
    assert "no answer within 0.05 s" in hangs.found


@pytest.mark.parametrize(
    ("error", "status", "found"),
    [
        (ZeroDivisionError("by zero"), "warning", "ZeroDivisionError: by zero"),
        (WalsError("the store failed"), "warning", "the store failed"),
        (SystemExit(3), "warning", "SystemExit: 3"),
        (ModuleNotFoundError("no", name="duckdb"), "ok", "not applicable: the image has no duckdb"),
    ],
)
def test_an_exception_is_a_finding(error: BaseException, status: str, found: str) -> None:
    def look() -> Iterator[Finding]:
        yield ok("source", "begins")
        raise error

    before, failed = bounded("source", 5, look)
    assert before.found == "begins"
    assert failed.status == status
    assert found in failed.found
