"""The generated page of parameters."""

import runpy
from pathlib import Path

from pipeline.definition.pipelines import TUNING

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_parameters_is_current() -> None:
    page = runpy.run_path(str(DOCS / "parameters.py"))["page"]()
    assert (DOCS / "parameters.md").read_text("utf-8") == page, "renew it with `make docs`"


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
