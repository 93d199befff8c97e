"""Reading the files in which people configure: YAML, or TOML by its suffix."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from trainer.errors import InputError, translated
from trainer.inputs import open_input
from trainer.texts import text_problem

_MAX_BYTES = 1 << 20
_MAX_DEPTH = 32
_MAX_VALUES = 10_000


def read_mapping(field: str, path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML or TOML file; an empty file is an empty mapping.

    YAML is read by the core schema of YAML 1.2, so that ``1:30``, ``no`` and ``2026-01-31`` are text. A
    number with a leading zero is text too, as some readers take it for octal.

    Args:
        field: option that names the file.
        path: path of the file.

    Raises:
        InputError: the file cannot be read, is not valid, gives a name twice, does not contain a mapping, or
            is larger or nested deeper than any configuration.
    """
    kind = "TOML" if path.suffix == ".toml" else "YAML"

    def invalid(problem: object) -> InputError:
        return InputError(field, str(path), f"is not valid {kind} ({problem})", "fix the file")

    with open_input(field, path, "give a YAML or TOML file") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise InputError(field, str(path), f"is larger than {_MAX_BYTES:,} bytes", "shorten the file")
    with translated(
        (yaml.MarkedYAMLError, lambda error: invalid(_with_line(error))),
        # ValueError: errors of TOML and Unicode, and numbers of thousands of digits.
        ((yaml.YAMLError, ValueError), invalid),
        (RecursionError, lambda _: invalid("it is nested too deeply")),
    ):
        text = content.decode("utf-8-sig")
        mapping = tomllib.loads(text) if kind == "TOML" else yaml.load(text, _Loader)  # noqa: S506
    if mapping is None:
        return {}
    if not isinstance(mapping, dict):
        raise InputError(field, str(path), "is not a mapping", "write it as `name: value` lines")
    for text in _texts(mapping):
        if problem := text_problem(text):
            raise invalid(f"{text!r} {problem}")
    return mapping


def _texts(value: object) -> Iterator[str]:
    """Yield every text in a mapping."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(name)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _with_line(error: yaml.MarkedYAMLError) -> str:
    at = error.problem_mark or error.context_mark
    return f"{error.problem or error.context} in line {at.line + 1}" if at else str(error)


def _refused(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.composer.ComposerError(None, None, problem, mark)


_STR, _INT, _FLOAT, _MERGE = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "merge"))
_CORE_SCHEMA = {
    "tag:yaml.org,2002:null": r"~|null|Null|NULL|",
    "tag:yaml.org,2002:bool": r"true|True|TRUE|false|False|FALSE",
    _INT: r"[-+]?(0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+",
    _FLOAT: r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    _MERGE: r"<<",
}


class _Loader(yaml.SafeLoader):
    """Reads the core schema of YAML 1.2, within limits, and refuses what it would have to guess.

    The limits hold for what aliases stand for, too, which would otherwise grow exponentially.
    """

    # Instead of the schema of YAML 1.1; None stands for any first character.
    yaml_implicit_resolvers = {  # noqa: RUF012
        None: [(tag, re.compile(rf"({form})\Z")) for tag, form in _CORE_SCHEMA.items()]
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._deepest = self._values = 0
        # By composed node: the values in it and the depth of them. An alias returns the node of its anchor.
        self._extents: dict[yaml.Node, tuple[int, int]] = {}

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        mark = event.start_mark
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            raise _refused(f"the tag {tag} is not supported", mark)
        self._depth += 1
        self._check_limits(self._depth, mark)
        outer, before = self._deepest, self._values
        self._deepest = self._depth
        node = super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent):
            if node not in self._extents:
                raise _refused(f"*{event.anchor} contains itself", mark)
            values, height = self._extents[node]
            self._values += values
            self._deepest += height
        else:
            self._values += 1
            if node:
                self._extents[node] = (self._values - before, self._deepest - self._depth)
        self._check_limits(self._deepest, mark)
        self._deepest = max(outer, self._deepest)
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names: set[str] = set()
        for key, _ in node.value:
            if key.tag not in (_STR, _MERGE):
                raise _refused("the name of a value is not text; put it in quotes", key.start_mark)
            if key.value in names:
                raise _refused(f"{key.value} is given twice, again", key.start_mark)
            names.add(key.value)
        return node

    def _check_limits(self, depth: int, mark: yaml.Mark) -> None:
        if depth > _MAX_DEPTH:
            raise _refused(f"more than {_MAX_DEPTH} levels", mark)
        if self._values > _MAX_VALUES:
            raise _refused(f"more than {_MAX_VALUES:,} values", mark)

    def construct_int(self, node: yaml.ScalarNode) -> int:
        return int(node.value, 0)

    def construct_float(self, node: yaml.ScalarNode) -> float:
        text = node.value.lower()
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor(_INT, _Loader.construct_int)
_Loader.add_constructor(_FLOAT, _Loader.construct_float)
