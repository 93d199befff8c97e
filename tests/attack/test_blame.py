"""Mistakes that look like another's: the message names what has to be changed."""

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from components.extract.options import ExtractOptions
from components.extract.step import extract
from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.matrix import InteractionMatrix
from trainer.training import fit

pytestmark = pytest.mark.attack

RATINGS = InteractionMatrix.from_scipy(sparse.csr_array(np.array([[1, 0, 2], [0, 3, 1]], np.float32)))


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("row_filter", "rating > 'high'"),
        ("row_filter", "userId = 'abc'"),
        ("row_filter", "rating + true"),
        ("query", "SELECT userId AS user_id, movieId AS item_id, CAST('x' AS FLOAT64) AS rating FROM source"),
        ("query", "SELECT userId + 'a' AS user_id, movieId AS item_id, rating FROM source"),
        ("query", "SELECT nothing AS user_id, movieId AS item_id, rating FROM source"),
        ("query", "SELECT userId AS user_id, movieId AS item_id, SUM('x') AS rating FROM source"),
    ],
)
def test_types_that_do_not_fit_blame_the_statement(
    field: str, text: str, ratings_csv: Path, tmp_path: Path
) -> None:
    data_type = {"data_type": "query"} if field == "query" else {}
    options = ExtractOptions(source=str(ratings_csv), **{field: text}, **data_type)
    with pytest.raises(InputError) as refused:
        extract(options, interactions=tmp_path / "interactions", catalogue=tmp_path / "catalogue")
    assert refused.value.field == field
    assert refused.value.value == text
    assert "Candidate functions" not in str(refused.value)


@pytest.mark.parametrize(
    ("field", "value", "others"),
    [
        ("regularization", 1e308, {}),
        ("regularization", 1e308, {"regularization_exponent": 0.0}),
        ("regularization_exponent", 1e308, {}),
        ("regularization_exponent", 200.0, {}),
        ("unobs_weight", 1e308, {"feedback": "explicit"}),
        ("feature_wt_factor", 1e308, {"feedback": "explicit"}),
        ("feature_wt_exp", -1e308, {"feedback": "explicit", "wt_type": 1}),
    ],
)
def test_the_parameter_that_is_too_large_is_named(
    field: str, value: float, others: dict[str, object]
) -> None:
    with pytest.raises(InputError) as refused:
        fit(RATINGS, TrainConfig(latent_factors=2, num_iters=2, **{field: value}, **others))
    assert refused.value.field == field
