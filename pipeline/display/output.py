"""Printing results for scripts and lines for people."""

import json
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any

import click
from rich.console import Console


def print_json(value: Any) -> None:
    """Print a value as JSON; dataclasses become objects, and times ISO 8601."""

    def plain(item: Any) -> Any:
        if is_dataclass(item) and not isinstance(item, type):
            return asdict(item)
        if isinstance(item, datetime):
            return item.isoformat()
        raise TypeError(f"{type(item).__name__} is not JSON")

    click.echo(json.dumps(value, indent=2, default=plain))


def print_line(console: Console, line: str) -> None:
    """Print a line unchanged: no markup, colours or line breaks are added."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)
