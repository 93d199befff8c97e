"""Interactions with dense indices and their part of the split, joined in SQL or looked up here."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.engines import Engine
from components.engines.sql import Checked, render
from components.prepare.matrix.assembly import Encoded
from components.prepare.matrix.kernels import INTERACTION, TIMED_INTERACTION, divide, fill_slots, find
from components.prepare.options import PRIME, PrepareOptions
from components.prepare.relations import SIDES, SQL, array


def encoded(
    engine: Engine,
    filtered: str,
    options: PrepareOptions,
    parameters: dict[str, int | float],
    *,
    look_up: bool,
) -> Encoded:
    """Return all interactions with dense indices and their part of the split.

    Args:
        engine: engine with the tables ``users`` and ``items`` of `number`.
        filtered: name of the table of interactions.
        options: options with the split.
        parameters: parameters from `PrepareOptions.parameters`.
        look_up: whether to look up the indices and hashes here instead of joining them in SQL, which is
            faster if the engine is in this process. The ids must be integers.
    """
    tables: dict[str, Checked] = {name: engine.table(name) for name in ("users", "items")}
    tables["filtered"] = engine.table(filtered)
    if options.split == "last":
        engine.create("latest", render(SQL, "latest.sql", **tables), parameters)
        tables["latest"] = engine.table("latest")
    with_time = options.duplicates == "last"
    context = {"split": options.split, "with_time": with_time, "half_life": bool(options.half_life_days)}
    sql = render(SQL, "encode.sql", joined=not look_up, **context, **tables)
    write = _LookUp(engine, options.split, parameters) if look_up else _write
    return Encoded(engine.stream(sql, parameters), TIMED_INTERACTION if with_time else INTERACTION, write)


class _LookUp:
    """Writes a batch that has ids instead of indices."""

    def __init__(self, engine: Engine, split: str, parameters: Mapping[str, Any]) -> None:
        self._users, self._items = (_Index(engine, f"{side}s") for side in SIDES)
        # The thresholds in random.sql and users.sql, and the part of the remaining pairs of held-out users.
        self._divided: tuple[int, int, int] | None = {
            "random": (PRIME, parameters["holdout_threshold"], 0),
            "users": (parameters["holdout_threshold"], parameters["target_threshold"], 2),
        }.get(split)

    def __call__(self, batch: pa.RecordBatch, interactions: NDArray[Any]) -> None:
        self._users.find(array(batch["row"]), interactions["row"])
        self._items.find(array(batch["column"]), interactions["column"])
        for name in batch.schema.names[2:]:
            interactions[name] = array(batch[name])
        if self._divided:
            divide(interactions, self._users.hashes, self._items.hashes, *self._divided)


class _Index:
    """Positions and hashes of the ids in a table of `number`."""

    def __init__(self, engine: Engine, name: str) -> None:
        query = f"SELECT * FROM {engine.table(name)}"  # noqa: S608 - a name
        table = engine.fetch(query).sort_by("position")
        self._ids = array(table["id"])
        hashes = [array(table[column]) for column in ("hash_factor", "hash_term")]
        self.hashes = np.stack(hashes, axis=1).astype(np.int32)
        bits = len(self._ids).bit_length() + 1
        self._shift = 64 - bits
        self._slots = np.full(1 << bits, -1, np.int32)
        fill_slots(self._ids, self._slots, self._shift)

    def find(self, ids: NDArray[np.int64], places: NDArray[np.int32]) -> None:
        find(ids, self._ids, self._slots, self._shift, places)


def _write(batch: pa.RecordBatch, interactions: NDArray[Any]) -> None:
    """Write a batch that has indices."""
    for name in batch.schema.names:
        interactions[name] = array(batch[name])
