"""Fixtures for several tests: small ratings with a taste to find."""

import os
from pathlib import Path

import numpy as np
import pytest

# Many tests start processes, which take twice as long if each has to compile everything it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(scope="session")
def ratings_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 users of two tastes over 40 items; users prefer the items of their own half. 720 ratings."""
    random = np.random.default_rng(7)
    lines = ["userId,movieId,rating,timestamp"]
    for user in range(60):
        taste = user % 2
        items = random.choice(40, size=12, replace=False, p=_taste(taste))
        for number, item in enumerate(items):
            rating = 5 - 3 * (item // 20 != taste)
            lines.append(f"{user + 1},{item + 100},{rating},{1_400_000_000 + 86_400 * number}")
    path = tmp_path_factory.mktemp("ratings") / "ratings.csv"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def _taste(taste: int) -> np.ndarray:
    weights = np.where(np.arange(40) // 20 == taste, 5.0, 1.0)
    return weights / weights.sum()
