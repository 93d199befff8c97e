import logging
import os
import pty
import subprocess
import sys

import pytest

from trainer.progress import progress

WORK = """
import logging
from trainer.progress import progress
with progress("iteration", 3, logging.getLogger()) as report:
    for piece in range(3):
        report(f"objective {piece}")
"""


def test_lines_without_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("tests.progress")
    with caplog.at_level("INFO"), progress("iteration", 5, logger, done=3) as report:
        report("objective 7")
        report("objective 6")
    assert caplog.messages == ["iteration 4 of 5: objective 7", "iteration 5 of 5: objective 6"]


def test_a_bar_on_a_terminal() -> None:
    terminal, end = pty.openpty()
    subprocess.run([sys.executable, "-c", WORK], stderr=end, env=os.environ | {"TERM": "xterm"}, check=True)
    os.close(end)
    shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert "3/3" in shown
    assert "objective 2" in shown
