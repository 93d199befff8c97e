import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from tests.trainer.reference import objective, regularization, solve, weights_and_targets
from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.matrix import InteractionMatrix, MatrixWriter
from trainer.training import fit
from trainer.vocabulary import Vocabulary

CONFIGS = {
    "implicit": TrainConfig(latent_factors=7, num_iters=4, solver="cholesky"),
    "confidence": TrainConfig(latent_factors=7, num_iters=4, alpha=0.5, unobs_weight=1.0, solver="cholesky"),
    "linear": TrainConfig(
        latent_factors=5, num_iters=4, feedback="explicit", unobs_weight=0.01, regularization=0.07,
        regularization_exponent=0.0, solver="cholesky",
    ),
    "log": TrainConfig(
        latent_factors=5, num_iters=4, feedback="explicit", wt_type=1, feature_wt_exp=0.5, solver="cholesky"
    ),
}  # fmt: skip


def random_matrix(users: int = 40, items: int = 25, density: float = 0.2, seed: int = 0) -> sparse.csr_array:
    random = np.random.default_rng(seed)
    dense = np.where(random.random((users, items)) < density, random.normal(1, 2, (users, items)), 0)
    return sparse.csr_array(dense)


@pytest.mark.parametrize("name", CONFIGS)
def test_factors_solve_the_dense_problem(name: str) -> None:
    matrix, config = random_matrix(), CONFIGS[name]
    model = fit(InteractionMatrix.from_scipy(matrix), config)
    weights, targets = weights_and_targets(matrix, config)
    exact = solve(weights.T, targets.T, regularization(matrix, config)[1], model.user_factors)
    np.testing.assert_allclose(model.item_factors, exact, rtol=1e-4, atol=1e-4 * np.abs(exact).max())


@pytest.mark.parametrize("name", CONFIGS)
def test_reported_objective_is_that_of_the_factors_and_never_rises(name: str) -> None:
    matrix, config = random_matrix(), CONFIGS[name]
    model = fit(InteractionMatrix.from_scipy(matrix), config)
    objectives = [iteration.objective for iteration in model.history]
    expected = objective(matrix, config, model.user_factors, model.item_factors)
    assert objectives[-1] == pytest.approx(expected, rel=1e-4)
    assert all(after <= before * (1 + 1e-6) for before, after in itertools.pairwise(objectives))


def test_solvers_end_at_the_same_objective() -> None:
    matrix = InteractionMatrix.from_scipy(random_matrix(200, 100))
    final = {}
    for solver in ("cholesky", "cg", "ialspp"):
        config = TrainConfig(
            latent_factors=16, num_iters=60, block_size=8, regularization=0.05, solver=solver
        )
        final[solver] = fit(matrix, config).history[-1].objective
    assert final["cg"] == pytest.approx(final["cholesky"], rel=1e-3)
    assert final["ialspp"] == pytest.approx(final["cholesky"], rel=1e-3)


def test_the_same_seed_gives_the_same_bytes() -> None:
    matrix = InteractionMatrix.from_scipy(random_matrix())
    one, two, other = (fit(matrix, TrainConfig(latent_factors=8, seed=seed)) for seed in (1, 1, 2))
    assert one.user_factors.tobytes() == two.user_factors.tobytes()
    assert one.item_factors.tobytes() == two.item_factors.tobytes()
    assert one.item_factors.tobytes() != other.item_factors.tobytes()


