"""The gate: what is delivered, and the sentence that says why."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.artifacts.evaluation import SCHEMA, Decision
from components.evaluate.gate import Part, Rival, Scores, decide
from components.evaluate.options import EvaluateOptions
from components.evaluate.reject import reject
from tests.components.evaluate.cases import Case
from trainer.choice import Choice
from trainer.config import AUTOMATIC
from trainer.errors import InputError, WalsError
from trainer.files import finish_artifact
from trainer.options import Options

USERS = 400
IMPROVE = "run wals tune, or give more data"
NOISE = np.random.default_rng(3).normal(0, 0.05, USERS)
NOISE -= NOISE.mean()


def users(mean: float, count: int = USERS, noise: float = 0.0) -> np.ndarray:
    """Return values of users with this mean, with or without noise around it."""
    return (mean + noise * NOISE[:count]).astype(np.float32)


def judged(
    model: float,
    *,
    champion: float | None,
    popularity: float = 0.2,
    parts: Any = (),
    noise: float = 0.0,
    fixed: tuple[str, ...] = (),
    **options: Any,
) -> Decision:
    rival = None
    if champion is not None:
        segments = [
            Part("user activity", name, users(ours, n), users(theirs, n)) for name, n, ours, theirs in parts
        ]
        rival = Rival("20261126T201500Z-1a2b3c4d", users(champion), segments)
    scores = Scores("ndcg_at_20", users(model, noise=noise), users(popularity), rival, fixed)
    return decide(EvaluateOptions(**options), scores, 42)


@pytest.mark.parametrize(
    ("case", "outcome", "reason"),
    [
        pytest.param(
            {"model": 0.3, "champion": None},
            "blessed",
            "NDCG@20 0.300 is 50.0 % above popularity's 0.200, and there is no champion yet.",
            id="first",
        ),
        pytest.param(
            {"model": 0.15, "champion": None},
            "rejected",
            f"NDCG@20 0.150 is 25.0 % below popularity's 0.200: {IMPROVE}.",
            id="below popularity",
        ),
        pytest.param(
            {"model": 0.15, "champion": None, "fixed": ("alpha",)},
            "rejected",
            f"NDCG@20 0.150 is 25.0 % below popularity's 0.200: set alpha to auto, {IMPROVE}.",
            id="below popularity with a parameter that is given",
        ),
        pytest.param(
            {"model": 0.15, "champion": 0.1},
            "rejected",
            f"NDCG@20 0.150 is 25.0 % below popularity's 0.200: {IMPROVE}.",
            id="above the champion but below popularity",
        ),
        pytest.param(
            {"model": 0.21, "champion": None, "min_over_popularity": 0.1},
            "rejected",
            "NDCG@20 0.210 is 5.0 % above popularity's 0.200, and min_over_popularity requires 10.0 %: "
            f"{IMPROVE}.",
            id="too little above popularity",
        ),
        pytest.param(
            {"model": 0.0, "champion": None, "popularity": 0.0},
            "rejected",
            f"NDCG@20 is 0, because no list has a held-out item: {IMPROVE}.",
            id="nothing found",
        ),
        pytest.param(
            {"model": 0.412, "champion": 0.4},
            "blessed",
            "NDCG@20 0.412 is 3.0 % above the champion's 0.400 (95 % interval 3.0 % to 3.0 %).",
            id="better",
        ),
        pytest.param(
            {"model": 0.4, "champion": 0.4},
            "blessed",
            "NDCG@20 0.400 equals the champion's 0.400 (95 % interval 0.0 % to 0.0 %).",
            id="equal",
        ),
        pytest.param(
            {"model": 0.38, "champion": 0.4},
            "rejected",
            "NDCG@20 0.380 is 5.0 % below the champion's 0.400 (95 % interval -5.0 % to -5.0 %).",
            id="worse",
        ),
        pytest.param(
            {"model": 0.38, "champion": 0.4, "min_gain": -0.06},
            "blessed",
            "NDCG@20 0.380 is 5.0 % below the champion's 0.400 (95 % interval -5.0 % to -5.0 %).",
            id="a loss that is allowed",
        ),
        pytest.param(
            {"model": 0.412, "champion": 0.4, "min_gain": 0.05},
            "rejected",
            "NDCG@20 0.412 is 3.0 % above the champion's 0.400 (95 % interval 3.0 % to 3.0 %), and min_gain "
            "requires 5.0 %.",
            id="too little gain",
        ),
        pytest.param(
            {"model": 0.3, "champion": 0.0},
            "blessed",
            "NDCG@20 0.300 is above the champion's 0.000.",
            id="a champion that finds nothing",
        ),
        pytest.param(
            {"model": 0.412, "champion": 0.4, "parts": [("cold", 100, 0.35, 0.4), ("heavy", 100, 0.3, 0.4)]},
            "rejected",
            "In the segment heavy (user activity, 100 users), NDCG@20 0.300 is 25.0 % below the champion's "
            "0.400 (95 % interval -25.0 % to -25.0 %), and max_segment_loss allows 10.0 %.",
            id="the segment that loses most",
        ),
        pytest.param(
            {"model": 0.412, "champion": 0.4, "parts": [("heavy", 99, 0.3, 0.4)]},
            "blessed",
            "NDCG@20 0.412 is 3.0 % above the champion's 0.400 (95 % interval 3.0 % to 3.0 %).",
            id="a loss in a small segment",
        ),
        pytest.param(
            {"model": 0.412, "champion": 0.4, "parts": [("heavy", 100, 0.3, 0.4)], "max_segment_loss": 0.3},
            "blessed",
            "NDCG@20 0.412 is 3.0 % above the champion's 0.400 (95 % interval 3.0 % to 3.0 %).",
            id="a loss in a segment that is allowed",
        ),
    ],
)
def test_the_decision_and_its_reason(case: dict[str, Any], outcome: str, reason: str) -> None:
    decision = judged(**case)
    assert (decision.outcome, decision.reason) == (outcome, reason)
    assert decision.metric == "ndcg_at_20"
    assert all(check.detail.endswith(".") for check in decision.checks)
    assert all(check.passed for check in decision.checks) == (outcome == "blessed")


def test_every_condition_is_told_in_order() -> None:
    decision = judged(0.38, champion=0.4, parts=[("cold", 100, 0.3, 0.4)], require_significance=True)
    assert [(check.name, check.passed) for check in decision.checks] == [
        ("gain over popularity", True),
        ("gain over the champion", False),
        ("significance of the gain", False),
        ("loss in segments", False),
    ]


@pytest.mark.parametrize(
    ("noise", "options", "outcome"),
    [
        (1, {}, "blessed"),
        (1, {"require_significance": True}, "rejected"),
        (1, {"require_significance": True, "min_gain": -0.05}, "blessed"),
        (0.1, {"require_significance": True}, "blessed"),
    ],
)
def test_significance_is_about_the_whole_interval(
    noise: float, options: dict[str, Any], outcome: str
) -> None:
    # A gain of 0.5 %, whose interval is 1.2 % wide to each side with noise 1, and 0.1 % with noise 0.1.
    decision = judged(0.402, champion=0.4, noise=noise, **options)
    assert decision.outcome == outcome
    if outcome == "rejected":
        assert "starts below the 0.0 % that min_gain requires" in decision.reason


def test_a_loss_in_a_segment_that_chance_explains_rejects_nothing() -> None:
    # Of 100 users, 12 have a hit instead of 20, and these are others.
    ours, theirs = np.zeros(100, np.float32), np.zeros(100, np.float32)
    ours[:12], theirs[12:32] = 1, 1
    part = Part("item popularity", "tail", ours, theirs)
    assert part.gain == pytest.approx(-0.4)
    rival = Rival("20261126T201500Z-1a2b3c4d", users(0.4), [part])
    scores = Scores("hit_rate_at_20", users(0.41), users(0.2), rival)
    assert decide(EvaluateOptions(), scores, 42).outcome == "blessed"
    # If the 12 are among the 20, the same loss is significant.
    theirs[:] = 0
    theirs[:20] = 1
    assert decide(EvaluateOptions(), scores, 42).outcome == "rejected"


TASTE = np.random.default_rng(11).random((300, 30))
SEEN = np.random.default_rng(12).random(TASTE.shape) < 0.2
NOISY = np.random.default_rng(13).random(TASTE.shape) < 0.2
FOUND = (TASTE > 0.85) & ~SEEN


def test_a_model_as_good_as_the_champion_or_better_is_blessed(tmp_path: Path) -> None:
    case = Case.write(tmp_path, TASTE, SEEN, FOUND)
    case.serve(TASTE, SEEN)
    assert case.evaluate(eval_k=5).decision == "blessed"
    assert "equals the champion's" in case.evaluation.decision.reason
    worse = Case(tmp_path / "worse")
    worse.serve(TASTE + NOISY, SEEN)
    better = case.evaluate(eval_k=5, registry=str(worse.registry), on_rejection="fail")
    assert better.decision == "blessed"
    assert "above the champion's" in case.evaluation.decision.reason


@pytest.mark.parametrize(("on_rejection", "decision"), [("keep", "rejected"), ("fail", "failed")])
def test_a_worse_model_is_rejected_and_can_fail_the_run(
    tmp_path: Path, on_rejection: str, decision: str
) -> None:
    case = Case.write(tmp_path, TASTE + NOISY, SEEN, FOUND)
    case.serve(TASTE, SEEN)
    judgement = case.evaluate(eval_k=5, on_rejection=on_rejection)
    assert judgement.decision == decision
    reason = case.evaluation.decision.reason
    assert "below the champion's" in reason
    assert judgement.metadata["reason"] == reason
    with pytest.raises(WalsError) as ended:
        reject(Options(), evaluation=case.folder / "evaluation")
    assert str(ended.value) == f"the model is rejected: {reason}"
    assert ended.value.exit_code == 1


@pytest.mark.parametrize(
    ("chosen", "advice"),
    [
        (None, "set latent_factors, regularization, unobs_weight and alpha to auto, run wals tune"),
        (("unobs_weight", "alpha"), "set latent_factors and regularization to auto, run wals tune"),
        (AUTOMATIC, "run wals tune"),
    ],
    ids=["none", "some", "all"],
)
def test_only_parameters_that_were_given_are_to_be_set_to_auto(
    tmp_path: Path, chosen: tuple[str, ...] | None, advice: str
) -> None:
    choice = chosen and Choice(chosen, "ndcg_at_20", 0.1, 0.2, 100, 1000, 1.0, ())
    case = Case.write(tmp_path, 1 - TASTE, SEEN, FOUND, choice=choice)
    assert case.evaluate(eval_k=5).decision == "rejected"
    assert f": {advice}, or give more data." in case.evaluation.decision.reason


def test_what_was_tuned_is_not_to_be_tuned(tmp_path: Path) -> None:
    case = Case.write(tmp_path, 1 - TASTE, SEEN, FOUND)
    case.evaluate(eval_k=5, tuned=True)
    reason = case.evaluation.decision.reason
    assert reason.endswith(": give more data.")


def test_rejecting_requires_an_evaluation(tmp_path: Path) -> None:
    tmp_path.joinpath("evaluation").mkdir()
    finish_artifact(tmp_path / "evaluation", SCHEMA, {})
    with pytest.raises(InputError, match=r"wals\.evaluation"):
        reject(Options(), evaluation=tmp_path / "evaluation")


@pytest.mark.parametrize("metric", ["recall", "map", "mrr", "hit_rate"])
def test_the_metric_that_decides_is_a_choice(tmp_path: Path, metric: str) -> None:
    case = Case.write(tmp_path, TASTE, SEEN, FOUND)
    case.evaluate(eval_k=5, gate_metric=metric)
    assert case.evaluation.decision.metric == f"{metric}_at_5"
