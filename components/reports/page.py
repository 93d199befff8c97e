"""HTML reports: one self-contained file each, without scripts, which the consoles show in a frame."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from trainer.errors import counted
from trainer.files import replacing

_LONGEST = 160


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: its text.
        note: smaller text after it, such as an interval.
        style: class of the style sheet, such as ``passed``; "" for none.
    """

    text: str
    note: str = ""
    style: str = ""


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row is its header.

    Attributes:
        caption: what it shows.
        head: titles of the columns.
        rows: cells of each row, as many as there are titles.
        words: whether the cells hold words, which are aligned to the left, instead of numbers.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: bool = False


def write_page(package: str, path: Path, **content: Any) -> None:
    """Fill in ``report.html`` of a package and write it as a self-contained file.

    Args:
        package: package with the template, which extends ``base.html`` of this one.
        path: HTML file to write.
        **content: variables of the template. Text is escaped.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("components.reports", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"short": short, "counted": counted}
    html = environment.get_template("report.html").render(content)
    with replacing(path) as temporary:
        temporary.write_text(html, "utf-8")


def short(text: str) -> str:
    """Return a text from elsewhere with at most 160 characters."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
