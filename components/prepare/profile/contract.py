"""The contract for interactions: how far they may differ from those of the previous run."""

import logging
import math
from pathlib import Path

from components.artifacts.profile import Profile, psi
from components.prepare.options import DriftContract
from components.prepare.profile.report import write_report
from trainer.errors import InputError

logger = logging.getLogger(__name__)


def find_breaches(contract: DriftContract, before: Profile, now: Profile) -> list[str]:
    """Return the breaches of the contract, in words."""
    breaches = []
    if dict(before.columns) != dict(now.columns):
        breaches.append(f"the columns were {_columns(before)} and are {_columns(now)}")
    if now.rows < (1 - contract.max_volume_drop) * before.rows:
        breaches.append(f"{before.rows:,} interactions fell to {now.rows:,}")
    if abs(math.log(now.density / before.density)) > math.log(contract.max_density_change):
        breaches.append(f"the density went from {before.density:.3g} to {now.density:.3g}")
    for what, old, new in (
        ("ratings", before.ratings, now.ratings),
        ("interactions per user", before.per_user, now.per_user),
        ("interactions per item", before.per_item, now.per_item),
        ("share of duplicates", _halves(before.duplicates), _halves(now.duplicates)),
    ):
        drift = psi(old, new)
        if drift > contract.max_psi:
            breaches.append(f"the {what} drifted (PSI {drift:.2f})")
    return breaches


def hold_to_contract(
    profile: Profile, contract: DriftContract, previous: Profile | None, folder: Path, report: Path
) -> None:
    """Write a profile and its report, and compare it with the previous one.

    Args:
        profile: profile of the interactions.
        contract: how far they may differ.
        previous: profile of the previous run; None if there is nothing to compare with.
        folder: folder for the profile artifact.
        report: path of the HTML file.

    Raises:
        InputError: the contract is breached, and its ``on_drift`` is "fail".
    """
    breaches = find_breaches(contract, previous, profile) if previous else []
    profile.save(folder)
    write_report(profile, previous, breaches, report)
    for breach in breaches:
        logger.warning("unlike the previous run: %s", breach)
    if breaches and contract.on_drift == "fail":
        raise InputError(
            "interactions",
            f"{profile.rows:,} rows",
            f"differ from the previous run: {'; '.join(breaches)}",
            "check the profile; set on_drift to warn to train anyway",
        )


def _halves(duplicates: float) -> dict[str, float]:
    return {"new": 1 - duplicates, "repeated": duplicates}


def _columns(profile: Profile) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in profile.columns.items())
