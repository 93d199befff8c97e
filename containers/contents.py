"""Copies the files of ``components`` that an image needs: ``contents.py IMAGE SOURCES TARGET``.

Runs while the image is built, with the standard library only. A change to any other file leaves the image as
it is. It needs

- what its components import: those that name it in ``component.py``, and the probe, which all images run;
- what these modules import in turn, at the top of a file or within functions. Only code that all images share
  imports a step within a function: the step whose image it runs in, hence none of another image;
- with a package its files that are not Python's, such as SQL, except those of another image's steps.
"""

import ast
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

_PACKAGE = "components"
# What runs in every image: while it is built, around its steps, and in place of them.
_ALWAYS = {f"{_PACKAGE}.{name}" for name in ("prebuild", "runtime", "probe.options", "probe.step")}
_COMPONENT = ".component"


def contents(image: str, sources: Path) -> set[Path]:
    """Return the files that an image needs, relative to the sources.

    Args:
        image: name of the image, that of a step.
        sources: folder with the folder ``components``.

    Raises:
        ValueError: no component names this image.
    """
    modules = {_name(path.relative_to(sources)): path for path in sorted((sources / _PACKAGE).rglob("*.py"))}
    steps = {name.removesuffix(_COMPONENT) for name in modules if name.endswith(_COMPONENT)}
    started = {step: set(_started(modules[f"{step}{_COMPONENT}"], image)) for step in steps}
    if not any(started.values()):
        raise ValueError(f"no component names the image {image!r}")
    elsewhere = {step for step in steps if not started[step] and not any(_in(name, step) for name in _ALWAYS)}
    found: set[str] = set()
    waiting = _ALWAYS.union(*started.values())
    while waiting:
        name = waiting.pop()
        if name not in modules:
            continue
        found.add(name)
        waiting.add(name.rpartition(".")[0])
        for imported, within_function in _imports(ast.parse(modules[name].read_text("utf-8"))):
            if not (within_function and any(_in(imported, step) for step in elsewhere)):
                waiting.add(imported)
        waiting -= found
    files = {modules[name] for name in found}
    for name, path in [(name, modules[name]) for name in found if modules[name].stem == "__init__"]:
        if not any(_in(name, step) for step in elsewhere):
            files |= set(_data(path.parent))
    return {path.relative_to(sources) for path in files}


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _in(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


def _started(file: Path, image: str) -> Iterator[str]:
    """Yield what those of a file's components import that name an image."""
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            named = "".join(ast.unparse(decorator) for decorator in node.decorator_list)
            if f"image('{image}')" in named:
                yield from (name for name, _ in _imports(node))


def _imports(root: ast.AST, within_function: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield names that code imports, and whether it does so within a function.

    The last part of a name may be something in a module.
    """
    within_function |= isinstance(root, ast.FunctionDef)
    for node in ast.iter_child_nodes(root):
        if isinstance(node, ast.Import):
            yield from ((alias.name, within_function) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, within_function
            yield from ((f"{node.module}.{alias.name}", within_function) for alias in node.names)
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield from _imports(node, within_function)


def _data(folder: Path) -> Iterator[Path]:
    """Yield the files of a package that are not Python's; its subpackages have their own."""
    for path in folder.iterdir():
        if path.is_dir() and not (path / "__init__.py").exists() and path.name != "__pycache__":
            yield from _data(path)
        elif path.is_file() and path.suffix != ".py":
            yield path


def main() -> None:
    """Copy the files that the arguments ask for."""
    image, sources, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    for path in sorted(contents(image, sources)):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sources / path, target / path)


if __name__ == "__main__":
    main()
