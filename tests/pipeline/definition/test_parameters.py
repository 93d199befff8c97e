"""The pipelines' parameters, as configuration files and the command line give them."""

from typing import Any

import pytest

from pipeline.definition.pipelines import TRAINING, TUNING
from pipeline.platforms.environments import read_parameters
from trainer.errors import InputError

VALUES = [
    (name, value)
    for name, parameter in TUNING.parameters.items()
    if not parameter.required
    for value in dict.fromkeys((parameter.default, *parameter.choices))
]


@pytest.mark.parametrize(("name", "value"), VALUES)
def test_every_default_and_choice_is_accepted_as_a_value_and_as_text(name: str, value: Any) -> None:
    parameter = TUNING.parameters[name]
    for parsed in (parameter.parse(value, text=False), parameter.parse(str(value), text=True)):
        assert parsed == value
        assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("wt_type", "2", "wt_type 2: is unknown; choose from 0, 1"),
        ("seed", "-1", "seed -1: is below 0; give an integer of at least 0"),
        (
            "latent_factors",
            "many",
            "latent_factors 'many': is neither auto nor an integer; give auto or an integer of at least 1",
        ),
        ("holdout_fraction", "1", "holdout_fraction 1.0: is not below 1; give a number above 0 and below 1"),
        ("has_header", "maybe", "has_header 'maybe': is not true or false; give another value"),
        ("window_start", "soon", "window_start 'soon': is not a time"),
    ],
)
def test_text_that_cannot_be_used_is_one_line(name: str, text: str, line: str) -> None:
    with pytest.raises(InputError) as refused:
        TRAINING.parameters[name].parse(text, text=True)
    assert str(refused.value).startswith(line)


def test_problems_of_single_values_do_not_hide_each_other() -> None:
    given = {
        "source": "nope://x",
        "window_days": -1,
        "snapshot": "yesterday",
        "project": "No",
        "wt_type": True,
    }
    values, problems = read_parameters(TRAINING, given, {})
    assert values == {}
    assert {problem.field for problem in problems} == set(given)
    direct = TRAINING.problems(
        {name: parameter.default for name, parameter in TRAINING.parameters.items() if not parameter.required}
        | given
    )
    assert {problem.field for problem in direct} == set(given)


def test_values_that_conflict_are_reported_by_name() -> None:
    given = {"source": "r.csv", "window_days": 7, "window_start": "2026-01-01", "snapshot": "2026-01-01"}
    _, problems = read_parameters(TRAINING, given, {})
    assert {problem.field for problem in problems} == {"window_days", "snapshot"}
