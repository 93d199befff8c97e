"""What preparation can be asked for."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from trainer.errors import InputError, problems_of

PARTS = {
    "random": ("targets",),
    "last": ("targets",),
    "time": ("targets",),
    "users": ("targets", "history"),
}
"""The matrices of the holdout, by kind of split."""

DUPLICATES = ("sum", "mean", "max", "last")
"""The ways to make one value of the interactions of a user with an item."""

PRIME = 2**31 - 1
"""Of the hashes that the SQL makes, which are below it."""

_MICROSECONDS_PER_DAY = 86_400_000_000
_SHARE_OF_HISTORY_TO_PREDICT = 0.2


@dataclass(frozen=True)
class Options:
    """The fields are documented at `components.prepare.step.prepare`."""

    split: str
    holdout_fraction: float
    holdout_last: int
    holdout_from: str
    seed: int
    duplicates: str
    min_user_interactions: int
    min_item_interactions: int
    max_user_interactions: int
    half_life_days: float

    def problems(self) -> Iterator[InputError]:
        """Yield the problems of fields that are unknown or out of their range."""
        for field, value, known in (
            ("split", self.split, tuple(PARTS)),
            ("duplicates", self.duplicates, DUPLICATES),
        ):
            if value not in known:
                yield InputError(field, value, "is not known", f"choose one of {', '.join(known)}")
        if not 0 < self.holdout_fraction < 1:
            yield InputError(
                "holdout_fraction",
                self.holdout_fraction,
                "is not between 0 and 1",
                "give a share such as 0.1",
            )
        for field, minimum in (
            ("holdout_last", 1),
            ("min_user_interactions", 0),
            ("min_item_interactions", 0),
            ("max_user_interactions", 0),
            ("half_life_days", 0),
        ):
            if not getattr(self, field) >= minimum:
                yield InputError(field, getattr(self, field), f"is not {minimum} or more", "raise it")
        if self.holdout_from:
            yield from problems_of(self._cut)

    @property
    def parts(self) -> tuple[str, ...]:
        """Folders of the holdout's matrices; the first is part 1 of the split."""
        return PARTS[self.split]

    @property
    def needs_core(self) -> bool:
        """Whether users or items are left out by how many interactions they have."""
        return (
            max(self.min_user_interactions, self.min_item_interactions) > 1 or self.max_user_interactions > 0
        )

    @property
    def needs_time(self) -> str:
        """What needs the time of every interaction, or ""."""
        if self.split in ("last", "time"):
            return f"split {self.split}"
        if self.duplicates == "last":
            return "duplicates last"
        return "half_life_days" if self.half_life_days else ""

    def parameters(self, days: list[tuple[int, int, int]]) -> dict[str, int | float]:
        """Return the parameters of the queries.

        Args:
            days: day (from 1970), interactions and newest microsecond of each day; none where no time is
                needed.
        """
        return {
            "holdout_threshold": round(self.holdout_fraction * PRIME),
            "target_threshold": round(_SHARE_OF_HISTORY_TO_PREDICT * PRIME),
            "holdout_last": self.holdout_last,
            "cut": (self._cut() if self.holdout_from else self._cut_at_midnight(days)) if days else 0,
            "newest": max((newest for _, _, newest in days), default=0),
            "half_life": self.half_life_days * _MICROSECONDS_PER_DAY,
        }

    def _cut(self) -> int:
        try:
            time = datetime.fromisoformat(self.holdout_from)
        except ValueError as error:
            raise InputError(
                "holdout_from", self.holdout_from, "is no time", "give one such as 2026-01-31"
            ) from error
        if not time.tzinfo:
            time = time.replace(tzinfo=UTC)
        return int(time.timestamp() * 1_000_000)

    def _cut_at_midnight(self, days: list[tuple[int, int, int]]) -> int:
        """Return the midnight after which comes the share nearest to the holdout fraction."""
        wanted = self.holdout_fraction * sum(count for _, count, _ in days)
        after = 0
        best = (wanted, max(day for day, _, _ in days) + 1)
        for day, count, _ in sorted(days, reverse=True):
            after += count
            best = min(best, (abs(after - wanted), day))
        return best[1] * _MICROSECONDS_PER_DAY
