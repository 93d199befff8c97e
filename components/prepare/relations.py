"""The relational work of preparation, for any engine: filters and dense indices."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.engines import Engine
from components.engines.sql import quoted, render
from components.prepare.options import PRIME, PrepareOptions
from trainer.errors import InputError
from trainer.vocabulary import Vocabulary

SQL = Path(__file__).parent / "sql"
_SAMPLED, _SPACING = 5_000, 100
"""One id in so many is sampled, and a range begins at every so many-th of the sample.

Ranges have 500,000 ids on average, with a standard deviation of a tenth (that of the sum of `_SPACING` gaps
in the sample), so that a range of a million is improbable even among thousands. One worker sorts a range.
"""

_MAX_IDS = 2**31 - 1
_MAX_TEXT_BYTES = 2**31 - 1
SIDES = ("user", "item")


def keep_core(engine: Engine, interactions: str, options: PrepareOptions) -> str:
    """Leave out users and items with too few or too many interactions, until all that remain have enough.

    Counts are of distinct items of a user, and of distinct users of an item.

    Args:
        engine: engine to run on.
        interactions: name of the table.
        options: options with the bounds.

    Returns:
        The name of the table of the remaining interactions.
    """
    if not options.needs_core:
        return interactions
    maximum = options.max_user_interactions
    engine.create(
        "pairs",
        render(SQL, "pairs.sql", interactions=engine.table(interactions), maximum=bool(maximum)),
        {"maximum": maximum},
    )
    minimums = dict(zip(SIDES, (options.min_user_interactions, options.min_item_interactions), strict=True))
    before: list[int] = []
    other = ""
    while True:
        sizes = []
        for side, opposite in (SIDES, SIDES[::-1]):
            sql = render(
                SQL,
                "active.sql",
                pairs=engine.table("pairs"),
                column=quoted("column", f"{side}_id"),
                other_column=quoted("column", f"{opposite}_id"),
                other=other and engine.table(other),
            )
            other = f"active_{side}s"
            engine.create(other, sql, {"minimum": minimums[side]})
            sizes.append(_single(engine, f"SELECT COUNT(*) AS size FROM {engine.table(other)}")["size"])  # noqa: S608
        if sizes == before:
            break
        before = sizes
    tables = {name: engine.table(name) for name in (interactions, "active_users", "active_items")}
    tables["interactions"] = tables.pop(interactions)
    engine.create("filtered", render(SQL, "filtered.sql", **tables))
    return "filtered"


def number(
    engine: Engine, filtered: str, side: str, *, is_text: bool, seed: int
) -> tuple[Vocabulary, NDArray[np.int64]]:
    """Create the table ``users`` or ``items`` with dense indices and hashes.

    Args:
        engine: engine to run on.
        filtered: name of the table of interactions.
        side: "user" or "item".
        is_text: whether the ids are strings.
        seed: seed of the hashes.

    Returns:
        The ids, and (ids,) the number of interactions of each.

    Raises:
        InputError: there are more ids than 32-bit indices, or 2 GiB or more of text.
    """
    column = quoted("column", f"{side}_id")
    parameters: dict[str, Any] = {
        "seed": str(seed),
        "kind": side,
        "sampled": PRIME // _SAMPLED,
        "spacing": _SPACING,
    }
    tables = {name: engine.table(f"{name}_{side}s") for name in ("counted", "ranges")}
    counted = render(SQL, "counted.sql", filtered=engine.table(filtered), column=column)
    engine.create(f"counted_{side}s", counted, parameters)
    engine.create(f"ranges_{side}s", render(SQL, "ranges.sql", counted=tables["counted"]), parameters)
    engine.create(f"{side}s", render(SQL, "ids.sql", **tables))
    _check_sizes(engine, side, is_text=is_text)
    query = f"SELECT id, interactions, position FROM {engine.table(f'{side}s')}"  # noqa: S608 - a name
    table = engine.fetch(query).sort_by("position")
    return Vocabulary(table["id"].combine_chunks()), array(table["interactions"])


def _check_sizes(engine: Engine, side: str, *, is_text: bool) -> None:
    """Refuse ids that cannot be numbered or held, before they are fetched."""
    sizes = _single(engine, render(SQL, "id_sizes.sql", ids=engine.table(f"{side}s"), is_text=is_text))
    field, value = f"{side}_id", f"{sizes['ids']:,} {side}s"
    if sizes["ids"] > _MAX_IDS:
        raise InputError(field, value, f"are more than {_MAX_IDS:,}", "filter them")
    if sizes["text"] > _MAX_TEXT_BYTES:
        raise InputError(
            field,
            value,
            f"have ids of {sizes['text']:,} bytes in total, more than {_MAX_TEXT_BYTES:,}",
            "give integers or shorter ids, or filter them",
        )


def days_of(engine: Engine, filtered: str) -> list[tuple[int, int, int]]:
    """Return number since 1970, interactions and newest microsecond of each day with interactions."""
    rows = engine.fetch(render(SQL, "times.sql", filtered=engine.table(filtered))).to_pylist()
    return [(row["day"], row["interactions"], row["newest"]) for row in rows]


def array(column: Any) -> NDArray[Any]:
    """Return an Arrow column without nulls as a NumPy array; `to_numpy` would import pandas."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return np.from_dlpack(whole)


def _single(engine: Engine, sql: str) -> dict[str, Any]:
    (row,) = engine.fetch(sql).to_pylist()
    return dict(row)
