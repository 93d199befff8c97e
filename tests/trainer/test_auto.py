"""The choice of what is left at auto: never below the baseline, reproducible, and given values kept."""

import dataclasses
import itertools
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from tests.trainer.shapes import SHAPES, interactions, ratings
from trainer import auto
from trainer.auto import choose
from trainer.config import AUTOMATIC, TrainConfig, TrainOptions
from trainer.errors import InputError
from trainer.matrix import InteractionMatrix, Shard
from trainer.metrics import ranking_metrics, rmse
from trainer.model import Model
from trainer.popularity import Popularity
from trainer.splitting import Split
from trainer.training import fit

FIXED: dict[str, Any] = {"num_iters": 10, "solver": "cg"}


def ndcg(model: Model, split: Split) -> tuple[float, float]:
    """Return NDCG@20 of a model and of popularity on entries that nothing was chosen or trained by."""
    users = np.flatnonzero((np.diff(split.test.indptr) > 0) & (np.diff(split.train.indptr) > 0))
    targets = split.test[users]
    popularity = Popularity(np.bincount(split.train.indices, minlength=split.train.shape[1]))
    lists = model.recommend(users, 20)[0], popularity.recommend(users, 20, model.seen.rows(users))
    values = (ranking_metrics(one, targets.indptr, targets.indices, [20])["ndcg_at_20"] for one in lists)
    ours, theirs = (float(value.mean()) for value in values)
    return ours, theirs


@pytest.mark.parametrize(
    "name",
    [
        *("sparse shop log", "tiny"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("dense", "long tail", "counts")),
    ],
)
def test_the_chosen_values_do_not_lose_to_popularity(name: str) -> None:
    split = Split.exact(SHAPES[name](), 0.2, 5)
    matrix = InteractionMatrix.from_scipy(split.train)
    config, choice = choose(matrix, TrainOptions(**FIXED))
    ours, popularity = ndcg(fit(matrix, config), split)
    assert ours >= popularity
    assert choice
    assert choice.score is not None
    assert not choice.loses


def test_fixed_defaults_lose_where_the_chosen_values_win() -> None:
    split = Split.exact(SHAPES["sparse shop log"](), 0.2, 5)
    model = fit(InteractionMatrix.from_scipy(split.train), TrainConfig(**FIXED))
    ours, popularity = ndcg(model, split)
    assert ours < popularity


@pytest.mark.parametrize("options", [{}, {"unobs_weight": 0, "wt_type": 1, "feature_wt_exp": 0.0}])
def test_explicit_ratings_do_not_lose_to_their_baseline(options: dict[str, Any]) -> None:
    split = Split.exact(ratings(), 0.2, 5)
    matrix = InteractionMatrix.from_scipy(split.train)
    config, choice = choose(matrix, TrainOptions(feedback="explicit", **options, **FIXED))
    model = fit(matrix, config)
    assert choice
    if not options:
        assert choice.metric == "ndcg_at_20"
        ours, popularity = ndcg(model, split)
        assert ours >= popularity
        return
    assert choice.metric == "rmse"
    counts = np.bincount(split.train.indices)
    means = np.bincount(split.train.indices, split.train.data) / counts
    users = np.repeat(np.arange(split.test.shape[0]), np.diff(split.test.indptr))
    assert rmse(split.test.data, model.predict(users, split.test.indices)) < rmse(
        split.test.data, means[split.test.indices]
    )


@pytest.fixture(scope="module")
def matrix() -> InteractionMatrix:
    return InteractionMatrix.from_scipy(interactions(300, 80, 3_000, counts=True))


@pytest.fixture(scope="module")
def small() -> InteractionMatrix:
    return InteractionMatrix.from_scipy(interactions(100, 40, 1_000, counts=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        {"latent_factors": 300},
        {"regularization": 0.0},
        {"regularization": 0.37, "regularization_exponent": 0.0},
        {"unobs_weight": 0.07, "alpha": 0.3},
        {"latent_factors": 5, "regularization": 0.01, "unobs_weight": 0.2},
    ],
    ids=lambda given: " ".join(given),
)
def test_given_values_are_kept_and_the_others_chosen(
    matrix: InteractionMatrix, given: dict[str, Any]
) -> None:
    config, choice = choose(matrix, TrainOptions(**given, **FIXED))
    values = config.model_dump()
    assert {name: values[name] for name in given} == given
    assert choice
    assert choice.parameters == tuple(name for name in AUTOMATIC if name not in given)
    chosen = {name: values[name] for name in AUTOMATIC}
    assert [one.score for one in choice.tried if chosen == {n: getattr(one, n) for n in AUTOMATIC}] == [
        choice.score
    ]


