"""A real browser, and the rules of accessibility that it checks the reports with."""

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from docs.screenshots import installed_browser
from trainer.files import sha256

_AXE = Path(__file__).parent / "axe"
_BUILD = Path(__file__).parents[3] / "build" / "axe"


# Playwright's event loop would be in the way of the tests of other modules.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The installed Chromium or Chrome; Playwright's own browsers are not downloaded."""
    program = installed_browser()
    if program is None:
        pytest.fail("no browser (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """axe-core, a script that finds violations of WCAG in a page; installed once for each lock file."""
    lock = _AXE / "package-lock.json"
    folder = _BUILD / sha256(lock)[:12]
    _BUILD.mkdir(parents=True, exist_ok=True)
    with (_BUILD / "lock").open("w") as held:
        # The other workers of pytest-xdist wait for the first one.
        fcntl.flock(held, fcntl.LOCK_EX)
        script = folder / "node_modules" / "axe-core" / "axe.min.js"
        if not script.exists():
            shutil.copytree(_AXE, folder, dirs_exist_ok=True)
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            try:
                subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.fail(f"no axe-core (Debian: apt install npm): {getattr(error, 'stderr', '') or error}")
    return script.read_text("utf-8")
