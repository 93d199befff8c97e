"""Printing results for scripts, and lines and tables for people.

Whatever people see goes through this module: ids, titles, names, messages of servers and lines of logs come
from elsewhere, and neither rich nor the terminal may interpret them.
"""

import json
import logging
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any, Literal

import click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from trainer.terminal import visible

OUTPUT_VERSION = 1
"""Version of the JSON that commands print. It rises when a field is removed or changes its meaning."""


def print_json(kind: str, content: Any) -> None:
    """Print a result as a JSON object, which begins with its schema ``wals.output.KIND`` and the version.

    Args:
        kind: what the result is; docs/operations.md lists the kinds and their fields.
        content: a mapping or a dataclass; dataclasses become objects, and times ISO 8601.
    """
    fields = asdict(content) if is_dataclass(content) and not isinstance(content, type) else content
    print_request({"schema": f"wals.output.{kind}", "schema_version": OUTPUT_VERSION, **fields})


def print_request(request: Any) -> None:
    """Print a request to a platform, or the content of a result, as JSON."""
    click.echo(json.dumps(request, indent=2, default=_plain))


def _plain(item: Any) -> Any:
    if is_dataclass(item) and not isinstance(item, type):
        return asdict(item)
    if isinstance(item, datetime):
        return item.isoformat()
    raise TypeError(f"{type(item).__name__} is not JSON")


def echo(line: object, *, err: bool = False) -> None:
    """Print a line, on standard error if ``err`` is true."""
    click.echo(visible(str(line)), err=err)


def print_line(console: Console, line: str) -> None:
    """Print a line unchanged: no markup, colours or line breaks are added."""
    console.print(plain(line), soft_wrap=True)


def plain(
    text: str,
    style: str = "",
    *,
    justify: Literal["left", "right"] | None = None,
    overflow: Literal["fold", "ellipsis"] | None = None,
    no_wrap: bool | None = None,
) -> Text:
    """Return a text for rich to show unchanged; the arguments are those of ``rich.text.Text``."""
    return Text(visible(text), style, justify=justify, overflow=overflow, no_wrap=no_wrap)


class PlainTable(Table):
    """A table that shows texts unchanged."""

    def add_column(self, header: RenderableType = "", *arguments: Any, **keywords: Any) -> None:
        """See ``rich.table.Table``."""
        super().add_column(_cell(header), *arguments, **keywords)

    def add_row(self, *cells: RenderableType | None, **keywords: Any) -> None:
        """See ``rich.table.Table``."""
        super().add_row(*map(_cell, cells), **keywords)


def _cell(content: Any) -> Any:
    return plain(content) if isinstance(content, str) else content


class PlainFormatter(logging.Formatter):
    """Formats log messages as lines to show unchanged."""

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        return visible(super().format(record))
