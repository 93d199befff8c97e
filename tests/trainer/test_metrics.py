from typing import Any

import numpy as np
import pytest
import pytrec_eval
from numpy.typing import NDArray
from scipy import stats

from trainer.errors import InputError
from trainer.metrics import (
    RANKING_METRICS,
    Exposure,
    bootstrap,
    bootstrap_each,
    mae,
    paired_bootstrap,
    ranking_metrics,
    rmse,
)

# Users 0 to 2 hold out {1, 4}, {0, 1, 2, 3} and {5}.
INDPTR = np.array([0, 2, 6, 7])
ITEMS = np.array([1, 4, 0, 1, 2, 3, 5])
RECOMMENDED = np.array([[4, 0, 1], [9, 2, 0], [5, -1, -1]])
GAIN = 1 / np.log2(np.arange(2, 5))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("recall_at_1", [1, 0, 1]),
        ("recall_at_3", [2 / 2, 2 / 3, 1]),
        ("ndcg_at_3", [(GAIN[0] + GAIN[2]) / GAIN[:2].sum(), GAIN[1:].sum() / GAIN.sum(), 1]),
        ("map_at_3", [(1 + 2 / 3) / 2, (1 / 2 + 2 / 3) / 3, 1]),
        ("mrr_at_1", [1, 0, 1]),
        ("mrr_at_3", [1, 1 / 2, 1]),
        ("hit_rate_at_1", [1, 0, 1]),
        ("hit_rate_at_3", [1, 1, 1]),
    ],
)
def test_ranking_by_hand(name: str, expected: list[float]) -> None:
    metrics = ranking_metrics(RECOMMENDED, INDPTR, ITEMS, [3, 1])
    np.testing.assert_allclose(metrics[name], expected, rtol=1e-15)


def random_case(
    seed: int, users: int, items: int, length: int, most: int
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]:
    """Return lists, of which some are short or empty, and the held-out items of each user."""
    random = np.random.default_rng(seed)
    recommended = np.full((users, length), -1, np.int32)
    for row in recommended:
        listed = random.integers(0, length + 1) if random.random() < 0.5 else length
        row[:listed] = random.permutation(items)[:listed]
    held_out = [np.sort(random.permutation(items)[: random.integers(1, most + 1)]) for _ in range(users)]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in held_out])])
    return recommended, indptr, np.concatenate(held_out).astype(np.int32)


def trec_eval(
    recommended: NDArray[Any], indptr: NDArray[Any], items: NDArray[Any], k: int
) -> dict[str, NDArray[np.float64]]:
    """Return the metrics at k by NIST's program, which divides recall and MAP by all held-out items."""
    users = len(recommended)
    relevant = {
        str(user): {str(item): 1 for item in items[indptr[user] : indptr[user + 1]]} for user in range(users)
    }
    run = {
        str(user): {str(item): float(-rank) for rank, item in enumerate(row[:k]) if item >= 0}
        for user, row in enumerate(recommended)
    }
    names = {
        "recall": f"recall_{k}",
        "ndcg": f"ndcg_cut_{k}",
        "map": f"map_cut_{k}",
        "mrr": "recip_rank",
        "hit_rate": f"success_{k}",
    }
    measures = {f"recall.{k}", f"ndcg_cut.{k}", f"map_cut.{k}", "recip_rank", f"success.{k}"}
    judged = pytrec_eval.RelevanceEvaluator(relevant, measures).evaluate(run)
    held_out = np.diff(indptr)
    scale = {"recall": held_out / np.minimum(held_out, k), "map": held_out / np.minimum(held_out, k)}
    return {
        kind: np.array([judged.get(str(user), {}).get(name, 0.0) for user in range(users)])
        * scale.get(kind, 1.0)
        for kind, name in names.items()
    }


@pytest.mark.parametrize(
    ("users", "items", "length", "most"),
    [(300, 60, 20, 30), (300, 25, 25, 3), (40, 5, 3, 5), (1, 9, 9, 9), (700, 3000, 100, 150)],
)
def test_ranking_matches_trec_eval(users: int, items: int, length: int, most: int) -> None:
    case = random_case(users, users, items, length, most)
    # Also beyond the lists, which is as if nothing followed.
    ks = list(dict.fromkeys([10, 1, length, length + 7, 3]))
    metrics = ranking_metrics(*case, ks)
    assert list(metrics) == [f"{kind}_at_{k}" for kind in RANKING_METRICS for k in ks]
    for k in ks:
        for kind, expected in trec_eval(*case, k).items():
            values = metrics[f"{kind}_at_{k}"]
            assert values.dtype == np.float64
            np.testing.assert_allclose(values, expected, rtol=1e-12, err_msg=f"{kind}@{k}")


def test_a_perfect_list_is_exactly_1_and_an_empty_one_0() -> None:
    ks = list(range(1, 120))
    held_out = np.arange(100, dtype=np.int32)
    lists = np.stack([held_out[::-1], np.full(100, -1, np.int32)])
    metrics = ranking_metrics(lists, np.array([0, 100, 200]), np.tile(held_out, 2), ks)
    for name, values in metrics.items():
        assert values.tolist() == [1.0, 0.0], name


def test_lists_and_holdout_may_be_of_any_integers_and_read_only() -> None:
    recommended, indptr, items = random_case(8, 50, 30, 10, 9)
    expected = ranking_metrics(recommended, indptr, items, [10])
    items.flags.writeable = False
    other = ranking_metrics(recommended.astype(np.int64)[:, ::1], indptr.astype(np.int32), items, [10])
    for name, values in expected.items():
        np.testing.assert_array_equal(other[name], values)


