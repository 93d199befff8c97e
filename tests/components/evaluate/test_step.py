"""Evaluation: the metrics of a model, computed by hand for four items."""

import math
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from components.artifacts.evaluation import PER_USER_FILE
from components.artifacts.holdout import SCHEMA
from tests.components.evaluate.cases import Case, matrix
from tests.components.profiles import profile
from tests.trainer.emulation.device import EmulatedDevice, give, require_compiler
from trainer.catalogue import SCHEMA as CATALOGUE_SCHEMA
from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.files import finish_artifact, sha256
from trainer.matrix import InteractionMatrix
from trainer.model import Model, seen_of
from trainer.vocabulary import Vocabulary

# Three users and four items; 0 means no interaction.
TRAINING = np.array([[5, 3, 0, 0], [4, 0, 0, 2], [1, 2, 0, 0]], np.float32)
HELD_OUT = np.array([[0, 0, 4, 0], [0, 3, 0, 0], [0, 0, 0, 0]], np.float32)
# Scores are these rows, as the users' factors are the identity: user 0 ranks its unseen items 2, 3.
SCORES = np.array([[9, 8, 3, 1], [9, 1, 5, 8], [1, 1, 1, 1]], np.float32)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case.write(tmp_path, SCORES, TRAINING, HELD_OUT, feedback="explicit")


def test_the_ranking_is_scored_over_unseen_items_of_users_with_held_out_ones(case: Case) -> None:
    metrics = case.evaluate(eval_k=2).metrics
    # User 0 finds item 2 first; user 1, whose unseen items rank 2, 1, finds item 1 second.
    assert metrics["recall_at_2"] == pytest.approx(1.0)
    assert metrics["ndcg_at_2"] == pytest.approx((1 + 1 / math.log2(3)) / 2)
    assert metrics["map_at_2"] == metrics["mrr_at_2"] == pytest.approx((1 + 1 / 2) / 2)
    assert metrics["hit_rate_at_2"] == 1
    # The two users' lists of two show the items 2, 3 and 2, 1, which have 0, 1, 0 and 2 interactions.
    assert metrics["coverage_at_2"] == pytest.approx(3 / 4)
    assert metrics["popularity_at_2"] == pytest.approx(3 / 4)


