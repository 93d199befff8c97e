"""Tuning: candidates, trials with early stopping, and the choice of the best."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from components.tune.choose import choose
from components.tune.options import ChooseOptions, SuggestOptions, TrialOptions
from components.tune.study import Pruner, best, suggest
from components.tune.trial import run_trial
from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.matrix import InteractionMatrix

CONFIG = {"latent_factors": 16}
TUNED = TrainConfig(**CONFIG)


def finished(number: int, value: float, *, pruned: bool = False, **parameters: float) -> dict[str, Any]:
    """A trial as it comes back through the pipeline: every number a float."""
    space = {"regularization": 0.1, "regularization_exponent": 0.5, "unobs_weight": 0.1, "alpha": 1.0}
    return {
        "number": float(number),
        "parameters": {"latent_factors": 16.0, **space, **parameters},
        "values": {"2": value / 2, "4": value},
        "pruned": pruned,
        "rungs": {"completed_rung_0": value / 2, "completed_rung_1": value},
    }


def suggested(trials: list[dict[str, Any]], **changed: Any) -> list[dict[str, Any]]:
    options = SuggestOptions(**{**CONFIG, "width": 4, "max_latent_factors": 64, **changed})
    candidates: list[dict[str, Any]] = json.loads(json.dumps(suggest(options, first=trials, second=[])))
    return candidates


def test_the_first_candidate_is_the_unchanged_configuration() -> None:
    candidates = suggested([])
    assert [candidate["number"] for candidate in candidates] == [0, 1, 2, 3]
    assert candidates[0]["parameters"] == {
        name: getattr(TUNED, name)
        for name in ("latent_factors", "regularization", "regularization_exponent", "unobs_weight", "alpha")
    }
    assert len({candidate["parameters"]["unobs_weight"] for candidate in candidates}) == 4
    assert all(8 <= candidate["parameters"]["latent_factors"] <= 64 for candidate in candidates)


def test_the_same_trials_and_seed_give_the_same_candidates() -> None:
    earlier = [finished(number, 0.1 * number) for number in range(4)]
    assert suggested(earlier) == suggested(earlier)
    assert suggested(earlier) != suggested(earlier, seed=7)
    assert [candidate["number"] for candidate in suggested(earlier)] == [4, 5, 6, 7]


def test_later_candidates_go_where_earlier_trials_were_good() -> None:
    random = np.random.default_rng(5)
    earlier = [
        finished(number, 1 - abs(np.log10(weight) + 1), unobs_weight=weight)  # best at 0.1
        for number, weight in enumerate(10.0 ** random.uniform(-3, 0, size=40))
    ]
    weights = [candidate["parameters"]["unobs_weight"] for candidate in suggested(earlier, width=20)]
    assert np.median(np.abs(np.log10(weights) + 1)) < 0.5  # by chance alone it would be 0.9


@pytest.mark.parametrize(
    ("changed", "tuned"),
    [
        ({"feedback": "implicit"}, "alpha"),
        ({"feedback": "explicit", "wt_type": 0}, "feature_wt_factor"),
        ({"feedback": "explicit", "wt_type": 1}, "feature_wt_exp"),
    ],
)
def test_the_feedback_decides_which_weighting_is_tuned(changed: dict[str, Any], tuned: str) -> None:
    (candidate,) = suggested([], **changed, width=1)
    assert {"alpha", "feature_wt_factor", "feature_wt_exp"} & set(candidate["parameters"]) == {tuned}


def test_a_trial_behind_half_of_the_others_is_stopped() -> None:
    rungs = [{"completed_rung_0": value} for value in (0.2, 0.4, 0.6, 0.8)]
    assert Pruner(rungs).stops(2, 0.3)
    assert not Pruner(rungs).stops(2, 0.7)
    assert not Pruner([]).stops(2, 0.01), "the first trials have none to compare with"


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    random = np.random.default_rng(1)
    tastes = np.arange(80)[:, None] % 2 == np.arange(30)[None, :] % 2
    entries = random.random((80, 30)) < np.where(tastes, 0.5, 0.05)
    InteractionMatrix.from_scipy(sparse.csr_array(entries.astype(np.float32))).save(tmp_path / "matrix")
    return tmp_path / "matrix"


def test_a_trial_reports_its_metric_at_each_rung_and_can_be_stopped(matrix: Path) -> None:
    options = TrialOptions(num_iters=6, eval_k=5)
    candidate = {"number": 3.0, "parameters": {"latent_factors": 8.0}, "rungs_before": []}
    trial = run_trial(options, matrix=matrix, candidate=candidate)
    assert list(trial["values"]) == ["2", "4", "6"]
    assert not trial["pruned"]
    assert all(0 < value <= 1 for value in trial["values"].values())

    better = [{"completed_rung_0": 2.0}, {"completed_rung_0": 3.0}]
    stopped = run_trial(options, matrix=matrix, candidate={**candidate, "rungs_before": better})
    assert stopped["pruned"]
    assert list(stopped["values"]) == ["2"]
    assert stopped["values"]["2"] == trial["values"]["2"], "the validation set is the same for all trials"
    assert stopped["rungs"]["completed_rung_0"] == trial["values"]["2"]


def test_the_best_trial_that_ran_to_its_end_is_chosen_and_reported(tmp_path: Path) -> None:
    # Matplotlib warns about an axis on which all trials have the same value; in a real study none has.
    names = ("regularization", "regularization_exponent", "unobs_weight", "alpha")
    one, two, three = (dict.fromkeys(names, value) for value in (0.1, 0.2, 0.3))
    trials = [
        finished(0, 0.2, **one),
        finished(1, 0.5, latent_factors=32.0, **two),
        finished(2, 0.9, pruned=True, **three),
    ]
    report = tmp_path / "study.html"
    options = ChooseOptions(wt_type=1)
    first, second, third = ([trial] for trial in trials)
    chosen, validation = choose(options, first=first, second=second, third=third, study=report)
    assert chosen.latent_factors == 32
    assert isinstance(chosen.latent_factors, int)
    assert chosen.wt_type == 1
    assert validation == 0.5
    html = report.read_text("utf-8")
    assert html.count("<svg") == 1
    assert "<strong>Trial 1</strong> is the best, with NDCG@20 0.5000" in html
    places = [html.index(f"<bdi>{value}</bdi>") for value in ("0.5000", "0.2000", "0.9000")]
    assert places == sorted(places)
    with pytest.raises(InputError, match="trials"):
        best([finished(0, 0.2, pruned=True)])


def test_bad_input_is_refused_by_name() -> None:
    for changed, named in (({"width": 0}, "width"), ({"max_latent_factors": 4}, "max_latent_factors")):
        with pytest.raises(InputError, match=named):
            suggested([], **changed)


def test_a_trial_ends_when_the_final_training_would(matrix: Path) -> None:
    candidate = {"number": 0.0, "parameters": {"latent_factors": 8.0}, "rungs_before": []}
    options = TrialOptions(num_iters=16, eval_k=5, min_rel_progress=0.9)
    trial = run_trial(options, matrix=matrix, candidate=candidate)
    assert list(trial["values"]) == ["2"]
    assert not trial["pruned"]