@pytest.mark.parametrize(
    ("indptr", "ks", "message"),
    [
        ([0], [3], "no users"),
        ([0, 2, 2, 7], [3], "row 1.*has no held-out entries"),
        ([0, 2, 6, 7], [3, 0], "k 0: is below 1"),
    ],
)
def test_what_has_no_metric_is_refused(indptr: list[int], ks: list[int], message: str) -> None:
    users = len(indptr) - 1
    with pytest.raises(InputError, match=message):
        ranking_metrics(RECOMMENDED[:users], np.array(indptr), ITEMS, ks)


def test_prediction_errors_by_hand() -> None:
    assert rmse([1, 2, 3], [1, 4, 7]) == pytest.approx(np.sqrt(20 / 3))
    assert mae([1, 2, 3], [1, 4, 7]) == 2
    for metric in (rmse, mae):
        with pytest.raises(InputError):
            metric([], [])


COUNTS = np.array([8, 4, 2, 1, 0])


def exposure_of(*blocks: Any) -> Exposure:
    exposure = Exposure(COUNTS, users=16)
    for block in blocks:
        exposure.add(np.array(block, np.int32))
    return exposure


def test_exposure_by_hand_over_blocks() -> None:
    exposure = exposure_of([[0, 1], [0, 2]], [[0, -1]])
    assert exposure.coverage() == 3 / 5
    assert exposure.popularity() == (3 * 8 + 4 + 2) / 5
    assert exposure.novelty() == pytest.approx((3 * 1 + 2 + 3) / 5)


def test_an_item_without_interactions_is_as_novel_as_one_with_a_single_one() -> None:
    assert exposure_of([[4]]).novelty() == exposure_of([[3]]).novelty() == 4


@pytest.mark.parametrize("seed", range(5))
def test_gini_is_half_the_relative_mean_difference(seed: int) -> None:
    shown = np.random.default_rng(seed).integers(0, 9, len(COUNTS)) + (np.arange(len(COUNTS)) == seed)
    exposure = exposure_of(np.repeat(np.arange(len(COUNTS)), shown)[:, None])
    expected = np.abs(shown[:, None] - shown).mean() / 2 / shown.mean()
    assert exposure.gini() == pytest.approx(expected)


def test_gini_from_all_equal_to_a_single_item() -> None:
    assert exposure_of([[0, 1, 2, 3, 4]]).gini() == 0
    assert exposure_of([[3], [3]]).gini() == pytest.approx(4 / 5)


@pytest.mark.parametrize("metric", ["gini", "novelty", "popularity"])
def test_nothing_recommended_is_refused(metric: str) -> None:
    exposure = exposure_of([[-1, -1]])
    assert exposure.coverage() == 0
    with pytest.raises(InputError, match="recommendations 0"):
        getattr(exposure, metric)()


@pytest.mark.parametrize("users", [5, 60, 2000])
def test_interval_matches_scipy(users: int) -> None:
    values = np.random.default_rng(users).beta(0.4, 2, users)
    expected = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(1),
        batch=500,
    ).confidence_interval
    found = bootstrap(values, seed=2, samples=20_000)
    width = expected.high - expected.low
    # The ends of 20,000 samples vary by about 0.5 % of the width.
    assert found.low == pytest.approx(expected.low, abs=0.03 * width)
    assert found.high == pytest.approx(expected.high, abs=0.03 * width)


def test_interval_of_many_users_in_groups_is_that_of_the_normal_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trainer.metrics._GROUPS", 1000)
    # In order of the metric, as users in order of their activity are: groups must be taken at random.
    values = np.sort(np.random.default_rng(0).beta(0.4, 2, 20_003))
    error = stats.sem(values)
    low, high = bootstrap(values, seed=1, samples=4000)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.25 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.25 * error)


def test_interval_belongs_to_the_seed() -> None:
    values = np.random.default_rng(0).random(100)
    assert bootstrap(values, seed=5) == bootstrap(values, seed=5) != bootstrap(values, seed=6)


def test_an_interval_does_not_depend_on_those_before() -> None:
    values = np.random.default_rng(0).random(100)
    first = bootstrap(values, seed=5)
    for other in (values[:70], values * 2):
        bootstrap(other, seed=5)
    bootstrap(values, seed=5, samples=10)
    assert bootstrap(values, seed=5) == first


def test_intervals_of_several_metrics_are_those_of_each() -> None:
    values = np.random.default_rng(0).random((3, 500))
    together = bootstrap_each(dict(zip("abc", values, strict=True)), seed=1, samples=100)
    for name, column in zip("abc", values, strict=True):
        np.testing.assert_allclose(together[name], bootstrap(column, seed=1, samples=100))


def test_paired_interval_is_narrow_where_users_differ_more_than_recommenders() -> None:
    random = np.random.default_rng(0)
    first = random.random(400)
    second = first + 0.01 + 0.005 * random.standard_normal(400)
    low, high = paired_bootstrap(second - first, seed=1)
    assert 0 < low < 0.01 < high
    assert bootstrap(second, seed=1).low < first.mean()


def test_an_interval_of_no_users_is_refused() -> None:
    with pytest.raises(InputError, match="users 0"):
        bootstrap(np.zeros(0), seed=1)