def test_a_gpu_ranks_for_the_model_and_the_champion(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    require_compiler()
    case.serve(SCORES[::-1], TRAINING, feedback="explicit")
    expected = case.evaluate(eval_k=2).metrics
    device = EmulatedDevice()
    give(monkeypatch, device)
    assert case.evaluate(eval_k=2).metrics == expected
    assert [name for kernels in device.compiled for name in kernels.launched] == ["select_best"] * 2


def test_a_list_of_one_finds_only_the_first(case: Case) -> None:
    metrics = case.evaluate(eval_k=1).metrics
    assert metrics["recall_at_1"] == pytest.approx(0.5)
    assert metrics["ndcg_at_1"] == pytest.approx(0.5)


def test_longer_lists_than_the_items_keep_the_name_that_was_asked_for(case: Case) -> None:
    metrics = case.evaluate(eval_k=50).metrics
    assert metrics["recall_at_50"] == 1
    assert "recall_at_10" not in case.evaluation.metrics["model"]


def test_popularity_ranks_by_training_interactions_with_seen_items_masked(case: Case) -> None:
    metrics = case.evaluate(eval_k=1).metrics
    # Interactions: 3, 2, 0, 1. User 0 has seen 0 and 1, so gets 3, a miss; user 1 gets 1, a hit.
    assert metrics["popularity_recall_at_1"] == pytest.approx(0.5)
    assert metrics["popularity_coverage_at_1"] == pytest.approx(2 / 4)


def test_errors_of_predicted_values_are_over_held_out_pairs(case: Case) -> None:
    metrics = case.evaluate(eval_k=2).metrics
    assert metrics["rmse"] == pytest.approx(math.sqrt(((4 - 3) ** 2 + (3 - 1) ** 2) / 2))
    assert metrics["mae"] == pytest.approx((1 + 2) / 2)
    # Item 2 has no training interactions, so the overall mean, 17 / 6; item 1 has the mean 2.5.
    assert metrics["popularity_rmse"] == pytest.approx(math.sqrt(((4 - 17 / 6) ** 2 + (3 - 2.5) ** 2) / 2))


def test_implicit_targets_are_one_and_only_the_model_has_an_rmse(tmp_path: Path) -> None:
    metrics = Case.write(tmp_path, SCORES, TRAINING, HELD_OUT).evaluate(eval_k=2).metrics
    assert metrics["rmse"] == pytest.approx(math.sqrt(((1 - 3) ** 2 + (1 - 1) ** 2) / 2))
    assert not {"mae", "popularity_rmse"} & metrics.keys()


def test_users_held_out_whole_get_factors_from_their_history(tmp_path: Path, case: Case) -> None:
    random = case.evaluate(eval_k=2).metrics
    history = matrix(TRAINING[[1, 0, 2]])
    history.save(case.folder / "holdout" / "history")
    metrics = case.evaluate(eval_k=2).metrics
    model = Model.load(case.folder / "model")
    folded = model.fold_in(history.by_row[0])
    predicted = [folded[0] @ SCORES[:, 2], folded[1] @ SCORES[:, 1]]
    assert metrics["rmse"] == pytest.approx(
        math.sqrt(((4 - predicted[0]) ** 2 + (3 - predicted[1]) ** 2) / 2)
    )
    # User 1's history has items 0 and 1, so that the held-out item 1 is masked and cannot be found.
    assert metrics["recall_at_2"] < random["recall_at_2"]


def test_users_without_training_interactions_get_the_popular_items(tmp_path: Path) -> None:
    training = TRAINING.copy()
    training[1] = 0
    case = Case.write(tmp_path, SCORES, training, HELD_OUT)
    case.evaluate(eval_k=2)
    # The other users have items 0 and 1, and the model would rank item 1 last for user 1.
    per_user = pq.read_table(case.folder / "evaluation" / PER_USER_FILE)
    assert per_user["hit_rate_at_2.model"].to_pylist() == [1, 1]


def test_every_recommender_has_metrics_with_intervals_that_its_users_explain(case: Case) -> None:
    case.evaluate(eval_k=1)
    evaluation = case.evaluation
    assert evaluation.metrics.keys() == {"model", "popularity", "item_cosine", "random"}
    path = case.folder / "evaluation" / PER_USER_FILE
    assert evaluation.sha256 == {PER_USER_FILE: sha256(path)}
    users = pq.read_table(path)
    assert users["user"].to_pylist() == [0, 1]
    for recommender, metrics in evaluation.metrics.items():
        estimate = metrics["ndcg_at_1"]
        values = users[f"ndcg_at_1.{recommender}"].to_numpy()
        assert estimate.value == pytest.approx(values.mean())
        assert estimate.low is not None
        assert estimate.high is not None
        assert values.min() <= estimate.low <= estimate.value <= estimate.high <= values.max()
    assert (evaluation.holdout.users, evaluation.holdout.entries) == (2, 2)


def _write_many(folder: Path, users: int, **model: Any) -> Case:
    """Write a run of users who had one or both of two items, and have to find one of two others."""
    random = np.random.default_rng(0)
    training = np.zeros((users, 4))
    training[:, 0] = 1
    training[:, 1] = random.random(users) < 0.5
    held_out = np.zeros((users, 4))
    held_out[np.arange(users), random.integers(2, 4, users)] = 1
    held_out[::5] = 0
    return Case.write(folder, random.random((users, 4)), training, held_out, **model)


def judged_users(case: Case) -> list[int]:
    users: list[int] = pq.read_table(case.folder / "evaluation" / PER_USER_FILE)["user"].to_pylist()
    return users


def test_at_most_so_many_users_are_judged_the_same_ones_whatever_is_judged(tmp_path: Path) -> None:
    case, other = (_write_many(tmp_path / str(seed), 50, seed=seed) for seed in (1, 2))
    case.evaluate(eval_users=10)
    judged = judged_users(case)
    assert len(judged) == 10
    assert set(judged) < {user for user in range(50) if user % 5}
    other.evaluate(eval_users=10)
    assert judged_users(other) == judged
    # A champion that was trained on what one of them has to find: another user is judged instead.
    trained = np.zeros((50, 4))
    trained[judged[3], 2:] = 1
    other.serve(np.ones((50, 4)), trained)
    other.evaluate(eval_users=10)
    assert len(judged_users(other)) == 10
    assert set(judged) - set(judged_users(other)) == {judged[3]}
    assert other.evaluation.holdout.checksum == case.evaluation.holdout.checksum
    evaluation = case.evaluation
    assert (evaluation.holdout.users, evaluation.holdout.entries) == (10, 10)
    assert evaluation.facts["held-out interactions"] == "40"
    assert evaluation.facts["users with interactions to predict"] == "40, of whom 10 were drawn at random"
    assert "of whom 10 were drawn at random" in case.report.read_text("utf-8")


@pytest.mark.parametrize("most", [40, 41])
def test_no_fewer_than_there_are_changes_nothing(tmp_path: Path, most: int) -> None:
    case = _write_many(tmp_path, 50)
    case.evaluate(eval_users=0)
    expected = case.evaluation
    case.evaluate(eval_users=most)
    assert case.evaluation == expected
    assert expected.holdout.users == 40
    assert expected.facts["users with interactions to predict"] == "40"


def test_segments_by_activity_and_by_item_popularity(tmp_path: Path) -> None:
    # Users have 1, 2 and 3 training interactions; items 0 and 1 have four of six, so they are the head.
    training = np.array([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 1, 1, 0]])
    held_out = np.array([[0, 1, 0, 0, 1], [0, 0, 1, 0, 0], [1, 0, 0, 0, 0]])
    scores = np.array([[0, 9, 1, 1, 1], [0, 0, 9, 1, 1], [1, 0, 0, 0, 9]])
    case = Case.write(tmp_path, scores, training, held_out)
    case.evaluate(eval_k=1, gate_metric="hit_rate")
    found = {
        (part.by, part.name): (part.users, part.metrics["model"]["hit_rate_at_1"].value)
        for part in case.evaluation.segments
    }
    assert found == {
        ("user activity", "cold"): (1, 1),
        ("user activity", "middle"): (1, 1),
        ("user activity", "heavy"): (1, 0),
        ("item popularity", "head"): (2, 0.5),
        ("item popularity", "tail"): (2, 0.5),
    }
    facts = case.evaluation.facts
    assert facts["cold users"] == "up to 1 training interactions"
    assert facts["heavy users"] == "more than 2 training interactions"
    assert facts["head items"].startswith("2,")


