"""The probe of a step as its component calls it, and the report on all steps."""

from pathlib import Path

import pytest

from components.probe import step as module
from components.probe.findings import Finding, as_content, of_content, read_findings
from components.probe.options import ProbeOptions
from components.probe.report import report
from components.probe.step import ITEM, loop_item, probe
from trainer.files import finish_artifact
from trainer.options import Options

COMMON = {
    *("user", "account", "attempt", "artifacts", "artifact speed", "artifact extras", "local disk"),
    *("cores", "memory", "clock", "version", "python", "packages"),
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SIZE", 1 << 20)


def test_a_step_leaves_its_findings_as_an_artifact(ratings_csv: Path, tmp_path: Path) -> None:
    options = ProbeOptions(source=str(ratings_csv))
    content = probe(
        options, step="publish", cores=0.0, memory_bytes=0, accelerators=0, findings=tmp_path / "findings"
    )
    found = of_content(content)
    assert read_findings(tmp_path / "findings") == found
    assert {one.check for one in found} >= COMMON
    assert {one.steps for one in found} == {("publish",)}
    assert not {"gpu", "source", "loop item"} & {one.check for one in found}


def test_a_step_that_may_write_nothing_says_so_and_ends_well(ratings_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    content = probe(
        ProbeOptions(source=str(ratings_csv)),
        step="publish",
        cores=0.0,
        memory_bytes=0,
        accelerators=0,
        findings=tmp_path / "file" / "findings",
    )
    found = {one.check: one for one in of_content(content)}
    assert found["artifacts"].status == "fix"
    assert found["user"].status == "ok"


@pytest.mark.parametrize(
    ("item", "status", "found"),
    [
        (ITEM, "ok", "arrives as an object, with number 8, ratio 0.25, text 'für'"),
        ({**ITEM, "number": 8.0}, "ok", "arrives as an object, with number 8.0, ratio 0.25, text 'für'"),
        ('{"number": 8}', "fix", "arrives as str, not as an object"),
        ({}, "warning", "arrives as {}"),
    ],
)
def test_a_loop_item_must_be_an_object(item: object, status: str, found: str) -> None:
    (actual,) = loop_item(item)
    assert actual.status == status
    assert actual.found.startswith(found)


def test_the_report_has_all_steps_and_names_those_that_left_nothing(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    idle = Finding("solver", "fix", "auto trains on the <CPU>", "build the image again", ("train",))
    finish_artifact(tmp_path / "train", *_artifact([idle]))
    trial = as_content([Finding("solver", "fix", idle.found, idle.remedy, ("trial",))])
    metadata = report(
        Options(),
        trials=[trial],
        findings=tmp_path / "findings",
        table=tmp_path / "table.html",
        train=tmp_path / "train",
        prepare=tmp_path / "none",
    )
    assert metadata == {"lines": 2, "to_fix": 2}
    solver, missing = read_findings(tmp_path / "findings")
    assert (solver.steps, missing.steps) == (("train", "trial"), ("prepare",))
    assert missing.found == "the step's artifact cannot be read"
    html = (tmp_path / "table.html").read_text("utf-8")
    assert "auto trains on the &lt;CPU&gt;" in html
    assert "2 lines: 0 ok, 0 warning, 2 fix" in html


def _artifact(found: list[Finding]) -> tuple[object, dict[str, object]]:
    return module.SCHEMA, as_content(found)
