import json
import math
from typing import Any

import pytest

from trainer.config import TrainConfig
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
