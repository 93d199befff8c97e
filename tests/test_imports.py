"""The rules of docs/architecture.md: imports point one way, between the layers and within them."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("trainer", "components", "pipeline")
# The modules of the training library, among which only circles are forbidden.
_LIBRARY = {
    *("arrays", "auto", "baselines", "catalogue", "checkpoint", "choice", "config", "distributed"),
    *("errors", "extras"),
    *("files", "gpus", "history", "inputs", "matrix", "merging", "metrics", "model", "mounts"),
    *("options", "popularity", "progress", "ranking", "recommender", "rules", "scanning", "scratch"),
    *("splitting", "storage", "tensorboard", "terminal", "texts", "threads", "training", "vocabulary"),
    "weighting",
}
# What each part of a layer may import of that layer, besides itself.
PARTS = {
    "pipeline": {
        "definition": set(),
        "local": {"platforms"},
        "platforms": {"definition"},
        "display": {"local", "platforms"},
        "commands": {"definition", "display", "local", "platforms"},
        "cli": {"commands", "display", "platforms"},
    },
    "pipeline.platforms": {
        "network": set(),
        "findings": set(),
        "cron": set(),
        "registries": {"findings"},
        "environments": set(),
        "backend": {"findings"},
        "caching": {"backend"},
        "machines": {"backend"},
        "schedules": {"backend", "caching"},
        "tasks": {"backend"},
        "google": {"backend", "environments", "findings", "network", "registries"},
        "kubeflow": {
            "backend",
            "cron",
            "environments",
            "findings",
            "google",
            "network",
            "registries",
            "tasks",
        },
        "vertex": {
            "backend",
            "environments",
            "findings",
            "google",
            "network",
            "registries",
            "tasks",
        },
        "connect": {"backend", "environments", "kubeflow", "vertex"},
    },
    "components": {
        "artifacts": set(),
        "reports": {"artifacts"},
        "engines": set(),
        "registry": {"answers", "artifacts", "limits", "options", "s3", "threads"},
        "answers": {"limits"},
        "google_rest": {"answers", "limits"},
        "extract": {"artifacts", "engines", "images", "options", "runtime", "s3", "threads", "times"},
        **{part: set() for part in ("images", "limits", "options")},
        "secret_manager": {"google_rest", "limits"},
        "runtime": {"secret_manager"},
        **{part: set() for part in ("s3", "software", "threads", "times", "workflow")},
        "prepare": {"artifacts", "engines", "images", "options", "reports", "runtime", "threads", "times"},
        "train": {"artifacts", "images", "options", "registry", "runtime"},
        "evaluate": {"artifacts", "images", "options", "registry", "reports", "runtime", "software"},
        "publish": {"artifacts", "images", "options", "runtime"},
        # It delivers to BigQuery datasets, whose names the extraction checks too.
        "deliver": {
            "answers",
            "artifacts",
            "engines",
            "extract",
            "google_rest",
            "images",
            "limits",
            "options",
            "registry",
            "runtime",
            "software",
        },
        "tune": {"images", "options", "reports", "runtime"},
        "notify": {
            "answers",
            "artifacts",
            "evaluate",
            "images",
            "limits",
            "runtime",
            "secret_manager",
            "workflow",
        },
        "probe": {"extract", "images", "reports", "runtime", "software", "train"},
        "miniatures": {"artifacts", "evaluate", "prepare", "publish", "train", "tune"},
        "prebuild": {"miniatures"},
    },
    "trainer": {
        "solvers": {
            "config",
            "errors",
            "extras",
            "gpus",
            "inputs",
            "matrix",
            "options",
            "threads",
            "weighting",
        },
        **{module: {"solvers", *_LIBRARY} for module in _LIBRARY},
        "serving": _LIBRARY,
        "job": {"serving", *_LIBRARY},
        "task": {"job", *_LIBRARY},
    },
}
# Third-party packages that a layer must do without.
FOREIGN = {"trainer": {"kfp", "google"}}


def modules(package: str) -> dict[str, Path]:
    """Return the files of a package by module name."""
    found = {}
    for file in sorted((ROOT / package).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = {name: file for layer in LAYERS for name, file in modules(layer).items()}


def imports(file: Path) -> Iterator[str]:
    """Yield the full names of what a module imports anywhere in it, for type checkers only too."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


def part_of(module: str, package: str) -> str:
    """Return the part of a package that a module belongs to; "" for one outside it."""
    prefix = f"{package}."
    return module.removeprefix(prefix).split(".")[0] if module.startswith(prefix) else ""


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_nothing_above_it(layer: str) -> None:
    forbidden = {*LAYERS[LAYERS.index(layer) + 1 :], *FOREIGN.get(layer, ())}
    offenders = [
        (name, imported)
        for name, file in modules(layer).items()
        for imported in imports(file)
        if imported.split(".")[0] in forbidden
    ]
    assert not offenders


@pytest.mark.parametrize("package", PARTS)
def test_a_part_imports_only_the_parts_below_it(package: str) -> None:
    rules = PARTS[package]
    offenders = [
        (name, imported)
        for name, file in MODULES.items()
        if (part := part_of(name, package)) in rules
        for imported in imports(file)
        if (other := part_of(imported, package)) and other != part and other not in rules[part]
    ]
    assert not offenders


@pytest.mark.parametrize("package", PARTS)
def test_every_part_has_a_rule(package: str) -> None:
    parts = {part_of(name, package) for name in MODULES} - {""}
    assert parts == set(PARTS[package])


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        name: {imported for imported in imports(file) if imported in MODULES and imported != name}
        for name, file in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {' -> '.join(error.args[1])}")


def test_only_the_wrappers_of_the_components_know_kfp() -> None:
    offenders = [
        name
        for name, file in modules("components").items()
        if any(imported.split(".")[0] == "kfp" for imported in imports(file))
        and not name.endswith(".component")
    ]
    assert offenders == []


EXTRACTION = """
from pathlib import Path
from components.extract.options import ExtractOptions
from components.extract.step import extract
Path("a.csv").write_text("user,item\\n1,2\\n")
extract(ExtractOptions(source="a.csv"), interactions=Path("interactions"), catalogue=Path("catalogue"))
"""


@pytest.mark.parametrize(
    ("program", "unused"),
    [
        pytest.param(EXTRACTION, {"pandas", "numba", "requests", "google.auth"}, id="an extraction"),
        pytest.param("import components.train.refit", {"numba", "pandas", "duckdb"}, id="refit"),
        pytest.param("import components.deliver.step", {"numba", "pandas", "requests"}, id="deliver"),
        pytest.param("import components.notify.step", {"numpy", "requests", "google.auth"}, id="notify"),
    ],
)
def test_a_step_does_not_wait_for_packages_that_it_seldom_uses(
    program: str, unused: set[str], tmp_path: Path
) -> None:
    """Each of them takes a tenth of a second or more to import."""
    command = [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules)"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    imported = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert not unused & {*imported.stdout.splitlines()[-1].split()}
