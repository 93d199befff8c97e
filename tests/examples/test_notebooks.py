"""The notebooks run from top to bottom, as they are."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_says(
    path: Path, sample_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = nbformat.read(path, as_version=4)
    kept = [_kinds(cell) for cell in notebook.cells]
    monkeypatch.setenv("PYTHONPATH", str(path.parents[1]))
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": sample_run}}).execute()
    assert [_kinds(cell) for cell in notebook.cells] == kept
    shown = "".join(
        output.data["text/plain"] for cell in notebook.cells for output in cell.get("outputs", [])
    )
    for expected in ("Toy Story (1995)", "Return of the Jedi", "pyarrow.Table", "user_id: int64", "(2, 64)"):
        assert expected in shown


def _kinds(cell: nbformat.NotebookNode) -> list[str]:
    """Return the kinds of a cell's outputs; the numbers in them depend on the machine."""
    return [output.output_type for output in cell.get("outputs", [])]
