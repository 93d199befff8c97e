"""The computation of a profile: statistics of the interactions, by SQL where they are."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.artifacts.interactions import Source
from components.artifacts.profile import COLD, QUANTILES, Profile
from components.engines import Engine
from components.engines.sql import quoted, render
from components.prepare.relations import SQL
from components.times import from_microseconds

_FEW_RATINGS = 1000


def profile_of(
    engine: Engine,
    table: str,
    columns: Mapping[str, str],
    ratings: Sequence[Mapping[str, Any]],
    counts: Mapping[str, NDArray[np.int64]] | None,
    interactions: int,
    pairs: int,
    *,
    source: Source | None,
    checksum: str,
) -> Profile:
    """Compute the profile of a table.

    Args:
        engine: engine that has the table.
        table: name of the table.
        columns: the table's types by column.
        ratings: result of `ratings_of`.
        counts: (users,) and (items,) interactions of each user and item, under "user" and "item"; None to
            count them.
        interactions: number that remain after the filters.
        pairs: number of distinct pairs of a user and an item among those.
        source: where they come from; None if that is not known.
        checksum: SHA-256 of the manifest of their artifact.
    """
    users, items = (
        _sizes(counts[side]) if counts else _counted_sizes(engine, table, side) for side in ("user", "item")
    )
    rows = sum(size * ids for size, ids in users.items())
    user_count, item_count = sum(users.values()), sum(items.values())
    return Profile(
        columns=dict(columns),
        rows=rows,
        interactions=interactions,
        duplicates=(interactions - pairs) / interactions,
        users=user_count,
        items=item_count,
        density=rows / (user_count * item_count),
        ratings={str(row["bin"]): row["interactions"] for row in ratings},
        lowest_rating=min(row["lowest"] for row in ratings),
        highest_rating=max(row["highest"] for row in ratings),
        per_user=_by_magnitude(users),
        per_item=_by_magnitude(items),
        user_quantiles=_quantiles(users),
        item_quantiles=_quantiles(items),
        cold_users=sum(ids for size, ids in users.items() if size < COLD) / user_count,
        earliest=_bound(min, (row["earliest"] for row in ratings)),
        latest=_bound(max, (row["latest"] for row in ratings)),
        source=source,
        checksum=checksum,
    )


def ratings_of(engine: Engine, table: str, columns: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return bin, interactions, lowest, highest, earliest and latest of each bin of the ratings, in order.

    The times are in microseconds since 1970; None if there are none.
    """
    interactions = engine.table(table)
    few = False
    if engine.in_process:  # BigQuery bills a query for the first rows like one for all rows
        (first,) = engine.fetch(render(SQL, "first_ratings.sql", interactions=interactions)).to_pylist()
        few = first["ratings"] <= _FEW_RATINGS
    sql = render(SQL, "profile.sql", interactions=interactions, few=few, with_time="event_time" in columns)
    return sorted(engine.fetch(sql).to_pylist(), key=lambda row: int(row["bin"]))


def _sizes(counts: NDArray[np.int64]) -> dict[int, int]:
    """Return the number of ids by their number of interactions."""
    sizes, ids = np.unique(counts, return_counts=True)
    return dict(zip(sizes.tolist(), ids.tolist(), strict=True))


def _counted_sizes(engine: Engine, table: str, side: str) -> dict[int, int]:
    sql = render(SQL, "sizes.sql", interactions=engine.table(table), column=quoted("column", f"{side}_id"))
    return {row["interactions"]: row["ids"] for row in engine.fetch(sql).to_pylist()}


def _bound(choose: Callable[[Iterable[int]], int], times: Iterable[int | None]) -> str:
    """Return the first or last of the times that are not None, in ISO 8601; "" if there are none."""
    present = [time for time in times if time is not None]
    return from_microseconds(choose(present)) if present else ""


def _by_magnitude(sizes: Mapping[int, int]) -> dict[str, int]:
    """Return the number of ids by floor(log2(their interactions))."""
    histogram: Counter[str] = Counter()
    for size in sorted(sizes):
        histogram[str(size.bit_length() - 1)] += sizes[size]
    return dict(histogram)


def _quantiles(sizes: Mapping[int, int]) -> tuple[int, ...]:
    """Return the quantiles of numbers of interactions, given the number of ids by them."""
    ordered = sorted(sizes)
    ids_up_to = np.cumsum([sizes[size] for size in ordered])
    places = np.searchsorted(ids_up_to, np.ceil(np.array(QUANTILES) * ids_up_to[-1]).clip(1))
    return tuple(ordered[place] for place in places)
