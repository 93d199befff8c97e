"""A profile of the interactions.

As an artifact (schema ``wals.profile`` v2) it is a folder with ``profile.json`` and the manifest; see
`Profile` for the keys.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from components.engines import Engine
from components.engines.sql import quoted, render
from components.prepare.relations import SQL
from components.times import from_microseconds
from trainer.errors import InputError
from trainer.files import Manifest, Schema, begin_artifact, finish_artifact, read_manifest, write_json
from trainer.storage import local_copy

SCHEMA = Schema("wals.profile", 2)
FILE = "profile.json"

_COLD = 5
_FEW_RATINGS = 1000
_MIN_SHARE = 1e-4


@dataclass(frozen=True)
class Profile:
    """Statistics of the interactions that preparation reads, before filters.

    Attributes:
        columns: types by name.
        rows: number of interactions.
        interactions: number of interactions that remain after the filters.
        duplicates: share of the remaining ones that repeat another one of the same user and item.
        users: number of distinct user ids.
        items: number of distinct item ids.
        density: rows / (users * items); repeated interactions count.
        ratings: interactions by bin of the rating; bin b holds 2^(|b|/8) - 1 up to 2^((|b|+1)/8) - 1, with
            the sign of b.
        lowest_rating: lowest rating of all interactions.
        highest_rating: highest rating of all interactions.
        per_user: users by floor(log2(their interactions)).
        per_item: items by floor(log2(their interactions)).
        cold_users: share of users with fewer than 5 interactions.
        earliest: time of the first interaction, ISO 8601 in UTC; "" without times.
        latest: time of the last one, likewise.
    """

    columns: Mapping[str, str]
    rows: int
    interactions: int
    duplicates: float
    users: int
    items: int
    density: float
    ratings: Mapping[str, int]
    lowest_rating: float
    highest_rating: float
    per_user: Mapping[str, int]
    per_item: Mapping[str, int]
    cold_users: float
    earliest: str
    latest: str

    @classmethod
    def of(
        cls,
        engine: Engine,
        table: str,
        columns: Mapping[str, str],
        ratings: Sequence[Mapping[str, Any]],
        counts: Mapping[str, NDArray[np.int64]] | None,
        interactions: int,
        pairs: int,
    ) -> Self:
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
        """
        users, items = (
            _sizes(counts[side]) if counts else _counted_sizes(engine, table, side)
            for side in ("user", "item")
        )
        rows = sum(size * ids for size, ids in users.items())
        user_count, item_count = sum(users.values()), sum(items.values())
        return cls(
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
            cold_users=sum(ids for size, ids in users.items() if size < _COLD) / user_count,
            earliest=_bound(min, (row["earliest"] for row in ratings)),
            latest=_bound(max, (row["latest"] for row in ratings)),
        )

    @classmethod
    def load(cls, folder: str) -> Self:
        """Read the profile artifact in a folder, local or on Cloud Storage.

        Raises:
            InputError: the folder has no usable profile.
            WalsError: Cloud Storage cannot be read.
        """
        try:
            with local_copy("previous_profile", folder) as local:
                read_manifest(local, SCHEMA, Manifest)
                return cls(**json.loads((local / FILE).read_text("utf-8")))
        except (InputError, OSError, ValueError, TypeError) as error:
            raise InputError(
                "previous_profile",
                folder,
                f"is not a complete profile of version {SCHEMA.version}",
                "give the folder of an earlier run's profile, or omit it",
            ) from error

    def save(self, folder: Path) -> None:
        """Write the profile as an artifact."""
        begin_artifact(folder)
        write_json(folder / FILE, asdict(self))
        finish_artifact(folder, SCHEMA, {"file": FILE})

    def facts(self) -> list[tuple[str, str]]:
        """Return display names and values."""
        times = [("first", self.earliest), ("last", self.latest)] if self.latest else []
        return [
            ("interactions", f"{self.rows:,}"),
            ("interactions after filters", f"{self.interactions:,}"),
            ("duplicates after filters", f"{self.duplicates:.1%}"),
            ("users", f"{self.users:,}"),
            ("items", f"{self.items:,}"),
            ("density", f"{self.density:.3g}"),
            ("ratings", f"{self.lowest_rating:g} to {self.highest_rating:g}"),
            (f"users with fewer than {_COLD} interactions", f"{self.cold_users:.1%}"),
            *times,
        ]


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


def shares(histogram: Mapping[str, float], bins: Sequence[str]) -> NDArray[np.float64]:
    """Return the share of each of the ``bins`` in a histogram, (bins,), at least 0.0001."""
    counts = np.array([histogram.get(bin_, 0) for bin_ in bins], float)
    bounded: NDArray[np.float64] = np.maximum(counts / counts.sum(), _MIN_SHARE)
    return bounded


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
