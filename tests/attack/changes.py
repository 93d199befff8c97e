"""Answers in which one value is another."""

import copy
from collections.abc import Iterator
from typing import Any

HOSTILE = [None, True, 3, -1.5, "", "x", [], [None], {}, {"x": None}]


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value in an answer."""
    yield path
    parts = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    for key, value in parts:
        yield from places(value, (*path, key))


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy of an answer with another value at a path."""
    whole = {"": copy.deepcopy(content)}
    inner: Any = whole
    for key in ("", *path)[:-1]:
        inner = inner[key]
    inner[("", *path)[-1]] = value
    return whole[""]
