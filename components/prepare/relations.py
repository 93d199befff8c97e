"""The relational work of preparation, for any engine: what is kept, dense indices, and the split."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.engines import Engine
from components.engines.sql import Checked, quoted, render
from components.prepare.kernels import INTERACTION, TIMED_INTERACTION, fill_slots, find, pairs_below
from components.prepare.options import Options
from components.threads import ordered_map
from trainer.errors import InputError
from trainer.vocabulary import Vocabulary

_SQL = Path(__file__).parent / "sql"
_RANGES = 1024
_MOST_IDS = 2**31 - 1
_MOST_TEXT = 2**31 - 1
_SIDES = ("user", "item")


def keep_core(engine: Engine, interactions: str, options: Options) -> str:
    """Leave out users and items of too few or too many interactions, until all that stay have enough.

    Counts are of distinct items of a user, and of distinct users of an item.

    Args:
        engine: to run on.
        interactions: name of the table.
        options: with the bounds.

    Returns:
        The name of the table of what is left.
    """
    if not options.needs_core:
        return interactions
    maximum = options.max_user_interactions
    engine.create(
        "pairs",
        render(_SQL, "pairs.sql", interactions=engine.table(interactions), maximum=bool(maximum)),
        {"maximum": maximum},
    )
    minimums = dict(zip(_SIDES, (options.min_user_interactions, options.min_item_interactions), strict=True))
    before: list[int] = []
    other = ""
    while True:
        sizes = []
        for side, opposite in (_SIDES, _SIDES[::-1]):
            sql = render(
                _SQL,
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
    engine.create("kept", render(_SQL, "kept.sql", **tables))
    return "kept"


def number(
    engine: Engine, kept: str, side: str, *, is_text: bool, seed: int
) -> tuple[Vocabulary, NDArray[np.int64]]:
    """Make the table ``users`` or ``items`` of dense indices and hashes.

    Args:
        engine: to run on.
        kept: name of the table of interactions.
        side: "user" or "item".
        is_text: whether the ids are strings.
        seed: of the hashes.

    Returns:
        The ids, and (ids,) how many interactions each has.

    Raises:
        InputError: there are more ids than indices of 32 bits, or 2 GiB of text and more.
    """
    counted = f"counted_{side}s"
    column = quoted("column", f"{side}_id")
    engine.create(counted, render(_SQL, "counted.sql", kept=engine.table(kept), column=column))
    bounds = _single(engine, render(_SQL, "bounds.sql", counted=engine.table(counted)))
    low, high = bounds["lowest"], bounds["highest"]
    parameters: dict[str, Any] = {"seed": str(seed), "kind": side, "prefix_length": 1, "range_width": 1}
    if low is not None and is_text:
        parameters["prefix_length"] = len(os.path.commonprefix([low, high])) + 2  # noqa: RUF071 - of ids
    elif low is not None:
        parameters["range_width"] = (high - low) // _RANGES + 1
    sql = render(_SQL, "ids.sql", is_text=is_text, counted=engine.table(counted))
    engine.create(f"{side}s", sql, parameters)
    _check_sizes(engine, side, is_text=is_text)
    query = f"SELECT id, interactions, position FROM {engine.table(f'{side}s')}"  # noqa: S608 - a name
    table = engine.fetch(query).sort_by("position")
    return Vocabulary(table["id"].combine_chunks()), _array(table["interactions"])


def _check_sizes(engine: Engine, side: str, *, is_text: bool) -> None:
    """Refuse ids that cannot be numbered or held, before they are fetched."""
    sizes = _single(engine, render(_SQL, "id_sizes.sql", ids=engine.table(f"{side}s"), is_text=is_text))
    field, shown = f"{side}_id", f"{sizes['ids']:,} {side}s"
    if sizes["ids"] > _MOST_IDS:
        raise InputError(field, shown, f"are more than {_MOST_IDS:,}", "filter them")
    if sizes["text"] > _MOST_TEXT:
        raise InputError(
            field,
            shown,
            f"have ids of {sizes['text']:,} bytes together, more than {_MOST_TEXT:,}",
            "give integers or shorter ids, or filter them",
        )


def days_of(engine: Engine, kept: str) -> list[tuple[int, int, int]]:
    """Return day (from 1970), interactions and newest microsecond of each day with interactions."""
    rows = engine.fetch(render(_SQL, "times.sql", kept=engine.table(kept))).to_pylist()
    return [(row["day"], row["interactions"], row["newest"]) for row in rows]


def encoded(
    engine: Engine, kept: str, options: Options, parameters: dict[str, int | float], *, look_up: bool
) -> Iterator[NDArray[Any]]:
    """Yield all interactions with dense indices and their part of the split, in no order.

    Args:
        engine: to run on; has the tables ``users`` and ``items`` of `number`.
        kept: name of the table of interactions.
        options: with the split.
        parameters: of `Options.parameters`.
        look_up: whether to look the indices and hashes up here and not to join them in SQL: faster where the
            engine is in this process. The ids must be integers.

    Returns:
        Arrays of dtype `TIMED_INTERACTION` where only the last of a pair counts, else `INTERACTION`.
    """
    tables: dict[str, Checked] = {name: engine.table(name) for name in ("users", "items")}
    tables["kept"] = engine.table(kept)
    if options.split == "last":
        engine.create("latest", render(_SQL, "latest.sql", **tables), parameters)
        tables["latest"] = engine.table("latest")
    with_time = options.duplicates == "last"
    context = {"split": options.split, "with_time": with_time, "half_life": bool(options.half_life_days)}
    sql = render(_SQL, "encode.sql", joined=not look_up, **context, **tables)
    dtype = TIMED_INTERACTION if with_time else INTERACTION
    if not look_up:
        yield from (_interactions(_columns(batch), dtype) for batch in engine.stream(sql, parameters))
        return
    users, items = (_Index(engine, f"{side}s") for side in _SIDES)

    def looked_up(batch: pa.RecordBatch) -> NDArray[Any]:
        columns = _columns(batch)
        columns["row"], columns["column"] = users.of(columns["row"]), items.of(columns["column"])
        if options.split in _HASHED:
            columns["part"] = _HASHED[options.split](users, items, columns, parameters)
        return _interactions(columns, dtype)

    yield from ordered_map(looked_up, engine.stream(sql, parameters))


class _Index:
    """Where the ids of a table of `number` are, and their hashes."""

    def __init__(self, engine: Engine, table: str) -> None:
        query = f"SELECT * FROM {engine.table(table)}"  # noqa: S608 - a name
        found = engine.fetch(query).sort_by("position")
        self._ids = _array(found["id"])
        self.hashes = np.stack([_array(found["hash_factor"]), _array(found["hash_term"])], axis=1)
        bits = len(self._ids).bit_length() + 1
        self._shift = 64 - bits
        self._slots = np.full(1 << bits, -1, np.int32)
        fill_slots(self._ids, self._slots, self._shift)

    def of(self, ids: NDArray[np.int64]) -> NDArray[np.int32]:
        found: NDArray[np.int32] = find(ids, self._ids, self._slots, self._shift)
        return found


def _random_part(
    users: _Index, items: _Index, columns: dict[str, NDArray[Any]], parameters: Mapping[str, Any]
) -> NDArray[np.bool_]:
    """As random.sql."""
    return _below(users, items, columns, parameters["holdout_threshold"])


def _users_part(
    users: _Index, items: _Index, columns: dict[str, NDArray[Any]], parameters: Mapping[str, Any]
) -> NDArray[np.int64]:
    """As users.sql."""
    targets = _below(users, items, columns, parameters["target_threshold"])
    in_training = users.hashes[columns["row"], 0] >= parameters["holdout_threshold"]
    return np.where(in_training, 0, np.where(targets, 1, 2))


_HASHED = {"random": _random_part, "users": _users_part}
"""The splits that the hashes of both ids decide."""


def _below(
    users: _Index, items: _Index, columns: dict[str, NDArray[Any]], threshold: int
) -> NDArray[np.bool_]:
    below: NDArray[np.bool_] = pairs_below(
        columns["row"], columns["column"], users.hashes, items.hashes, threshold
    )
    return below


def _columns(batch: pa.RecordBatch) -> dict[str, NDArray[Any]]:
    return {name: _array(batch[name]) for name in batch.schema.names}


def _interactions(columns: Mapping[str, NDArray[Any]], dtype: Any) -> NDArray[Any]:
    array = np.empty(len(columns["row"]), dtype)
    for field in dtype.names:
        array[field] = columns[field]
    return array


def _array(column: Any) -> NDArray[Any]:
    """Return an Arrow column without nulls as a NumPy array; `to_numpy` would import pandas."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return np.from_dlpack(whole)


def _single(engine: Engine, sql: str) -> dict[str, Any]:
    (row,) = engine.fetch(sql).to_pylist()
    return dict(row)
