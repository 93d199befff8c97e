"""The profile artifact (schema ``wals.profile`` v2): what the interactions of a run are like.

profile.json    the fields of `Profile`
_manifest.json  the name of this file
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from components.artifacts.interactions import Source
from trainer.errors import InputError
from trainer.files import Count, Manifest, Schema, begin_artifact, finish_artifact, read_manifest, write_json

SCHEMA = Schema("wals.profile", 2)
FILE = "profile.json"

COLD = 5
"""Interactions from which on a user is not cold."""

QUANTILES = (0, 0.25, 0.5, 0.75, 0.99, 1)
"""Shares of the users, and of the items, whose numbers of interactions a profile tells."""

_MIN_SHARE = 1e-4
_LARGEST_RATING_BIN = 8 * 128
"""Bin of the largest float32."""

_LARGEST_SIZE_BIN = 49


def _bins(lowest: int, highest: int) -> AfterValidator:
    def checked(histogram: Mapping[str, int]) -> Mapping[str, int]:
        # The length first: a number of many digits takes long to read.
        if not all(len(bin_) < 6 and lowest <= int(bin_) <= highest for bin_ in histogram):
            raise ValueError("has a bin out of range")
        if not any(histogram.values()):
            raise ValueError("is empty")
        return histogram

    return AfterValidator(checked)


def _is_time(text: str) -> str:
    if text:
        datetime.fromisoformat(text)
    return text


Positive = Annotated[Count, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Time = Annotated[str, AfterValidator(_is_time)]
Histogram = Mapping[str, Count]
Quantiles = Annotated[tuple[Count, ...], Field(max_length=len(QUANTILES))]


class Profile(Manifest):
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
        user_quantiles: for each of `QUANTILES`, the most interactions that this share of the users has;
            empty in profiles of earlier releases.
        item_quantiles: likewise of the items.
        cold_users: share of users with fewer than 5 interactions.
        earliest: time of the first interaction, ISO 8601 in UTC; "" without times.
        latest: time of the last one, likewise.
        source: where the interactions come from; None if that is not known.
        checksum: SHA-256 of the manifest of the interactions artifact; "" if it is not known.
    """

    columns: Mapping[str, str]
    rows: Positive
    interactions: Count
    duplicates: Share
    users: Positive
    items: Positive
    density: Annotated[Finite, Field(gt=0)]
    ratings: Annotated[Histogram, _bins(-_LARGEST_RATING_BIN, _LARGEST_RATING_BIN)]
    lowest_rating: Finite
    highest_rating: Finite
    per_user: Annotated[Histogram, _bins(0, _LARGEST_SIZE_BIN)]
    per_item: Annotated[Histogram, _bins(0, _LARGEST_SIZE_BIN)]
    user_quantiles: Quantiles = ()
    item_quantiles: Quantiles = ()
    cold_users: Share
    earliest: Time
    latest: Time
    source: Source | None = None
    checksum: str = ""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the profile artifact in a local folder.

        Raises:
            InputError: the folder has no usable profile.
        """
        try:
            read_manifest(folder, SCHEMA, Manifest)
            return cls.model_validate_json((folder / FILE).read_bytes())
        except (InputError, OSError, ValueError) as error:
            problem = f"is not a complete profile of version {SCHEMA.version}"
            raise InputError("profile", str(folder), problem, "run prepare again") from error

    def save(self, folder: Path) -> None:
        """Write the profile as an artifact."""
        begin_artifact(folder)
        write_json(folder / FILE, self.model_dump(mode="json"))
        finish_artifact(folder, SCHEMA, {"file": FILE})

    @property
    def newest(self) -> datetime | None:
        """Time of the last interaction; None without times."""
        if not self.latest:
            return None
        time = datetime.fromisoformat(self.latest)
        return time if time.tzinfo else time.replace(tzinfo=UTC)


def psi(before: Mapping[str, float], now: Mapping[str, float]) -> float:
    """Return the population stability index between two histograms with the same bins.

    It is the sum of (q - p) ln(q / p) over the bins' shares p before and q now (Siddiqi 2006). Shares are at
    least 0.0001, because an empty bin would make the sum infinite.
    """
    bins = sorted({*before, *now})
    old, new = shares(before, bins), shares(now, bins)
    return float(np.sum((new - old) * np.log(new / old)))


def shares(histogram: Mapping[str, float], bins: Sequence[str]) -> NDArray[np.float64]:
    """Return the share of each of the ``bins`` in a histogram, (bins,), at least 0.0001."""
    counts = np.array([histogram.get(bin_, 0) for bin_ in bins], float)
    bounded: NDArray[np.float64] = np.maximum(counts / counts.sum(), _MIN_SHARE)
    return bounded
