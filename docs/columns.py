"""Write docs/columns.md from the table of usual names: ``make docs``."""

from collections.abc import Iterable
from pathlib import Path

from components.extract.columns import USUAL_NAMES

PAGE = Path(__file__).with_suffix(".md")

_HEAD = """# Usual names of columns

If you do not name a column, it is found by its name. In each list, the first name that a column has wins.
Case, spaces, dashes and underscores do not matter: `userId`, `User-ID` and `user_id` are one name. `*_at` is
every name whose last word is "at", such as `shipped_at` and `shippedAt`. If several columns match the same
name, the run stops and asks you to choose one.

[data.md](data.md#columns) says which columns are required and what they may contain.

| option | names, in order of precedence |
|---|---|
"""

_FOOT = """
In sources of items and lists of items, ids may also be in a column `id`.

This page is generated from `components/extract/columns.py` by `make docs`.
"""


def page() -> str:
    """Return the contents of the page."""
    rows = (f"| `{option}` | {_listed(names)} |\n" for option, names in USUAL_NAMES.items())
    return _HEAD + "".join(rows) + _FOOT


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
