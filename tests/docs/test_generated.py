"""The generated pages."""

import runpy
from pathlib import Path

import pytest

from pipeline.definition.pipelines import TUNING

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["columns", "parameters"])
def test_a_generated_page_is_current(name: str) -> None:
    page = runpy.run_path(str(DOCS / f"{name}.py"))["page"]()
    assert (DOCS / f"{name}.md").read_text("utf-8") == page, "renew it with `make docs`"


def test_the_page_has_every_parameter_with_its_range_and_choices() -> None:
    rows = {
        line.split("`")[1]: line
        for line in (DOCS / "parameters.md").read_text("utf-8").splitlines()
        if line.startswith("| `")
    }
    assert set(rows) == set(TUNING.parameters)
    assert "number above 0 and below 1" in rows["holdout_fraction"]
    assert "`random`, `last`, `time`, `users`" in rows["split"]
    assert "required" in rows["source"]
