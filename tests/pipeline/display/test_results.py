"""What `wals run` shows at its end."""

import pytest
from rich.console import Console

from components.artifacts.evaluation import Drift
from pipeline.display.results import decision_lines
from tests.components.notify.examples import REASON, evaluation


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (0.1, []),
        (-0.5, ["The data have drifted since the champion: the interactions fell by 50.0%."]),
    ],
)
def test_drift_of_the_data_is_one_line_after_the_decision(value: float, lines: list[str]) -> None:
    drift = Drift(name="interactions", value=value, limit=0.3, detail="the interactions fell by 50.0%")
    console = Console(width=40)
    with console.capture() as capture:
        console.print(decision_lines(evaluation(drift=(drift,))), soft_wrap=True)
    assert capture.get().splitlines() == [f"rejected: {REASON}", *lines]
