"""Mistakes that look like another's: the message names what has to be changed."""

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from components.extract.options import ExtractOptions
from components.extract.step import extract
from pipeline.definition.pipelines import PIPELINES
from pipeline.definition.settings import CustomJob, StepSettings, merged
from tests.components import steps
from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.files import MANIFEST
from trainer.matrix import InteractionMatrix
from trainer.options import Bounds
from trainer.training import fit
from trainer.vocabulary import Vocabulary

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


NUMBERS = [
    (pipeline, name)
    for pipeline, record in PIPELINES.items()
    for name, parameter in record.parameters.items()
    if parameter.type is float
]


@pytest.mark.parametrize("value", ["1e308", "-1e308", "1e309", "nan"])
@pytest.mark.parametrize(("pipeline", "name"), NUMBERS)
def test_every_number_has_bounds_and_is_named_outside_of_them(pipeline: str, name: str, value: str) -> None:
    parameter = PIPELINES[pipeline].parameters[name]
    with pytest.raises(InputError) as refused:
        parameter.parse(value, text=True)
    assert refused.value.field == name
    assert " and " in refused.value.remedy or value in ("1e309", "nan")


TRAINING = [
    (name, bound, settings)
    for name, field in TrainConfig.model_fields.items()
    if field.annotation is float
    for bound in (Bounds.of(field).low, Bounds.of(field).high)
    for settings in ({}, {"feedback": "explicit"}, {"feedback": "explicit", "wt_type": 1})
]


@pytest.mark.parametrize("solver", ["cg", "cholesky"])
@pytest.mark.parametrize(("name", "value", "settings"), TRAINING)
def test_the_last_value_within_bounds_trains_or_is_named(
    name: str, value: float, settings: dict[str, object], solver: str
) -> None:
    config = TrainConfig(latent_factors=2, num_iters=2, solver=solver, **{name: value}, **settings)
    try:
        model = fit(RATINGS, config)
    except InputError as error:
        named = f"{error.field} {error.remedy}"
    else:
        named = name
        assert np.isfinite(model.user_factors).all()
        assert np.isfinite(model.item_factors).all()
    assert name in named


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("holdout_fraction", {"holdout_fraction": 1e-308}),
        ("holdout_last", {"split": "last", "holdout_last": 1_000_000}),
        ("holdout_from", {"split": "time", "holdout_from": "2100-01-01"}),
        ("holdout_from", {"split": "time", "holdout_from": "1970-01-02"}),
    ],
)
def test_a_split_that_leaves_nothing_names_what_decides_it(
    field: str, options: dict[str, object], ratings_csv: Path, tmp_path: Path
) -> None:
    steps.extract(source=str(ratings_csv), output=tmp_path / "interactions", timestamp_column="timestamp")
    outputs = {
        name: tmp_path / name for name in ("training", "holdout", "vocabulary", "profile", "profile_report")
    }
    with pytest.raises(InputError) as refused:
        steps.prepare(interactions=tmp_path / "interactions", **outputs, **options)
    assert (refused.value.field, refused.value.value) == (field, options[field])


INTEGERS = [
    *((name, "") for name in ("accelerators", "retries", "retry_seconds")),
    *((name, "custom_job") for name in ("boot_disk_gb", "max_wait_seconds", "replicas", "timeout_seconds")),
]


@pytest.mark.parametrize("value", [2**53, 10**30, 10**400], ids=["16 digits", "31 digits", "401 digits"])
@pytest.mark.parametrize(("name", "within"), INTEGERS)
def test_every_number_of_a_setting_has_bounds(name: str, within: str, value: int) -> None:
    given = {"custom_job": {"machine_type": "g2-standard-8", name: value}} if within else {name: value}
    with pytest.raises(InputError, match=r"is above .*; give an integer") as refused:
        merged("train", StepSettings(cpu="1", memory="1G"), given)
    assert refused.value.field == ".".join(filter(None, ("train", within, name)))


def test_the_table_has_every_number_of_the_settings() -> None:
    fields = {**StepSettings.model_fields, **CustomJob.model_fields}
    assert {name for name, _ in INTEGERS} == {
        name for name, field in fields.items() if field.annotation in (int, int | None)
    }


@pytest.mark.parametrize("digits", [30, 5000])
@pytest.mark.parametrize(("name", "unit"), [("cpu", ""), ("cpu", "m"), ("memory", ""), ("memory", "Gi")])
def test_quantities_have_bounds(name: str, unit: str, digits: int) -> None:
    text = "9" * digits + unit
    with pytest.raises(InputError) as refused:
        merged("train", StepSettings(cpu="1", memory="1G"), {name: text})
    assert refused.value.field == f"train.{name}"


@pytest.mark.parametrize("rating", [1e16, -1e30, 3e38])
def test_a_rating_that_no_training_could_use_is_refused_by_preparation(rating: float, tmp_path: Path) -> None:
    source = tmp_path / "ratings.csv"
    rows = [(user, item, user % 5 + 1.0) for user in range(20) for item in range(9)]
    lines = [f"{user},{item},{value}" for user, item, value in [*rows, (3, 4, rating), (3, 4, rating)]]
    source.write_text("userId,movieId,rating\n" + "\n".join(lines), "utf-8")
    steps.extract(source=str(source), output=tmp_path / "interactions")
    names = ("training", "holdout", "vocabulary", "profile", "profile_report")
    with pytest.raises(InputError, match="row_filter") as refused:
        steps.prepare(interactions=tmp_path / "interactions", **{name: tmp_path / name for name in names})
    assert refused.value.field == "rating"
    assert refused.value.value == pytest.approx(rating, rel=1e-6)
    assert not (tmp_path / "training" / MANIFEST).exists()


@pytest.mark.parametrize("exponent", range(4, 38, 3))
@pytest.mark.parametrize("solver", ["cg", "cholesky", "ialspp"])
@pytest.mark.parametrize("settings", [{"feedback": "explicit"}, {"alpha": 1.0}, {"alpha": 0.0}], ids=str)
def test_a_value_too_large_to_train_on_is_named(
    settings: dict[str, object], solver: str, exponent: int
) -> None:
    random = np.random.default_rng(0)
    values = ((random.random((30, 20)) < 0.3) * random.integers(1, 6, (30, 20))).astype(np.float32)
    values[3, 7] = value = np.float32(10.0**exponent)
    users = Vocabulary.of([f"u{number:02}" for number in range(30)])
    config = TrainConfig(latent_factors=8, num_iters=3, solver=solver, **settings)
    named = f"rating {float(value)}: of user 'u03' and item 7 is too large"
    try:
        model = fit(InteractionMatrix.from_scipy(sparse.csr_array(values)), config, users=users)
    except InputError as error:
        line = str(error)
    else:
        line = named
        assert np.isfinite(model.user_factors).all()
        assert np.isfinite(model.item_factors).all()
    assert line.startswith(named)


def test_values_that_do_not_count_are_not_blamed() -> None:
    values = np.array([[1e30, 0, 2], [0, 3, 1]], np.float32)
    config = TrainConfig(
        latent_factors=8, num_iters=2, solver="cholesky", unobs_weight=0.0, regularization=0.0
    )
    with pytest.raises(InputError) as refused:
        fit(InteractionMatrix.from_scipy(sparse.csr_array(values)), config)
    assert refused.value.field == "regularization"
