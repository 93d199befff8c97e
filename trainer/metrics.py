"""Metrics of predicted values and of recommended lists, and bootstrap intervals of their means.

docs/metrics.md has the formulas.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainer.errors import InputError
from trainer.solvers.kernels import compiled, in_threads
from trainer.solvers.simd import take
from trainer.threads import usable_cores

RANKING_METRICS = ("recall", "ndcg", "map", "mrr", "hit_rate")
"""The metrics of `ranking_metrics`, in the order of its kernel."""

_USERS_AT_ONCE = 256  # by a thread
_GROUPS = 1 << 14
_SAMPLES_AT_ONCE = 16
_GROUPING = 1
"""Distinguishes the stream of numbers that groups users from that which draws samples."""

_TAILS = (0.025, 0.975)


def rmse(actual: ArrayLike, predicted: ArrayLike) -> float:
    """Return the root mean squared error of predicted values.

    Args:
        actual: (n,) values.
        predicted: (n,) values.

    Raises:
        InputError: there are no values.
    """
    error = _errors(actual, predicted)
    return float(np.sqrt(np.mean(error * error)))


def mae(actual: ArrayLike, predicted: ArrayLike) -> float:
    """Return the mean absolute error of predicted values; arguments and errors are those of `rmse`."""
    return float(np.mean(np.abs(_errors(actual, predicted))))


def _errors(actual: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    error = np.subtract(actual, predicted, dtype=np.float64)
    if error.size == 0:
        raise InputError("entries", 0, "have no prediction error", "hold out at least one entry")
    return error


def metric_name(kind: str, k: int) -> str:
    """Return the name of a metric of lists of length k, such as ``ndcg_at_20``."""
    return f"{kind}_at_{k}"


def ranking_metrics(
    recommended: NDArray[Any], indptr: NDArray[Any], items: NDArray[Any], ks: Sequence[int]
) -> dict[str, NDArray[np.float64]]:
    """Return how well each user's list finds the user's held-out items, at several lengths in one pass.

    With binary relevance, r_i = 1 if the item at rank i is held out, R held-out items, and R_k = min(k, R):

    - recall, Recall@k: sum_{i<=k} r_i / R_k (Liang et al. 2018, sec. 4.2)
    - ndcg, NDCG@k: sum_{i<=k} r_i / log2(i + 1) over the same sum of an ideal list, R_k ones (ibid.)
    - map, average precision, whose mean is MAP@k: sum_{i<=k} r_i (r_1 + ... + r_i) / i / R_k
    - mrr, reciprocal rank, whose mean is MRR: 1 / the first i <= k with r_i = 1, or 0 without one
    - hit_rate: 1 if any r_i with i <= k is 1, else 0

    Args:
        recommended: (users, n) integer item indices, best first, each at most once in a row; -1 where there
            is none. A list shorter than k has no hits beyond its end.
        indptr: (users + 1,) int64 offsets of each user's held-out items in ``items``, from 0.
        items: (entries,) integer held-out item indices, each at most once in a user.
        ks: lengths of the lists, at least 1, in any order.

    Returns:
        (users,) float64 from 0 to 1 for each metric and k, by the names of `metric_name`; metrics in the
        order of `RANKING_METRICS`, then ks in theirs.

    Raises:
        InputError: there are no users, a user has no held-out items, or a k is below 1.
    """
    held_out = np.diff(indptr)
    if not held_out.size:
        raise InputError("holdout", 0, "has no users to judge", "hold out at least one entry")
    if not held_out.all():
        row = int(np.argmin(held_out != 0))
        raise InputError("holdout", f"row {row}", "has no held-out entries", "leave out users without any")
    if min(ks) < 1:
        raise InputError("k", min(ks), "is below 1", "give an integer of at least 1")
    recommended, items = np.ascontiguousarray(recommended, np.int32), np.asarray(items, np.int32)
    last_item = int(max(recommended.max(initial=0), items.max()))
    lengths = np.unique(np.asarray(ks, np.int64))
    discounts = 1.0 / np.log2(np.arange(2, lengths[-1] + 2))
    values = np.zeros((len(RANKING_METRICS), len(lengths), len(held_out)))
    in_threads(
        min(usable_cores(), -(-len(held_out) // _USERS_AT_ONCE)),
        _judge,
        *(recommended, np.asarray(indptr, np.int64), items, last_item),
        *(lengths, discounts, np.cumsum(discounts), values),
    )
    places = {int(k): place for place, k in enumerate(lengths)}
    return {
        metric_name(kind, k): values[number, places[k]]
        for number, kind in enumerate(RANKING_METRICS)
        for k in ks
    }


# Exact division, which the fastest arithmetic rules out like infinities: all of all hits are 1, not nearly 1.
@compiled(infinities=True)
def _judge(
    counter: Any,
    recommended: Any,
    indptr: Any,
    items: Any,
    last_item: Any,
    lengths: Any,
    discounts: Any,
    ideal: Any,
    values: Any,
) -> None:
    """Set ``values`` (metrics, ks, users) of the users that this thread takes."""
    users, listed = recommended.shape
    # The user for whom an item was last marked as held out, plus 1.
    marks = np.zeros(last_item + 1, np.int64)
    first = take(counter) * _USERS_AT_ONCE
    while first < users:
        for user in range(first, min(first + _USERS_AT_ONCE, users)):
            held_out = indptr[user + 1] - indptr[user]
            for e in range(indptr[user], indptr[user + 1]):
                marks[items[e]] = user + 1
            hits, gain, precisions, reciprocal, rank = 0, 0.0, 0.0, 0.0, 0
            for place in range(len(lengths)):
                end = min(lengths[place], listed)
                # Once all held-out items are found, nothing more can change the sums.
                while rank < end and hits < held_out:
                    item = recommended[user, rank]
                    rank += 1
                    if item >= 0 and marks[item] == user + 1:
                        hits += 1
                        gain += discounts[rank - 1]
                        precisions += hits / rank
                        if hits == 1:
                            reciprocal = 1.0 / rank
                possible = min(lengths[place], held_out)
                values[0, place, user] = hits / possible
                values[1, place, user] = gain / ideal[possible - 1]
                values[2, place, user] = precisions / possible
                values[3, place, user] = reciprocal
                values[4, place, user] = 1.0 if hits > 0 else 0.0
        first = take(counter) * _USERS_AT_ONCE


class Exposure:
    """Which items a recommender shows, and how popular and how novel they are, beyond its accuracy.

    Only the number of times that each item was recommended is kept, so that lists may be added in blocks of
    users. All means are over all recommendations.
    """

    def __init__(self, counts: NDArray[Any], users: int) -> None:
        """Begin without recommendations.

        Args:
            counts: (items,) training interactions of each item of the catalogue.
            users: number of users with training interactions.
        """
        self._counts = np.asarray(counts, np.float64)
        self._users = users
        self._shown = np.zeros(len(counts), np.int64)

    def add(self, recommended: NDArray[Any]) -> None:
        """Count the recommendations of some users.

        Args:
            recommended: (users, k) integer item indices; -1 where there is none.
        """
        listed = recommended[recommended >= 0]
        self._shown += np.bincount(listed, minlength=len(self._shown))

    def coverage(self) -> float:
        """Return the share of the catalogue in any list (Ge, Delgado-Battenfeld and Jannach 2010)."""
        return float(np.mean(self._shown > 0))

    def gini(self) -> float:
        """Return the Gini coefficient of the number of times that the catalogue's items are recommended.

        sum_i (2 i - n - 1) x_i / (n sum_i x_i), with x ascending and n items: 0 if all are shown equally
        often, (n - 1) / n if only one is shown (Fleder and Hosanagar 2009).

        Raises:
            InputError: nothing was recommended.
        """
        n = len(self._shown)
        ranks = np.arange(1, n + 1)
        return float((2 * ranks - n - 1) @ np.sort(self._shown) / (n * self._total()))

    def novelty(self) -> float:
        """Return the mean self-information of the recommended items, in bits (Zhou et al. 2010).

        -log2(c / users), with c the item's training interactions, at least 1.

        Raises:
            InputError: nothing was recommended.
        """
        information = np.log2(self._users / np.maximum(self._counts, 1))
        return float(self._shown @ information / self._total())

    def popularity(self) -> float:
        """Return the mean number of training interactions of the recommended items (Yin et al. 2012).

        Raises:
            InputError: nothing was recommended.
        """
        return float(self._shown @ self._counts / self._total())

    def _total(self) -> int:
        total = int(self._shown.sum())
        if not total:
            raise InputError("recommendations", 0, "have no items", "judge users for whom items remain")
        return total


class Interval(NamedTuple):
    """A 95 % interval of a mean over users."""

    low: float
    high: float


def bootstrap(values: NDArray[Any], seed: int, samples: int = 1000) -> Interval:
    """Return the percentile bootstrap interval of the mean (Efron and Tibshirani 1993, sec. 13.3).

    Arguments and errors are those of `bootstrap_each`, for one metric.
    """
    return bootstrap_each({"mean": values}, seed, samples)["mean"]


def paired_bootstrap(difference: NDArray[Any], seed: int, samples: int = 1000) -> Interval:
    """Return the bootstrap interval of the mean difference of two recommenders on the same users.

    Resampling the differences keeps each user's pair together, so that what makes a user hard for both
    cancels out: the interval is narrower than those of the two means suggest.

    Args:
        difference: (n,) a user's metric with one recommender minus that with the other.
        seed: as in `bootstrap_each`.
        samples: as in `bootstrap_each`.

    Raises:
        InputError: there are no differences.
    """
    return bootstrap(difference, seed, samples)


def bootstrap_each(values: Mapping[str, NDArray[Any]], seed: int, samples: int = 1000) -> dict[str, Interval]:
    """Return the bootstrap intervals of several metrics of the same users, for little more than one's time.

    Users are resampled, the same ones for all metrics. More than 16,384 users are first put into that many
    groups of equal size at random, and groups are resampled. That changes the width of an interval by about
    0.6 % (1 / sqrt(2 groups)), while the choice of 1000 samples changes it by 4 %.

    The samples of the last call are kept, 16 MB for 1000 of them, for a next one with as many groups and the
    same seed, which then takes a quarter of the time.

    Args:
        values: (n,) numbers by metric, one for each user. Beyond them memory is 30 MB and a copy of one.
        seed: seed of groups and samples, at least 0.
        samples: number of bootstrap samples.

    Raises:
        InputError: there are no values.
    """
    users = len(next(iter(values.values())))
    if users == 0:
        raise InputError("users", 0, "have no interval of their mean", "judge at least one user")
    order = np.random.default_rng((seed, _GROUPING)).permutation(users)
    groups = min(users, _GROUPS)
    starts = np.arange(groups) * users // groups
    sums = [np.add.reduceat(column[order], starts, dtype=np.float64) for column in values.values()]
    # The last column counts the users of each group.
    totals = np.stack([*sums, np.diff(starts, append=users)], 1)
    drawn = _drawn(groups, samples, seed)
    means = np.empty((samples, len(values)))
    room = np.empty((_SAMPLES_AT_ONCE, groups))
    for first in range(0, samples, _SAMPLES_AT_ONCE):
        some = drawn[first : first + _SAMPLES_AT_ONCE]
        weights = room[: len(some)]
        weights[:] = some
        drawn_totals = weights @ totals
        means[first : first + len(some)] = drawn_totals[:, :-1] / drawn_totals[:, -1:]
    ends = np.quantile(means, _TAILS, axis=0)
    return {name: Interval(float(low), float(high)) for name, low, high in zip(values, *ends, strict=True)}


@lru_cache(maxsize=1)
def _drawn(groups: int, samples: int, seed: int) -> NDArray[np.uint8]:
    """Return how often each sample has each group, (samples, groups).

    A group is drawn once on average: the chance of 256 times is below 1e-500.
    """
    random = np.random.default_rng(seed)
    drawn = np.empty((samples, groups), np.uint8)
    for sample in drawn:
        sample[:] = np.bincount(random.integers(0, groups, groups), minlength=groups)
    return drawn