def test_nothing_is_searched_where_everything_is_given(matrix: InteractionMatrix) -> None:
    given = {"latent_factors": 5, "regularization": 0.01, "unobs_weight": 0.2, "alpha": 1.0}
    assert choose(matrix, TrainOptions(**given)) == (TrainConfig(**given), None)


def parts(shards: Any, bounds: list[int]) -> list[Shard]:
    (whole,) = shards
    return [
        dataclasses.replace(whole.take(np.arange(first, end)), first=first)
        for first, end in itertools.pairwise(bounds)
    ]


def without_time(choice: Any) -> Any:
    return dataclasses.replace(choice, seconds=0.0)


@pytest.mark.slow
def test_the_same_entries_give_the_same_choice_however_they_are_stored(
    matrix: InteractionMatrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "_ENTRIES", 2_000)
    sharded = InteractionMatrix(
        matrix.rows,
        matrix.columns,
        parts(matrix.by_row, [0, 7, 7, 190, 300]),
        parts(matrix.by_column, [0, 50, 80]),
    )
    sharded.save(tmp_path / "matrix")
    config, choice = choose(matrix, TrainOptions(seed=3, **FIXED))
    assert choice
    assert choice.entries <= 2_000
    assert choice.users < matrix.rows
    for other in (matrix, InteractionMatrix.open(tmp_path / "matrix")):
        again, found = choose(other, TrainOptions(seed=3, **FIXED))
        assert again == config
        assert without_time(found) == without_time(choice)


def test_the_search_keeps_to_its_budget(small: InteractionMatrix, monkeypatch: pytest.MonkeyPatch) -> None:
    options = TrainOptions(alpha=0, **FIXED)
    _, free = choose(small, options)
    budget = 1_000 * 5 * 16 * 6 * 4
    monkeypatch.setattr(auto, "_BUDGET", budget)
    _, bound = choose(small, options)
    assert free
    assert bound
    assert sum(0.7 * bound.entries * 5 * one.latent_factors * 6 for one in bound.tried) <= budget
    assert len(bound.tried) < len(free.tried)


@pytest.mark.parametrize("entries", [np.eye(3, 4), np.ones((1, 1)), np.ones((2, 1))], ids=str)
def test_too_few_entries_are_no_error(entries: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    tiny = InteractionMatrix.from_scipy(sparse.csr_array(entries.astype(np.float32)))
    config, choice = choose(tiny, TrainOptions(num_iters=1))
    assert config.latent_factors <= max(1, min(entries.shape) // 2)
    assert choice
    assert choice.score is None
    assert "too little to choose by" in caplog.text
    fit(tiny, config)


def test_an_empty_matrix_is_refused() -> None:
    empty = InteractionMatrix.from_scipy(sparse.csr_array((3, 4), dtype=np.float32))
    with pytest.raises(InputError, match="has no entries"):
        choose(empty, TrainOptions())


def test_what_was_chosen_is_logged_and_kept_by_the_model(
    small: InteractionMatrix, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "trainer.auto"):
        config, choice = choose(small, TrainOptions(alpha=0, unobs_weight=0.1, **FIXED))
    assert choice
    assert caplog.messages[0].startswith(
        f"auto: {config.latent_factors} factors, regularization {config.regularization:g} "
        f"(validation NDCG@20 {choice.score:.4f}, popularity {choice.baseline:.4f}; {len(choice.tried)} tries"
    )
    model = dataclasses.replace(fit(small, config), choice=choice)
    model.save(tmp_path / "model")
    assert Model.load(tmp_path / "model").choice == choice


def test_a_warm_start_keeps_the_values_of_the_earlier_model(matrix: InteractionMatrix) -> None:
    earlier = fit(matrix, TrainConfig(latent_factors=3, regularization=0.02, num_iters=1))
    config, choice = choose(matrix, TrainOptions(unobs_weight=0.3), warm_start=earlier)
    assert (config.latent_factors, config.regularization, config.unobs_weight) == (3, 0.02, 0.3)
    assert choice is None
    fit(matrix, config.replace(num_iters=1), warm_start=earlier)
