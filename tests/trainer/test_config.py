import json
import math
from typing import Any

import pytest

from trainer.config import AUTOMATIC, TrainConfig, TrainOptions
from trainer.errors import InputError


def test_json_round_trip() -> None:
    config = TrainConfig(latent_factors=7, feedback="explicit", wt_type=1, seed=3)
    assert TrainConfig(**json.loads(json.dumps(config.model_dump()))) == config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latent_factors", 0),
        ("latent_factors", 5.0),
        ("num_iters", True),
        ("regularization", -0.1),
        ("regularization", math.nan),
        ("regularization", "0.1"),
        ("unobs_weight", -1),
        ("alpha", math.inf),
        ("feature_wt_factor", -130),
        ("init_stddev", 0),
        ("wt_type", 2),
        ("wt_type", True),
        ("wt_type", 1.0),
        ("feedback", "both"),
        ("solver", "lu"),
        ("seed", -1),
        ("unknown", 1),
    ],
)
def test_unusable_values_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InputError) as caught:
        TrainConfig(**{field: value})
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field} {value!r}: ")


def test_the_options_are_the_parameters_and_four_may_be_auto() -> None:
    assert list(TrainOptions.model_fields) == list(TrainConfig.model_fields)
    assert [name for name, value in TrainOptions() if value == "auto" and name != "solver"] == [*AUTOMATIC]
    assert set(TrainOptions().given()) == set(TrainConfig.model_fields) - set(AUTOMATIC)


@pytest.mark.parametrize(
    ("field", "value", "number"),
    [
        ("latent_factors", "16", 16),
        ("latent_factors", 16, 16),
        ("regularization", "1e-2", 0.01),
        ("regularization", 0, 0.0),
        ("unobs_weight", "1", 1.0),
        ("alpha", 0.5, 0.5),
    ],
)
def test_a_number_is_kept_however_it_is_written(field: str, value: Any, number: float) -> None:
    given = TrainOptions(**{field: value}).given()[field]
    assert given == number
    assert type(given) is type(number)
    assert TrainConfig(**{field: given})


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("latent_factors", "many", "is neither auto nor an integer; give auto or an integer of at least 1"),
        ("latent_factors", "64.0", "is neither auto nor an integer"),
        ("latent_factors", "064", "is neither auto nor an integer"),
        ("latent_factors", 2.5, "is neither auto nor an integer"),
        ("latent_factors", True, "is neither auto nor an integer"),
        ("latent_factors", "1_000", "is neither auto nor an integer"),
        ("latent_factors", "0", "is below 1"),
        ("latent_factors", 10**400, "is above 16384"),
        ("regularization", "nan", "is not a finite number"),
        ("regularization", "AUTO", "is neither auto nor a number; give auto or a number of at least 0"),
        ("alpha", "-1", "is below 0"),
        ("unobs_weight", None, "is neither auto nor a number"),
    ],
)
def test_what_is_neither_auto_nor_such_a_number_is_refused(field: str, value: Any, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        TrainOptions(**{field: value})
    assert caught.value.field == field
    assert problem in str(caught.value)
