from pathlib import Path

import numpy as np
import pytest

from tests.trainer.reference import regularization, solve, weights_and_targets
from tests.trainer.test_training import CONFIGS, random_matrix
from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.matrix import InteractionMatrix, Shard
from trainer.model import Model
from trainer.training import fit
from trainer.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def model() -> Model:
    users = Vocabulary.of([f"u{number:02d}" for number in range(40)])
    return fit(InteractionMatrix.from_scipy(random_matrix()), TrainConfig(latent_factors=8), users=users)


def test_round_trip_through_memory_mapped_files(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    loaded = Model.load(tmp_path)
    assert (loaded.config, loaded.history) == (model.config, model.history)
    assert loaded.users.ids.equals(model.users.ids)
    assert isinstance(loaded.user_factors.base, np.memmap)
    np.testing.assert_array_equal(loaded.item_factors, model.item_factors)
    np.testing.assert_array_equal(loaded.recommend([3, 1], 5)[0], model.recommend([3, 1], 5)[0])


@pytest.mark.parametrize("name", ["user_factors.npy", "items.parquet", "seen.indices.npy"])
def test_damaged_files_are_refused_by_name(model: Model, tmp_path: Path, name: str) -> None:
    model.save(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-1])
    with pytest.raises(InputError, match=name):
        Model.load(tmp_path)


def test_factors_that_are_not_finite_are_refused(model: Model, tmp_path: Path) -> None:
    broken = np.array(model.item_factors)
    broken[4, 2] = np.nan
    Model(model.config, model.user_factors, broken, model.users, model.items, model.seen).save(tmp_path)
    with pytest.raises(InputError, match="item_factors 'row 4': is not finite"):
        Model.load(tmp_path)


def test_recommend_omits_seen_items(model: Model) -> None:
    everyone = np.arange(40)
    masked, _ = model.recommend(everyone, 25)
    unmasked, scores = model.recommend(everyone, 25, mask_seen=False)
    matrix = random_matrix()
    for user in everyone:
        seen = set(matrix.indices[matrix.indptr[user] : matrix.indptr[user + 1]].tolist())
        assert set(masked[user].tolist()) - {-1} == set(range(25)) - seen
        assert set(unmasked[user].tolist()) == set(range(25))
    assert (np.diff(scores, axis=1) <= 0).all()
    np.testing.assert_allclose(scores[:, 0], model.predict(everyone, unmasked[:, 0]), rtol=1e-5)


def test_similar_items_are_ranked_by_cosine_without_the_item_itself(model: Model) -> None:
    unit = model.item_factors / np.maximum(np.linalg.norm(model.item_factors, axis=1), 1e-30)[:, None]
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    items, scores = model.similar_items(np.arange(25), 3)
    np.testing.assert_array_equal(items, np.argsort(-cosines, axis=1, kind="stable")[:, :3])
    np.testing.assert_allclose(scores, -np.sort(-cosines, axis=1)[:, :3], atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_fold_in_solves_the_training_problem_of_new_users(name: str) -> None:
    matrix, config = random_matrix(), CONFIGS[name]
    model = fit(InteractionMatrix.from_scipy(matrix), config)
    (rows,) = InteractionMatrix.from_scipy(matrix).by_row
    weights, targets = weights_and_targets(matrix, config)
    exact = solve(weights, targets, regularization(matrix, config)[0], model.item_factors)
    np.testing.assert_allclose(model.fold_in(rows), exact, rtol=1e-3, atol=1e-4 * np.abs(exact).max())


def test_recommend_for_a_history_masks_it(model: Model) -> None:
    history = Shard(0, np.array([0, 3]), np.array([2, 5, 11], np.int32), np.ones(3, np.float32))
    (items,), _ = model.recommend_for(history, 25)
    assert set(items[:22].tolist()) == set(range(25)) - {2, 5, 11}
    assert items[22:].tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.recommend([40], 5), "user index 40"),
        (lambda model: model.recommend([0], 0), "k 0: is below 1"),
        (lambda model: model.similar_items([-1], 5), "item index -1"),
        (lambda model: model.predict([0], [25]), "item index 25"),
        (
            lambda model: model.fold_in(Shard(0, np.array([0, 1]), np.array([25]), np.ones(1, np.float32))),
            "is not an index below 25",
        ),
    ],
)
def test_bad_queries_are_refused(model: Model, call: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(model)  # type: ignore[operator]


def test_recommending_in_blocks_changes_nothing(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    users = np.arange(40)[::-1]
    whole, scores = model.recommend(users, 5)
    monkeypatch.setattr("trainer.model._USERS_AT_ONCE", 7)
    blocks, block_scores = model.recommend(users, 5)
    np.testing.assert_array_equal(blocks, whole)
    np.testing.assert_allclose(block_scores, scores, rtol=1e-5)
