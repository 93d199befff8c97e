"""A profile of interactions, as preparation writes it."""

from typing import Any

from components.artifacts.interactions import Source
from components.artifacts.profile import Profile


def profile(**changes: Any) -> Profile:
    """Return a profile of 4,000 ratings in January 2026, with these fields changed."""
    fields = {
        "columns": {"user_id": "int64", "item_id": "int64"},
        "rows": 4_000,
        "interactions": 3_900,
        "duplicates": 0.01,
        "users": 200,
        "items": 50,
        "density": 0.4,
        "ratings": {str(bin_): 100 + bin_ for bin_ in range(8, 22)},
        "lowest_rating": 1.0,
        "highest_rating": 5.0,
        "per_user": {str(bin_): 10 for bin_ in range(31)},
        "per_item": {str(bin_): 5 for bin_ in range(10)},
        "user_quantiles": (1, 10, 18, 30, 90, 120),
        "item_quantiles": (1, 40, 75, 110, 300, 412),
        "cold_users": 0.1,
        "earliest": "2026-01-01 00:00:00+00:00",
        "latest": "2026-02-01 00:00:00+00:00",
        "source": Source(uri="ratings.csv", data_type="ratings", files=("ratings.csv",)),
        "checksum": "cd" * 32,
    }
    return Profile(**{**fields, **changes})
