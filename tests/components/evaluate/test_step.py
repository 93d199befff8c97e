"""Evaluation: the metrics of a model, computed by hand for four items."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from components.artifacts.holdout import SCHEMA
from tests.components.steps import evaluate
from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.files import finish_artifact
from trainer.matrix import InteractionMatrix
from trainer.model import Iteration, Model, seen_of
from trainer.vocabulary import Vocabulary

# Three users and four items; 0 means no interaction.
TRAINING = np.array([[5, 3, 0, 0], [4, 0, 0, 2], [1, 2, 0, 0]], np.float32)
HELD_OUT = np.array([[0, 0, 4, 0], [0, 3, 0, 0], [0, 0, 0, 0]], np.float32)
# Scores are these rows, as the users' factors are the identity: user 0 ranks its unseen items 2, 3.
SCORES = np.array([[9, 8, 3, 1], [9, 1, 5, 8], [1, 1, 1, 1]], np.float32)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    return write(tmp_path, feedback="explicit", held_out=HELD_OUT)


def write(folder: Path, *, feedback: str, held_out: np.ndarray) -> dict[str, Path]:
    training = InteractionMatrix.from_scipy(sparse.csr_array(TRAINING))
    training.save(folder / "training")
    InteractionMatrix.from_scipy(sparse.csr_array(held_out)).save(folder / "holdout" / "targets")
    finish_artifact(folder / "holdout", SCHEMA, {})
    Model(
        TrainConfig(latent_factors=3, feedback=feedback),
        np.eye(3, dtype=np.float32),
        np.ascontiguousarray(SCORES.T),
        Vocabulary.of_range(3),
        Vocabulary.of_range(4),
        seen_of(training.by_row),
        (Iteration(1, 12.5, 0.1), Iteration(2, 11.0, 0.1)),
    ).save(folder / "model")
    return {name: folder / name for name in ("model", "training", "holdout")} | {"report": folder / "report"}


def test_the_ranking_is_scored_over_unseen_items_of_users_with_held_out_ones(
    folders: dict[str, Path],
) -> None:
    metrics = evaluate(**folders, eval_k=2)
    # User 0 finds item 2 first; user 1, whose unseen items rank 2, 1, finds item 1 second.
    assert metrics["recall_at_2"] == pytest.approx(1.0)
    assert metrics["ndcg_at_2"] == pytest.approx((1 + 1 / math.log2(3)) / 2)
    # The two users' lists of two show the items 2, 3 and 2, 1.
    assert metrics["coverage"] == pytest.approx(3 / 4)


def test_a_list_of_one_finds_only_the_first(folders: dict[str, Path]) -> None:
    metrics = evaluate(**folders, eval_k=1)
    assert metrics["recall_at_1"] == pytest.approx(0.5)
    assert metrics["ndcg_at_1"] == pytest.approx(0.5)


def test_popularity_ranks_by_training_interactions_with_seen_items_masked(folders: dict[str, Path]) -> None:
    metrics = evaluate(**folders, eval_k=1)
    # Interactions: 3, 2, 0, 1. User 0 has seen 0 and 1, so gets 3, a miss; user 1 gets 1, a hit.
    assert metrics["popularity_recall_at_1"] == pytest.approx(0.5)
    assert metrics["popularity_coverage"] == pytest.approx(2 / 4)


def test_rmse_is_over_held_out_pairs(folders: dict[str, Path]) -> None:
    metrics = evaluate(**folders, eval_k=2)
    assert metrics["rmse"] == pytest.approx(math.sqrt(((4 - 3) ** 2 + (3 - 1) ** 2) / 2))
    # Item 2 has no training interactions, so the overall mean, 17 / 6; item 1 has the mean 2.5.
    assert metrics["popularity_rmse"] == pytest.approx(math.sqrt(((4 - 17 / 6) ** 2 + (3 - 2.5) ** 2) / 2))


def test_implicit_targets_are_one_and_the_baseline_has_no_rmse(tmp_path: Path) -> None:
    metrics = evaluate(**write(tmp_path, feedback="implicit", held_out=HELD_OUT), eval_k=2)
    assert metrics["rmse"] == pytest.approx(math.sqrt(((1 - 3) ** 2 + (1 - 1) ** 2) / 2))
    assert "popularity_rmse" not in metrics


def test_users_held_out_whole_get_factors_from_their_history(tmp_path: Path) -> None:
    folders = write(tmp_path, feedback="explicit", held_out=HELD_OUT)
    random = evaluate(**folders, eval_k=2)
    history = InteractionMatrix.from_scipy(sparse.csr_array(TRAINING[[1, 0, 2]]))
    history.save(folders["holdout"] / "history")
    metrics = evaluate(**folders, eval_k=2)
    model = Model.load(folders["model"])
    folded = model.fold_in(history.by_row[0])
    predicted = [folded[0] @ SCORES[:, 2], folded[1] @ SCORES[:, 1]]
    assert metrics["rmse"] == pytest.approx(
        math.sqrt(((4 - predicted[0]) ** 2 + (3 - predicted[1]) ** 2) / 2)
    )
    # User 1's history has items 0 and 1, so that the held-out item 1 is masked and cannot be found.
    assert metrics["recall_at_2"] < random["recall_at_2"]


def test_the_report_shows_metrics_and_pictures_and_needs_no_other_file(folders: dict[str, Path]) -> None:
    evaluate(**folders, eval_k=2)
    html = folders["report"].read_text("utf-8")
    assert html.count("<svg") == 2
    assert re.search(r"Recall@2</td>\s*<td class=\"number\">1\.0000</td>", html)
    assert not re.search(r"(src|href)=\"(?!#)", html)
    assert evaluate(**folders, eval_k=2)
    assert folders["report"].read_text("utf-8") == html


def test_unusable_input_is_refused_by_name(tmp_path: Path, folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="eval_k 0"):
        evaluate(**folders, eval_k=0)
    empty = write(tmp_path / "empty", feedback="explicit", held_out=np.zeros_like(HELD_OUT))
    with pytest.raises(InputError, match="holdout"):
        evaluate(**empty, eval_k=2)
    assert not empty["report"].exists()
    with pytest.raises(InputError, match=r"wals\.holdout"):
        evaluate(**{**folders, "holdout": folders["training"]}, eval_k=2)
