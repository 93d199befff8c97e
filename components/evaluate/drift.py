"""Drift: how far the data of a run differ from those of the champion."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from components.artifacts.evaluation import Drift
from components.artifacts.profile import Profile, psi

# docs/metrics.md gives the reasons.
LARGEST_CHANGE = 0.3
"""Largest change of a number, and largest share of users or items that come or go."""

LARGEST_DISTANCE = 0.4
"""Largest Jensen-Shannon distance of the items' shares."""

LARGEST_PSI = 0.25
"""Largest population stability index of the ratings."""

LARGEST_DELAY = 3.0
"""Days by which the newest interaction may be older than the champion's was."""

_DAY = timedelta(days=1)


def of_profiles(now: Profile, before: Profile, at: datetime, then: datetime) -> Iterator[Drift]:
    """Yield the differences that two profiles tell.

    Args:
        now: profile of the data of this run.
        before: profile of the champion's.
        at: time of this run, with a zone.
        then: when the champion was delivered, with a zone.
    """
    for name, old, new in (
        ("interactions", before.rows, now.rows),
        ("users", before.users, now.users),
        ("items", before.items, now.items),
    ):
        yield _change(name, old, new)
    if len({*now.ratings, *before.ratings}) > 1:
        shift = psi(before.ratings, now.ratings)
        yield Drift(
            name="ratings",
            value=shift,
            limit=LARGEST_PSI,
            detail=f"the distribution of the ratings shifted by a PSI of {shift:.2f}",
        )
    if now.newest and before.newest:
        age, usual = (at - now.newest) / _DAY, (then - before.newest) / _DAY
        yield Drift(
            name="newest interaction",
            value=max(age - usual, 0.0),
            limit=LARGEST_DELAY,
            detail=f"the newest interaction is {age:,.1f} days old, and was {usual:,.1f} days old then",
        )


def of_ids(kind: str, now: int, before: int, common: int) -> Iterator[Drift]:
    """Yield how many users or items are new or gone.

    Args:
        kind: ``users`` or ``items``.
        now: number of those of the new model.
        before: number of those of the champion.
        common: number of those that both have.
    """
    new, gone = 1 - common / now, 1 - common / before
    yield Drift(
        name=f"new {kind}",
        value=new,
        limit=LARGEST_CHANGE,
        detail=f"{new:.1%} of the {kind} are new ({now - common:,} of {now:,})",
    )
    yield Drift(
        name=f"vanished {kind}",
        value=gone,
        limit=LARGEST_CHANGE,
        detail=f"{gone:.1%} of the champion's {kind} are gone ({before - common:,} of {before:,})",
    )


def of_popularity(now: NDArray[np.int64], before: NDArray[np.int64]) -> Drift:
    """Return how far the items' shares of the interactions have shifted.

    The Jensen-Shannon distance is sqrt((KL(p, m) + KL(q, m)) / 2), with the shares p and q, their mean m and
    the Kullback-Leibler divergence KL in bits: 0 for the same shares, 1 for two catalogues without a common
    item (Lin 1991; Endres and Schindelin 2003, who show that the root makes it a metric).

    Args:
        now: (items,) interactions of each item that either model knows.
        before: (items,) the champion's of the same items.
    """
    # Slow to import, and a run without a champion does not need it.
    from scipy.spatial.distance import jensenshannon

    distance = float(jensenshannon(before, now, base=2))
    return Drift(
        name="popularity",
        value=distance,
        limit=LARGEST_DISTANCE,
        detail=f"the popularity of the items shifted by a Jensen-Shannon distance of {distance:.2f}",
    )


def _change(name: str, before: int, now: int) -> Drift:
    change = now / before - 1
    detail = f"there are {now:,} {name}, as before"
    if change:
        verb = "rose" if change > 0 else "fell"
        detail = f"the {name} {verb} by {abs(change):.1%}, from {before:,} to {now:,}"
    return Drift(name=name, value=change, limit=LARGEST_CHANGE, detail=detail)
