"""The champion on the same holdout: what it saw, whom it knows, and what cannot be compared."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from components.artifacts.evaluation import PER_USER_FILE
from components.registry import open_registry
from tests.components.evaluate.cases import Case, save_model
from tests.components.registry.conftest import make_version
from trainer.errors import InputError
from trainer.files import MANIFEST
from trainer.vocabulary import Vocabulary

TRAINING = np.array([[1, 1, 0, 0, 0], [1, 0, 0, 1, 0], [0, 1, 0, 1, 0]])
HELD_OUT = np.array([[0, 0, 1, 0, 1], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0]])
# The model ranks unseen items 2, 4, 3 for user 0; 2, 1, 4 for user 1; 0, 2, 4 for user 2.
SCORES = np.array([[9, 9, 5, 3, 4], [9, 4, 5, 9, 3], [5, 9, 4, 9, 3]])
# The champion ranks them 4, 3, 2; 1, 2, 4; 4, 0, 2.
SERVED = np.array([[0, 0, 1, 2, 3], [0, 3, 2, 0, 1], [2, 0, 1, 0, 3]])


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case.write(tmp_path, SCORES, TRAINING, HELD_OUT)


def per_user(case: Case, name: str) -> list[float]:
    values: list[float] = pq.read_table(case.folder / "evaluation" / PER_USER_FILE)[name].to_pylist()
    return values


def test_both_rank_for_the_same_users_with_the_same_items_masked(case: Case) -> None:
    version = case.serve(SERVED, TRAINING)
    metrics = case.evaluate(eval_k=1).metrics
    assert (metrics["recall_at_1"], metrics["champion_recall_at_1"]) == pytest.approx((1 / 3, 2 / 3))
    facts = case.evaluation.champion
    assert facts is not None
    assert (facts.version, facts.unknown_users, facts.unknown_items, facts.excluded_entries) == (
        *(version, 0, 0, 0),
    )
    assert facts.promoted == open_registry(str(case.registry)).champion().promoted


def test_what_the_champion_was_trained_on_is_left_out_and_masked_for_all(case: Case) -> None:
    # User 0 keeps only item 4 to find; user 2 keeps nothing, and is not judged.
    case.serve(SERVED, TRAINING + np.array([[0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0]]))
    case.evaluate(eval_k=2)
    assert per_user(case, "user") == [0, 1]
    # Item 2, which is masked for user 0, would have come before item 4.
    assert per_user(case, "ndcg_at_2.model") == pytest.approx([1, 1 / math.log2(3)])
    assert per_user(case, "ndcg_at_2.champion") == pytest.approx([1, 1])
    # Of items 2, 3 and 4, user 0 is left with 3, which two others have, and 4.
    assert per_user(case, "ndcg_at_2.popularity") == pytest.approx([1 / math.log2(3), 1])
    evaluation = case.evaluation
    assert evaluation.champion is not None
    assert evaluation.champion.excluded_entries == 2
    assert (evaluation.holdout.users, evaluation.holdout.entries) == (2, 2)
    assert evaluation.facts["held-out interactions that the champion was trained on"] == "2"


def test_similarity_does_not_learn_from_what_only_the_champion_saw(tmp_path: Path) -> None:
    # Users 1 to 3 have items 2 and 4 together, so whoever has item 2 is recommended item 4.
    training = np.array([[0, 0, 0, 1, 0], [0, 0, 1, 0, 1], [0, 0, 1, 0, 1], [1, 0, 1, 0, 1], [1, 1, 0, 1, 0]])
    held_out = np.zeros_like(training)
    held_out[0, [1, 2]] = 1
    case = Case.write(tmp_path, np.ones(training.shape), training, held_out)
    seen = training.copy()
    seen[0, 2] = 1
    case.serve(np.ones(training.shape), seen)
    case.evaluate(eval_k=2)
    assert per_user(case, "hit_rate_at_2.item_cosine") == [1]


def test_users_it_does_not_know_get_the_popular_items_and_are_a_segment(case: Case) -> None:
    # Its users are 1 and 2, of whom 2 has no training interactions; its items are 1, 3, 4, 7.
    scores = np.array([[9, 0, 1, 99], [9, 9, 9, 9]])
    case.serve(
        scores,
        np.array([[0, 1, 0, 1], [0, 0, 0, 0]]),
        users=Vocabulary.of([1, 2]),
        items=Vocabulary.of([1, 3, 4, 7]),
    )
    case.evaluate(eval_k=2, gate_metric="recall")
    assert per_user(case, "known_user") == [False, True, False]
    # User 1 gets item 1, and item 4, as 3 is masked and 7 is gone.
    popular = per_user(case, "recall_at_2.popularity")
    assert per_user(case, "recall_at_2.champion") == [popular[0], 1, popular[2]]
    evaluation = case.evaluation
    assert evaluation.champion is not None
    assert (evaluation.champion.unknown_users, evaluation.champion.unknown_items) == (2, 2)
    segments = {part.name: part for part in evaluation.segments if part.by == "known to the champion"}
    assert {name: part.users for name, part in segments.items()} == {
        "known users": 1,
        "unknown users": 2,
        "unknown items": 2,
    }
    assert segments["unknown items"].metrics["champion"]["recall_at_2"].value == pytest.approx(
        np.mean([per_user(case, "recall_at_2.champion.unknown_items")[user] for user in (0, 2)])
    )


def test_ids_decide_and_not_their_order(case: Case) -> None:
    """The same champion with other users and items before its own gets the same metrics."""
    case.serve(SERVED, TRAINING)
    expected = case.evaluate(eval_k=2).metrics
    other = Case(case.folder / "other")
    padded = np.zeros((5, 8))
    padded[1:4, 2:7] = SERVED
    seen = np.zeros((5, 8))
    seen[1:4, 2:7] = TRAINING
    seen[:, 0] = 1
    other.serve(padded, seen, users=Vocabulary.of(range(-1, 4)), items=Vocabulary.of(range(-2, 6)))
    actual = case.evaluate(eval_k=2, registry=str(other.registry)).metrics
    assert actual == expected


def test_users_held_out_whole_are_folded_into_the_champion_by_its_own_items(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    training = np.zeros((40, 12))
    training[:30] = random.random((30, 12)) < 0.4
    history, held_out = np.zeros((40, 12)), np.zeros((40, 12))
    history[30:, :6] = random.random((10, 6)) < 0.5
    history[30:38, 0] = 1
    history[38:, 1:] = 0
    held_out[30:, 6:] = random.random((10, 6)) < 0.5
    held_out[30:, 11] = 1
    scores = random.random((40, 12))
    case = Case.write(tmp_path, scores, training, held_out, history)
    # The champion is the same model under other indices: it lacks item 0, and has one more.
    others = np.concatenate([scores[:, 1:], random.random((40, 1))], axis=1)
    case.serve(
        others, np.concatenate([training[:, 1:], training[:, :1]], axis=1), items=Vocabulary.of(range(1, 13))
    )
    case.evaluate(eval_k=3)
    known = np.array(per_user(case, "known_user"))
    assert known.tolist() == (history[30:, 1:].sum(axis=1) > 0).tolist()
    assert known.any()
    assert not known.all()
    champion, popularity = (
        np.array(per_user(case, f"ndcg_at_3.{name}")) for name in ("champion", "popularity")
    )
    assert champion[~known].tolist() == popularity[~known].tolist()
    assert champion[known].tolist() != popularity[known].tolist()


@pytest.mark.parametrize("on_rejection", ["keep", "fail"])
def test_a_champion_that_saw_everything_leaves_the_figures_and_stays(case: Case, on_rejection: str) -> None:
    case.evaluate(eval_k=2)
    alone = case.evaluation
    version = case.serve(SERVED, TRAINING + HELD_OUT)
    judgement = case.evaluate(eval_k=2, on_rejection=on_rejection)
    assert judgement.decision == ("failed" if on_rejection == "fail" else "rejected")
    evaluation = case.evaluation
    assert evaluation.metrics == alone.metrics
    assert evaluation.champion is not None
    assert evaluation.champion.excluded_entries == 4
    assert evaluation.decision.outcome == "rejected"
    assert evaluation.decision.reason == (
        f"The champion, {version}, was trained on all held-out interactions, which leaves nothing to compare "
        "the models on: give newer interactions, and hold out the newest with split time or last."
    )


def test_a_registry_without_a_champion_is_like_none(case: Case) -> None:
    case.evaluate(eval_k=2)
    alone = case.evaluation
    case.evaluate(eval_k=2, registry=str(case.folder / "empty"))
    assert case.evaluation == alone


def test_a_model_that_predicts_something_else_has_no_errors_to_compare(tmp_path: Path) -> None:
    case = Case.write(tmp_path, SCORES, TRAINING, HELD_OUT, feedback="explicit")
    case.serve(SERVED, TRAINING)
    assert "champion_rmse" not in case.evaluate(eval_k=2).metrics
    explicit = Case(tmp_path / "explicit")
    explicit.serve(SERVED, TRAINING, feedback="explicit", items=Vocabulary.of(range(2, 7)))
    metrics = case.evaluate(eval_k=2, registry=str(explicit.registry)).metrics
    # It has seen item 2 of user 0, and scores item 4 with 1; item 1 is unknown, so that its mean, 1, is
    # predicted for user 1; user 2 has a score of 2 for item 2.
    assert metrics["champion_mae"] == pytest.approx((abs(1 - 1) + abs(1 - 1) + abs(1 - 2)) / 3)


def other_ids(case: Case) -> None:
    names = Vocabulary.of(["a", "b", "c"])
    case.serve(SERVED, TRAINING, users=names)


def other_items(case: Case) -> None:
    case.serve(SERVED, TRAINING, items=Vocabulary.of(range(100, 105)))


def damaged(case: Case) -> None:
    version = case.serve(SERVED, TRAINING)
    factors = case.registry / "versions" / version / "model" / "item_factors.npy"
    content = bytearray(factors.read_bytes())
    content[-1] ^= 1
    factors.write_bytes(content)


def other_schema(case: Case) -> None:
    version = case.serve(SERVED, TRAINING)
    manifest = case.registry / "versions" / version / "model" / MANIFEST
    text = manifest.read_text("utf-8")
    manifest.write_text(text.replace('"schema_version": 1', '"schema_version": 9'), "utf-8")


def without_a_model(case: Case) -> None:
    registry = open_registry(str(case.registry))
    version = make_version(1)
    folder = save_model(case.folder / "served", SERVED, TRAINING)
    registry.add(version, {"saved_model": folder})
    registry.promote(version.name, None)


@pytest.mark.parametrize(
    ("spoil", "problem", "remedy"),
    [
        (
            other_ids,
            "has user ids of type string, and the new model int64",
            "give the registry of these data",
        ),
        (other_items, "knows none of the 5 items", "give the registry of these data"),
        (damaged, "does not match the checksum in its manifest", "wals models rollback"),
        (other_schema, r"is \('wals.model', 9\), not \('wals.model', 1\)", "wals models rollback"),
        (without_a_model, "has no model", "wals models rollback"),
    ],
)
def test_a_champion_that_cannot_be_compared_is_refused_in_a_line(
    case: Case, spoil: Any, problem: str, remedy: str
) -> None:
    spoil(case)
    with pytest.raises(InputError, match=problem) as caught:
        case.evaluate(eval_k=2)
    line = str(caught.value)
    assert line.startswith(f"registry '{case.registry}': the champion, {make_version(1).name}, ")
    assert remedy in line
    assert "\n" not in line
    assert not (case.folder / "evaluation" / MANIFEST).exists()