def test_shards_give_the_same_model(tmp_path: Path) -> None:
    whole = random_matrix()
    with MatrixWriter(tmp_path, *whole.shape) as writer:
        for matrix, add in ((whole, writer.add_rows), (sparse.csr_array(whole.T), writer.add_columns)):
            for number, start in enumerate(range(0, matrix.shape[0], 13)):
                part = matrix[start : start + 13]
                add(number, start, part.indptr, part.indices, part.data)
        writer.finish()
    config = TrainConfig(latent_factors=8, solver="cholesky")
    sharded = fit(InteractionMatrix.open(tmp_path), config)
    single = fit(InteractionMatrix.from_scipy(whole), config)
    np.testing.assert_allclose(sharded.item_factors, single.item_factors, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(sharded.seen.indices, single.seen.indices)


@pytest.mark.parametrize(
    ("has_holdout", "expected"),
    [
        (
            False,
            [
                ("WARNING", "1 of 40 users has no entries; its factors are 0"),
                ("WARNING", "2 of 25 items have no entries; their factors are 0"),
            ],
        ),
        (
            True,
            [
                ("INFO", "1 of 40 users has all its entries in the holdout; its factors are 0"),
                ("INFO", "2 of 25 items have all their entries in the holdout; their factors are 0"),
            ],
        ),
    ],
    ids=["everything", "holdout"],
)
def test_empty_rows_have_the_factor_zero_and_are_logged(
    has_holdout: bool, expected: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    matrix = random_matrix(density=0.5).tolil()
    matrix[3], matrix[:, 5:7] = 0, 0
    config = TrainConfig(latent_factors=8)
    with caplog.at_level("INFO"):
        model = fit(InteractionMatrix.from_scipy(sparse.csr_array(matrix)), config, has_holdout=has_holdout)
    assert not model.user_factors[3].any()
    assert not model.item_factors[5:7].any()
    logged = [(record.levelname, record.message) for record in caplog.records]
    assert [line for line in logged if "factors are 0" in line[1]] == expected


def test_a_singular_problem_is_refused() -> None:
    matrix = InteractionMatrix.from_scipy(sparse.csr_array(np.array([[1.0, 0.0], [1.0, 0.0]])))
    with pytest.raises(InputError, match="leaves a user or item without entries undetermined"):
        fit(matrix, TrainConfig(regularization=0.0))
    few = InteractionMatrix.from_scipy(sparse.csr_array(np.ones((3, 3))))
    with pytest.raises(InputError, match="leaves the equations of row 0 singular"):
        fit(few, TrainConfig(regularization=0.0, unobs_weight=0.0, latent_factors=8, solver="cholesky"))


def test_warm_start_reuses_factors_by_id() -> None:
    matrix = random_matrix()
    config = TrainConfig(latent_factors=8, num_iters=30)
    old_ids = Vocabulary.of([f"i{number:02d}" for number in range(25)])
    earlier = fit(InteractionMatrix.from_scipy(matrix), config, items=old_ids)
    # Item 0 is gone, and a new one without a factor comes first.
    changed = sparse.csr_array(sparse.hstack([matrix[:, [24]], matrix[:, 1:]]))
    new_ids = Vocabulary.of(["a new item", *old_ids.ids.to_pylist()[1:]])
    one = config.replace(num_iters=1)
    interactions = InteractionMatrix.from_scipy(changed)
    warm = fit(interactions, one, items=new_ids, warm_start=earlier)
    cold = fit(interactions, one, items=new_ids)
    settled = fit(interactions, config, items=new_ids).history[-1].objective
    assert warm.history[-1].objective < (cold.history[-1].objective + settled) / 2
    assert warm.item_factors[0].any()
    with pytest.raises(InputError, match="latent_factors 9: differs from 8 in the earlier model"):
        fit(interactions, one.replace(latent_factors=9), items=new_ids, warm_start=earlier)


def test_training_stops_when_progress_stops() -> None:
    matrix = InteractionMatrix.from_scipy(random_matrix())
    config = TrainConfig(latent_factors=8, num_iters=50, min_rel_progress=0.01)
    history = fit(matrix, config).history
    gains = [1 - after.objective / before.objective for before, after in itertools.pairwise(history)]
    assert gains[-1] < 0.01
    assert all(gain >= 0.01 for gain in gains[:-1])
    metrics = iter([0.1, 0.2, 0.201, 0.3])
    model = fit(matrix, config, validation=lambda _: next(metrics))
    assert [iteration.validation for iteration in model.history] == [0.1, 0.2, 0.201]


def test_a_vocabulary_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="items 3: does not match the matrix, which has 25"):
        fit(InteractionMatrix.from_scipy(random_matrix()), TrainConfig(), items=Vocabulary.of([1, 2, 3]))
