"""Takes the pictures of an evaluation report that the documentation shows: docs/report-*.png.

The numbers are those of the report, so it is that of a run on the sample:

    .venv/bin/python docs/screenshots.py runs/DATE-TIME/report.html
"""

import io
import shutil
import sys
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

_FOLDER = Path(__file__).parent
_COLOURS = 256
"""Enough for text and flat colours, and a third of the size of a true-colour picture."""


class _Picture(NamedTuple):
    """A picture: size of the window in CSS pixels, pixels of each, and what is on top."""

    width: int
    height: int
    scale: float
    scheme: Literal["light", "dark"]
    place: str


_PICTURES = {
    "desktop": _Picture(1200, 1300, 1, "light", ""),
    "phone": _Picture(390, 844, 1.5, "light", "examples"),
    "dark": _Picture(1200, 1300, 1, "dark", "segments"),
}


def installed_browser() -> str | None:
    """Return the path of Chromium or Chrome, None if neither is installed."""
    programs = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    return next(filter(None, programs), None)


def take(report: Path) -> None:
    """Write the pictures of a report.

    Args:
        report: its HTML file.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed_browser())
        for name, picture in _PICTURES.items():
            taken = Image.open(io.BytesIO(_shot(browser, report, picture))).convert("RGB")
            # Other methods drop the colours of small marks.
            reduced = taken.quantize(_COLOURS, Image.Quantize.MAXCOVERAGE)
            reduced.save(_FOLDER / f"report-{name}.png", optimize=True)
        browser.close()


def _shot(browser: Browser, report: Path, picture: _Picture) -> bytes:
    page = browser.new_page(
        viewport={"width": picture.width, "height": picture.height},
        device_scale_factor=picture.scale,
        color_scheme=picture.scheme,
        reduced_motion="reduce",
    )
    page.goto(f"{report.resolve().as_uri()}#{picture.place}")
    return page.screenshot()


if __name__ == "__main__":
    take(Path(sys.argv[1]))
