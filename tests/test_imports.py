"""The house rule of CONTRIBUTING.md: imports point one way, pipeline -> components -> trainer."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "trainer": {"components", "pipeline", "kfp", "google"},
    "components": {"pipeline"},
}


def imported(file: Path) -> set[str]:
    """Return the top-level names that a module imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_package_imports_nothing_above_it(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    offenders = {str(file.relative_to(ROOT)): imported(file) & FORBIDDEN[package] for file in files}
    assert not {file: names for file, names in offenders.items() if names}


def test_only_the_wrappers_of_the_components_know_kfp() -> None:
    offenders = [
        file
        for file in (ROOT / "components").rglob("*.py")
        if "kfp" in imported(file) and file.name != "component.py"
    ]
    assert offenders == []
