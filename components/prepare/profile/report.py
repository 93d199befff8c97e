"""The profile as one self-contained HTML file, which the consoles show in a frame."""

from collections.abc import Sequence
from pathlib import Path

from components.artifacts.profile import Profile
from components.reports.page import write_page
from components.reports.profile import profile_charts, profile_table

_BEFORE = "previous run"


def write_report(profile: Profile, previous: Profile | None, breaches: Sequence[str], path: Path) -> None:
    """Write a profile, the previous one and the breaches of the contract as an HTML file."""
    profiles = {"this run": profile, **({_BEFORE: previous} if previous else {})}
    write_page(
        "components.prepare.profile",
        path,
        breaches=breaches,
        compared=previous is not None,
        facts=profile_table("The input before filters", profiles),
        histograms=profile_charts(profile, previous, _BEFORE),
    )
