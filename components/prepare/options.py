"""Options of the preparation step."""

from typing import Annotated, Literal

from pydantic import Field

from components.artifacts.holdout import HISTORY, TARGETS
from components.times import Time, parse_time
from trainer.config import DEFAULT_SEED, MAX_EXACT, Seed
from trainer.options import Options, group, no_credentials

Duplicates = Literal["sum", "mean", "max", "last"]
Split = Literal["random", "last", "time", "users"]

PARTS: dict[Split, tuple[str, ...]] = {
    "random": (TARGETS,),
    "last": (TARGETS,),
    "time": (TARGETS,),
    "users": (TARGETS, HISTORY),
}
"""Matrices of the holdout, by kind of split."""

PRIME = 2**31 - 1
"""Upper bound of the hashes that the SQL computes."""

_MICROSECONDS_PER_DAY = 86_400_000_000
_SHARE_OF_HISTORY_TO_PREDICT = 0.2

_HOLDOUT, _FILTERS, _DRIFT = group("Holdout"), group("Filters"), group("Data profile")


class DriftContract(Options):
    """How far the interactions may differ from those of the previous run."""

    previous_profile: Annotated[str, no_credentials("omit them")] = Field(
        default="",
        description="Folder of a profile to compare with, or a folder that keeps the latest run's profile; "
        "none if omitted.",
        json_schema_extra=_DRIFT,
    )
    on_drift: Literal["warn", "fail"] = Field(
        default="warn",
        description="What happens if the data have drifted from the previous profile: warn, or fail before "
        "training.",
        json_schema_extra=_DRIFT,
    )
    max_volume_drop: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Maximum drop in the number of interactions since the previous profile, as a share.",
        json_schema_extra=_DRIFT,
    )
    max_density_change: float = Field(
        default=2.0,
        ge=1,
        le=1_000_000,
        description="Maximum factor by which the density may differ from that of the previous profile.",
        json_schema_extra=_DRIFT,
    )
    # Drift below 0.1 counts as negligible, from 0.25 on as large (Siddiqi 2006, Credit Risk Scorecards).
    max_psi: float = Field(
        default=0.25,
        ge=0,
        le=1000,
        description="Maximum drift of ratings, activity and duplicates, as a population stability index.",
        json_schema_extra=_DRIFT,
    )


class PrepareOptions(DriftContract):
    """How interactions become a matrix to train on and a holdout to evaluate on."""

    split: Split = Field(
        default="random",
        description="How the holdout is chosen: random, last (of each user), time, or users (held out "
        "whole).",
        json_schema_extra=_HOLDOUT,
    )
    holdout_fraction: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="Share of the interactions to hold out.",
        json_schema_extra=_HOLDOUT,
    )
    holdout_last: int = Field(
        default=1,
        ge=1,
        le=1_000_000,
        description="Number of latest items to hold out for each user, for split last.",
        json_schema_extra=_HOLDOUT,
    )
    holdout_from: Time = Field(
        default="",
        description="Time from which everything is held out (ISO 8601, UTC), for split time; computed from "
        "holdout_fraction if omitted.",
        json_schema_extra=_HOLDOUT,
    )
    duplicates: Duplicates = Field(
        default="mean",
        description="How repeated interactions become one value: sum, mean, max or last.",
        json_schema_extra=_FILTERS,
    )
    min_user_interactions: int = Field(
        default=1,
        ge=0,
        le=MAX_EXACT,
        description="Exclude users with fewer interactions.",
        json_schema_extra=_FILTERS,
    )
    min_item_interactions: int = Field(
        default=1,
        ge=0,
        le=MAX_EXACT,
        description="Exclude items with fewer interactions.",
        json_schema_extra=_FILTERS,
    )
    max_user_interactions: int = Field(
        default=0,
        ge=0,
        le=MAX_EXACT,
        description="Exclude users with more interactions, such as bots; 0 is unlimited.",
        json_schema_extra=_FILTERS,
    )
    half_life_days: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        description="Half-life of a rating in days, counted back from the newest interaction; 0 disables "
        "the decay.",
        json_schema_extra=_FILTERS,
    )
    seed: Seed = DEFAULT_SEED

    @property
    def parts(self) -> tuple[str, ...]:
        """Folders of the holdout's matrices; the first is part 1 of the split."""
        return PARTS[self.split]

    @property
    def needs_core(self) -> bool:
        """Whether users or items are left out for their number of interactions."""
        return (
            max(self.min_user_interactions, self.min_item_interactions) > 1 or self.max_user_interactions > 0
        )

    @property
    def decides_split(self) -> str:
        """The option that decides how many interactions are held out."""
        if self.split == "last":
            return "holdout_last"
        return "holdout_from" if self.split == "time" and self.holdout_from else "holdout_fraction"

    @property
    def needs_time(self) -> str:
        """The option that requires a time for every interaction, or ""."""
        if self.split in ("last", "time"):
            return f"split {self.split}"
        if self.duplicates == "last":
            return "duplicates last"
        return "half_life_days" if self.half_life_days else ""

    def parameters(self, days: list[tuple[int, int, int]]) -> dict[str, int | float]:
        """Return the parameters of the queries.

        Args:
            days: number since 1970, interactions and newest microsecond of each day; empty if no times are
                needed.
        """
        return {
            "holdout_threshold": round(self.holdout_fraction * PRIME),
            "target_threshold": round(_SHARE_OF_HISTORY_TO_PREDICT * PRIME),
            "holdout_last": self.holdout_last,
            "cut": self._cut(days) if days else 0,
            "newest": max((newest for _, _, newest in days), default=0),
            "half_life": self.half_life_days * _MICROSECONDS_PER_DAY,
        }

    def _cut(self, days: list[tuple[int, int, int]]) -> int:
        time = parse_time(self.holdout_from)
        return int(time.timestamp() * 1_000_000) if time else self._cut_at_midnight(days)

    def _cut_at_midnight(self, days: list[tuple[int, int, int]]) -> int:
        """Return the midnight from which on the share is nearest to the holdout fraction."""
        target = self.holdout_fraction * sum(count for _, count, _ in days)
        after = 0
        best = (target, max(day for day, _, _ in days) + 1)
        for day, count, _ in sorted(days, reverse=True):
            after += count
            best = min(best, (abs(after - target), day))
        return best[1] * _MICROSECONDS_PER_DAY
