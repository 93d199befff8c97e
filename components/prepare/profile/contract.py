"""The contract that interactions are held to: how far they may differ from the previous ones."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from components.prepare.options import DriftContract
from components.prepare.profile.profile import Profile, shares
from components.prepare.profile.report import write_report
from trainer.errors import InputError

logger = logging.getLogger(__name__)


def breaches(contract: DriftContract, before: Profile, now: Profile) -> list[str]:
    """Return the terms of the contract that do not hold, in words."""
    found = []
    if dict(before.columns) != dict(now.columns):
        found.append(f"the columns were {_columns(before)} and are {_columns(now)}")
    if now.rows < (1 - contract.max_volume_drop) * before.rows:
        found.append(f"{before.rows:,} interactions fell to {now.rows:,}")
    if abs(math.log(now.density / before.density)) > math.log(contract.max_density_change):
        found.append(f"the density went from {before.density:.3g} to {now.density:.3g}")
    for what, old, new in (
        ("ratings", before.ratings, now.ratings),
        ("interactions per user", before.per_user, now.per_user),
        ("interactions per item", before.per_item, now.per_item),
        ("share of duplicates", _halves(before.duplicates), _halves(now.duplicates)),
    ):
        drift = psi(old, new)
        if drift > contract.max_psi:
            found.append(f"the {what} drifted (PSI {drift:.2f})")
    return found


def psi(before: Mapping[str, float], now: Mapping[str, float]) -> float:
    """Return the population stability index between two histograms with the same bins.

    It is the sum of (q - p) ln(q / p) over the bins' shares p before and q now (Siddiqi 2006). A share is
    taken as 0.0001 at least, as an empty bin would make the sum infinite.
    """
    bins = sorted({*before, *now})
    old, new = shares(before, bins), shares(now, bins)
    return float(np.sum((new - old) * np.log(new / old)))


def hold_to_contract(
    profile: Profile, contract: DriftContract, previous: Profile | None, folder: Path, report: Path
) -> None:
    """Write a profile with its report, and compare it with the one before.

    Args:
        profile: of the interactions.
        contract: how far they may differ.
        previous: profile of the previous run; None for nothing to compare with.
        folder: for the profile artifact.
        report: path of the HTML file.

    Raises:
        InputError: the contract does not hold, and its ``on_drift`` is "fail".
    """
    broken = breaches(contract, previous, profile) if previous else []
    profile.save(folder)
    write_report(profile, previous, broken, report)
    for breach in broken:
        logger.warning("unlike the previous run: %s", breach)
    if broken and contract.on_drift == "fail":
        raise InputError(
            "interactions",
            f"{profile.rows:,} rows",
            f"differ from the previous run: {'; '.join(broken)}",
            "look at the profile; to train nevertheless set on_drift to warn",
        )


def _halves(duplicates: float) -> dict[str, float]:
    return {"new": 1 - duplicates, "repeated": duplicates}


def _columns(profile: Profile) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in profile.columns.items())