def test_the_same_input_gives_the_same_bytes(case: Case) -> None:
    case.evaluate(eval_k=2)
    files = [*(case.folder / "evaluation").iterdir(), case.report]
    before = [sha256(file) for file in files]
    case.evaluate(eval_k=2)
    assert len(files) == 3
    assert [sha256(file) for file in files] == before


def test_the_report_shows_the_metrics(case: Case) -> None:
    case.evaluate(eval_k=2)
    html = case.report.read_text("utf-8")
    assert re.search(r"Recall@2</bdi></span></th>\s*<td [^>]*><span><bdi>1\.0000<", html)


def test_unusable_input_is_refused_by_name_and_leaves_nothing(tmp_path: Path, case: Case) -> None:
    case.evaluate(eval_k=2)
    with pytest.raises(InputError, match="eval_k 0"):
        case.evaluate(eval_k=0)
    matrix(np.ones((3, 5))).save(case.folder / "training")
    with pytest.raises(InputError, match=r"training \(3, 5\): is not of the model's 3 users and 4 items"):
        case.evaluate(eval_k=2)
    assert not (case.folder / "evaluation" / "_manifest.json").exists()
    assert not case.report.exists()
    empty = Case.write(tmp_path / "empty", SCORES, TRAINING, np.zeros_like(HELD_OUT))
    with pytest.raises(InputError, match="holdout 0: has no entries"):
        empty.evaluate(eval_k=2)


def test_no_matrix_of_users_by_items_is_kept(tmp_path: Path) -> None:
    users, items = 10_000, 8_000
    random = np.random.default_rng(0)
    case = Case(tmp_path)
    _write_wide(case, users, items, random)
    tracemalloc.start()
    try:
        case.evaluate()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < users * items * 4 / 2


def _write_wide(case: Case, users: int, items: int, random: np.random.Generator) -> None:
    def entries(count: int) -> InteractionMatrix:
        rows, columns = np.repeat(np.arange(users), count), random.integers(0, items, users * count)
        ones = np.ones(len(rows), np.float32)
        return InteractionMatrix.from_scipy(sparse.coo_array((ones, (rows, columns)), shape=(users, items)))

    training = entries(5)
    training.save(case.folder / "training")
    entries(1).save(case.folder / "holdout" / "targets")
    finish_artifact(case.folder / "holdout", SCHEMA, {})
    (case.folder / "catalogue").mkdir()
    finish_artifact(case.folder / "catalogue", CATALOGUE_SCHEMA, {"tables": {}})
    profile().save(case.folder / "profile")
    Model(
        TrainConfig(latent_factors=2),
        random.random((users, 2), np.float32),
        random.random((items, 2), np.float32),
        Vocabulary.of_range(users),
        Vocabulary.of_range(items),
        seen_of(training.by_row),
    ).save(case.folder / "model")
