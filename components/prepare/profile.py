"""A profile of the interactions, and the contract that the next ones are held to.

As an artifact (schema ``wals.profile`` v1) it is a folder with ``profile.json`` and the manifest; see
`Profile` for the keys.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from components.engines import Engine
from components.engines.sql import render
from trainer.errors import InputError
from trainer.files import begin_artifact, finish_artifact, write_json

SCHEMA = "wals.profile"
SCHEMA_VERSION = 1
FILE = "profile.json"

logger = logging.getLogger(__name__)

_SQL = Path(__file__).parent / "sql"
_COLD = 5
_LEAST_SHARE = 1e-4


@dataclass(frozen=True)
class Profile:
    """What a set of interactions looks like.

    Attributes:
        columns: type by name.
        interactions: rows.
        users: distinct ids.
        items: distinct ids.
        density: interactions by users times items; repeated ones count.
        ratings: interactions by bin of the rating; bin b holds 2^(|b|/8) - 1 up to 2^((|b|+1)/8) - 1, with
            the sign of b.
        lowest_rating: of all.
        highest_rating: of all.
        per_user: users by floor(log2(their interactions)).
        per_item: items by floor(log2(their interactions)).
        cold_users: share of the users that have fewer than 5 interactions.
        earliest: time of the first interaction, "" without times.
        latest: time of the last one.
    """

    columns: Mapping[str, str]
    interactions: int
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
        kept: str,
        columns: Mapping[str, str],
        user_counts: NDArray[np.int64],
        item_counts: NDArray[np.int64],
    ) -> Self:
        """Make the profile of a table.

        Args:
            engine: that has it.
            kept: its name.
            columns: its types by name.
            user_counts: (users,) interactions of each.
            item_counts: (items,) interactions of each.
        """
        with_time = "event_time" in columns
        rows = engine.fetch(
            render(_SQL, "profile.sql", kept=engine.table(kept), with_time=with_time)
        ).to_pylist()
        interactions = int(user_counts.sum())
        return cls(
            columns=dict(columns),
            interactions=interactions,
            users=len(user_counts),
            items=len(item_counts),
            density=interactions / (len(user_counts) * len(item_counts)),
            ratings={
                str(row["bin"]): row["interactions"] for row in sorted(rows, key=lambda row: row["bin"])
            },
            lowest_rating=min(row["lowest"] for row in rows),
            highest_rating=max(row["highest"] for row in rows),
            per_user=_by_size(user_counts),
            per_item=_by_size(item_counts),
            cold_users=float(np.mean(user_counts < _COLD)),
            earliest=min((row["earliest"] for row in rows if row["earliest"]), default=""),
            latest=max((row["latest"] for row in rows if row["latest"]), default=""),
        )

    @classmethod
    def load(cls, folder: str) -> Self:
        """Read the profile artifact in a folder, here or on Cloud Storage.

        Raises:
            InputError: there is none.
        """
        import fsspec  # slow to import, and most runs have no previous profile

        try:
            with fsspec.open(f"{folder.rstrip('/')}/{FILE}", "r", encoding="utf-8") as file:
                return cls(**json.load(file))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                "previous_profile",
                folder,
                "is no profile",
                "give the folder that an earlier run wrote, or nothing",
            ) from error

    def save(self, folder: Path) -> None:
        """Write the profile as an artifact."""
        begin_artifact(folder)
        write_json(folder / FILE, asdict(self))
        finish_artifact(folder, SCHEMA, SCHEMA_VERSION, {"file": FILE})

    def facts(self) -> list[tuple[str, str]]:
        """Return names and values for people."""
        times = [("first", self.earliest), ("last", self.latest)] if self.latest else []
        return [
            ("interactions", f"{self.interactions:,}"),
            ("users", f"{self.users:,}"),
            ("items", f"{self.items:,}"),
            ("density", f"{self.density:.3g}"),
            ("ratings", f"{self.lowest_rating:g} to {self.highest_rating:g}"),
            (f"users with fewer than {_COLD} interactions", f"{self.cold_users:.1%}"),
            *times,
        ]


@dataclass(frozen=True)
class Contract:
    """How far interactions may differ from the previous ones.

    Attributes:
        max_volume_drop: share of the previous number of interactions that may be missing.
        max_density_change: factor by which the density may grow or shrink.
        max_psi: population stability index up to which the ratings, and the interactions per user, may have
            drifted. Below 0.1 nothing has changed, from 0.25 much has (Siddiqi 2006, Credit Risk Scorecards).
    """

    max_volume_drop: float
    max_density_change: float
    max_psi: float

    def check(self, on_drift: str) -> None:
        """Raise InputError for bounds out of their range and for an unknown reaction."""
        if on_drift not in ("warn", "fail"):
            raise InputError("on_drift", on_drift, "is not known", "choose one of warn, fail")
        for field, minimum in (("max_volume_drop", 0), ("max_density_change", 1), ("max_psi", 0)):
            if not getattr(self, field) >= minimum:
                raise InputError(field, getattr(self, field), f"is not {minimum} or more", "raise it")

    def breaches(self, before: Profile, now: Profile) -> list[str]:
        """Return what of the contract does not hold, in words."""
        found = []
        if dict(before.columns) != dict(now.columns):
            found.append(f"the columns were {_columns(before)} and are {_columns(now)}")
        if now.interactions < (1 - self.max_volume_drop) * before.interactions:
            found.append(f"{before.interactions:,} interactions fell to {now.interactions:,}")
        if abs(math.log(now.density / before.density)) > math.log(self.max_density_change):
            found.append(f"the density went from {before.density:.3g} to {now.density:.3g}")
        for what, old, new in (
            ("ratings", before.ratings, now.ratings),
            ("interactions per user", before.per_user, now.per_user),
        ):
            drift = psi(old, new)
            if drift > self.max_psi:
                found.append(f"the {what} drifted (PSI {drift:.2f})")
        return found


def psi(before: Mapping[str, int], now: Mapping[str, int]) -> float:
    """Return the population stability index between two histograms with the same bins.

    It is the sum of (q - p) ln(q / p) over the bins' shares p before and q now (Siddiqi 2006). A share is
    taken as 0.0001 at least, as an empty bin would make the sum infinite.
    """
    bins = sorted({*before, *now})
    old, new = shares(before, bins), shares(now, bins)
    return float(np.sum((new - old) * np.log(new / old)))


def hold_to_contract(
    profile: Profile, contract: Contract, previous_profile: str, on_drift: str, folder: Path, report: Path
) -> None:
    """Write a profile with its report, and compare it with the one before.

    Args:
        profile: of the interactions.
        contract: how far they may differ.
        previous_profile: folder of the previous run's profile, here or on Cloud Storage; "" for none.
        on_drift: what to do if they differ by more: "warn" or "fail".
        folder: for the profile artifact.
        report: path of the HTML file.

    Raises:
        InputError: there is no such previous profile, or the contract does not hold and ``on_drift`` is
            "fail".
    """
    from components.prepare.profile_report import write_report  # it needs what is defined here

    previous = Profile.load(previous_profile) if previous_profile else None
    breaches = contract.breaches(previous, profile) if previous else []
    profile.save(folder)
    write_report(profile, previous, breaches, report)
    for breach in breaches:
        logger.warning("unlike the previous run: %s", breach)
    if breaches and on_drift == "fail":
        raise InputError(
            "interactions",
            previous_profile,
            f"differ from the previous run: {'; '.join(breaches)}",
            "look at the profile; to train nevertheless set on_drift to warn",
        )


def shares(histogram: Mapping[str, int], bins: Sequence[str]) -> NDArray[np.float64]:
    """Return the share of each of ``bins`` in a histogram, (bins,), none below 0.0001."""
    counts = np.array([histogram.get(bin_, 0) for bin_ in bins], float)
    found: NDArray[np.float64] = np.maximum(counts / counts.sum(), _LEAST_SHARE)
    return found


def _by_size(counts: NDArray[np.int64]) -> dict[str, int]:
    sizes, of_size = np.unique(np.floor(np.log2(counts)).astype(int), return_counts=True)
    return {str(size): int(count) for size, count in zip(sizes, of_size, strict=True)}


def _columns(profile: Profile) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in profile.columns.items())
