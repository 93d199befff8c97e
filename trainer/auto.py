"""Choosing what is left at ``auto``, by a search of seconds on a sample of the training entries.

docs/trainer.md describes the search. Its work is bounded by the size of the sample and by a budget that is
counted in entries and factors, not in seconds, so that the same entries, options and seed give the same
choice.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from trainer.choice import Choice, Tried
from trainer.config import AUTOMATIC, TrainConfig, TrainOptions
from trainer.errors import InputError
from trainer.matrix import InteractionMatrix, Shard
from trainer.metrics import metric_name, ranking_metrics
from trainer.model import Model
from trainer.popularity import Popularity
from trainer.ranking import top_k
from trainer.solvers import make_solver
from trainer.weighting import Problem, entry_weights, scaled_regularization, value_weight

_K = 20
RANKING, ERROR = metric_name("ndcg", _K), "rmse"
_LABELS = {RANKING: f"NDCG@{_K}", ERROR: "RMSE"}

# The sample.
_ENTRIES = 1_000_000
_LARGEST_ROW = _ENTRIES // 20
_SCORES = 40_000_000
"""Judged users times items."""
_JUDGED = (200, 5_000)
_HELD_OUT = 10_000
_SHARE = (0.1, 0.25)
_LEAST_JUDGED = 5
_MOST_SAMPLES, _SMALL = 5, 20_000
"""Fewer entries than these are split several times, because few held-out entries are much by chance."""

# The search.
_ITERATIONS = 6
_BUDGET = 5_000_000_000
"""Entries times factors times iterations of all tries."""
_FACTORS, _MOST_FACTORS, _FEWER_FACTORS = 16, 128, (8, 4, 2, 1)
_GIVEN_FACTORS = 32
"""The most factors of a try if their number is given."""
_STRENGTHS = (0.1, 0.056, 0.032, 0.018, 0.01, 0.0056, 0.0032, 0.0018, 0.001, 0.00056, 0.00032)
_STRONGER = (0.18, 0.32, 0.56)
_STEP, _FINE_STEP = 1.78, 1.33
"""Ratios of neighbouring strengths."""
_WORST = -1e30
"""Negative squared error of factors that overflow."""
_PATIENCE = 2
_WEIGHT, _HIGHER_WEIGHTS, _LOWER_WEIGHTS = 0.1, (0.3, 1.0), (0.03, 0.01)
_CONFIDENCES = (1.0, 4.0)
"""Weights that alpha adds to a mean entry."""
_CAUTIOUS = 0.032
"""Strength if there is too little to search on."""

logger = logging.getLogger(__name__)


def choose(
    matrix: InteractionMatrix, options: TrainOptions, *, warm_start: Model | None = None
) -> tuple[TrainConfig, Choice | None]:
    """Return the parameters of a training, those at ``auto`` chosen for the matrix.

    Args:
        matrix: training entries, of which a sample is read.
        options: parameters; numbers are kept.
        warm_start: an earlier model to continue, whose values are taken instead of a search.

    Returns:
        The parameters, and how they were chosen; None if nothing was left to choose.

    Raises:
        InputError: the matrix is empty, or the given parameters do not define a well-posed problem.
    """
    given = options.given()
    names = tuple(name for name in AUTOMATIC if name not in given)
    if not names:
        return TrainConfig(**given), None
    if warm_start:
        earlier = warm_start.config.model_dump(include=set(names))
        config = TrainConfig(**{**earlier, **given})
        logger.info("auto: %s, as in the earlier model", _listed(names, config))
        return config, warm_start.choice
    if not matrix.entries:
        raise InputError(
            "matrix", f"{matrix.rows} x {matrix.columns}", "has no entries", "give a matrix with entries"
        )
    began = time.perf_counter()
    start = {
        "latent_factors": max(1, min(_FACTORS, matrix.rows // 2, matrix.columns // 2)),
        "regularization": _CAUTIOUS,
        "unobs_weight": _WEIGHT,
        "alpha": 0.0,
    }
    config = TrainConfig(**{**start, **given})
    search = _Search(matrix, config, frozenset(names))
    config = search.run()
    choice = replace(search.choice(), parameters=names, seconds=time.perf_counter() - began)
    _log(choice, config)
    return config, choice


def _log(choice: Choice, config: TrainConfig) -> None:
    values = _listed(choice.parameters, config)
    if choice.score is None or choice.baseline is None:
        logger.warning("auto: %s, because there is too little to choose by", values)
        return
    logger.info(
        "auto: %s (validation %s %.4f, %s %.4f; %d tries, %.1f s)",
        *(values, _LABELS[choice.metric], choice.score, choice.baseline_name, choice.baseline),
        *(len(choice.tried), choice.seconds),
    )
    if choice.loses:
        logger.warning(
            "auto: nothing that was tried beats %s; run wals tune, or train on more data",
            choice.baseline_name,
        )


def _listed(names: Iterable[str], config: TrainConfig) -> str:
    """Return values in words, such as ``16 factors, regularization 0.03``."""
    values = config.model_dump()
    return ", ".join(
        f"{values[name]} factors" if name == "latent_factors" else f"{name} {values[name]:g}"
        for name in names
    )


@dataclass(frozen=True)
class _Sample:
    """Some users' entries, those of some of them partly held out, of the items that are left in training.

    Attributes:
        rows: training entries by user.
        columns: the same by item.
        judged: (n,) users with held-out entries.
        held_out: n rows of their held-out entries.
    """

    rows: Shard
    columns: Shard
    judged: NDArray[np.int64]
    held_out: Shard

    @classmethod
    def of(cls, matrix: InteractionMatrix, seed: int) -> Self:
        """Draw a sample."""
        random = np.random.default_rng(seed)
        chosen = _users(matrix.row_counts(), random)
        parts = []
        for shard in matrix.by_row:
            first, last = np.searchsorted(chosen, [shard.first, shard.first + shard.rows])
            parts.append(shard.take(chosen[first:last] - shard.first))
        indptr = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(part.indptr) for part in parts]))])
        indices, values = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("indices", "values")
        )
        entries = Shard(0, indptr, indices, values)
        counts, owners = _owners(entries)
        sizes = np.bincount(entries.indices, minlength=matrix.columns)
        seen = int(np.count_nonzero(sizes))
        most = int(np.clip(_SCORES / max(1, seen), *_JUDGED))
        judged = np.zeros(entries.rows, bool)
        judged[random.permutation(np.flatnonzero(counts > 1))[:most]] = True
        share = np.clip(_HELD_OUT / max(1, counts[judged].sum()), *_SHARE)
        held = judged[owners] & (random.random(entries.entries) < share)
        # Everyone keeps an entry to be known by.
        held[entries.indptr[:-1][(np.bincount(owners[held], minlength=entries.rows) == counts)]] = False
        # Nothing can be learned about an item without entries.
        left = np.bincount(entries.indices[~held], minlength=matrix.columns) > 0
        places = np.cumsum(left) - 1
        rows = _renumbered(entries.only(~held), places)
        targets = _renumbered(entries.only(held & left[entries.indices]), places)
        users = np.flatnonzero(np.diff(targets.indptr))
        like = matrix.by_row[0].values.flags.writeable
        columns = _transposed(rows, int(np.count_nonzero(left)))
        return cls(_writeable(rows, like), _writeable(columns, like), users, targets.take(users))

    @property
    def sides(self) -> "_Sides":
        """Training entries of each user, and of each item."""
        return np.diff(self.rows.indptr), np.diff(self.columns.indptr)

    @property
    def entries(self) -> int:
        """Number of entries, with those held out."""
        return self.rows.entries + self.held_out.entries


def _users(counts: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """Return users, ascending, who together have no more entries than a sample may have."""
    if counts.sum() <= _ENTRIES:
        return np.flatnonzero(counts)
    order = random.permutation(np.flatnonzero((counts > 0) & (counts <= _LARGEST_ROW)))
    return np.sort(order[: np.searchsorted(np.cumsum(counts[order]), _ENTRIES, side="right")])


def _owners(shard: Shard) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the number of entries of each row, and the row of each entry."""
    counts = np.diff(shard.indptr)
    return counts, np.repeat(np.arange(shard.rows), counts)


def _renumbered(shard: Shard, places: NDArray[np.int64]) -> Shard:
    return Shard(0, shard.indptr, places[shard.indices].astype(np.int32), shard.values)


def _transposed(shard: Shard, columns: int) -> Shard:
    order = np.argsort(shard.indices, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(shard.indices, minlength=columns))])
    return Shard(0, indptr, _owners(shard)[1][order].astype(np.int32), shard.values[order])


def _writeable(shard: Shard, writeable: bool) -> Shard:
    """Set whether a shard may be written; kernels are compiled once for either kind of array."""
    for array in (shard.indptr, shard.indices, shard.values):
        array.setflags(write=writeable)
    return shard


class _Point(NamedTuple):
    """Values to try.

    Attributes:
        factors: length of a factor.
        strength: lambda in units of `_Search._unit`.
        weight: w0.
        alpha: confidence per unit of value.
    """

    factors: int
    strength: float
    weight: float
    alpha: float


_Sides = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Entries of each user, and of each item."""


def _noise(sides: _Sides) -> float:
    """Return how much factors vary by chance, up to a constant.

    The fewer entries rows and columns have, the more: like the largest singular value of a random matrix,
    relative to its number of entries. Items lose entries in a sample, users do not.
    """
    return sum(float(np.sqrt(np.count_nonzero(counts) / counts.sum())) for counts in sides)


class _Search:
    """The search; see docs/trainer.md."""

    def __init__(self, matrix: InteractionMatrix, config: TrainConfig, names: frozenset[str]) -> None:
        splits = max(1, min(_MOST_SAMPLES, _SMALL // matrix.entries))
        self._samples = [_Sample.of(matrix, config.seed + number) for number in range(splits)]
        self._config, self._names = config, names
        self._items = matrix.columns
        self._sides = matrix.row_counts(), matrix.column_counts()
        values = self._samples[0].rows.values
        self._values_differ = len(np.unique(values)) > 1
        self._mean = float(np.abs(values).sum(dtype=np.float64)) / max(1, len(values))
        self._metric = ERROR if config.feedback == "explicit" and config.unobs_weight == 0 else RANKING
        self._work = 0
        # By what was tried, in this order: the judged users' values, larger is better.
        self._values: dict[_Point, NDArray[np.float64]] = {}
        factors = min(config.latent_factors, _GIVEN_FACTORS)
        self._best = _Point(factors, _STRENGTHS[0], config.unobs_weight, config.alpha)
        if "regularization" not in names:
            unit = self._unit(self._best, self._sides)
            self._best = self._best._replace(strength=config.regularization / unit)

    def run(self) -> TrainConfig:
        """Search, and return the parameters with what was found."""
        if self._is_too_small:
            return self._config
        self._consider([self._best])
        if "regularization" in self._names:
            self._choose_strength()
        if "unobs_weight" in self._names:
            self._choose_weight()
        if "alpha" in self._names and self._config.feedback == "implicit" and self._values_differ:
            self._choose_alpha()
        if "latent_factors" in self._names:
            self._choose_factors()
        self._walk([[point] for point in self._steps(self._best, _FINE_STEP, 1 / _FINE_STEP)])
        self._rescue()
        return self._config_of(self._best, self._sides)

    def choice(self) -> Choice:
        """Return what was tried."""
        judged = not self._is_too_small
        return Choice(
            parameters=(),
            metric=self._metric,
            score=self._shown(self._values[self._best]) if judged else None,
            baseline=self._shown(self._baseline()) if judged else None,
            users=self._samples[0].rows.rows,
            entries=self._samples[0].entries,
            seconds=0.0,
            tried=tuple(self._tried()),
        )

    def _tried(self) -> Iterator[Tried]:
        for point, values in self._values.items():
            config = self._config_of(point, self._sides)
            yield Tried(score=self._shown(values), **config.model_dump(include=set(AUTOMATIC)))

    def _choose_strength(self) -> None:
        """Start from the strongest, so that a weaker one has to be better."""
        self._walk([self._best._replace(strength=strength)] for strength in _STRENGTHS[1:])
        if self._best.strength == _STRENGTHS[0]:
            self._walk([self._best._replace(strength=strength)] for strength in _STRONGER)

    def _choose_weight(self) -> None:
        start = self._best
        for weights, change in ((_HIGHER_WEIGHTS, 1 / _STEP), (_LOWER_WEIGHTS, _STEP)):
            self._walk(
                (self._steps(start._replace(weight=weight), 1, change) for weight in weights), patience=1
            )
            if self._best != start:
                return

    def _choose_alpha(self) -> None:
        self._walk([self._best._replace(alpha=_rounded(more / self._mean))] for more in _CONFIDENCES)

    def _choose_factors(self) -> None:
        start = self._best
        most = min(_MOST_FACTORS, *map(len, self._samples[0].sides))
        doubled = [start.factors << times for times in range(1, 8) if start.factors << times <= most]
        self._walk(
            (self._steps(self._best._replace(factors=factors), 1, 1 / _STEP, _STEP) for factors in doubled),
            patience=1,
        )
        if self._best == start:
            fewer = [factors for factors in _FEWER_FACTORS if factors < start.factors]
            self._walk(([start._replace(factors=factors)] for factors in fewer), patience=1)

    def _rescue(self) -> None:
        """Look for anything that is not below the baseline, before such a model is trained."""
        least = self._baseline().mean()
        if self._values[self._best].mean() >= least:
            return
        if "latent_factors" in self._names:
            choices = [self._best._replace(factors=factors) for factors in _FEWER_FACTORS]
            strengths = _STRENGTHS[:5] if "regularization" in self._names else (self._best.strength,)
            self._consider(point._replace(strength=strength) for point in choices for strength in strengths)
        self._best = max(self._values, key=lambda point: self._values[point].mean())

    def _steps(self, point: _Point, *changes: float) -> list[_Point]:
        """Return a point with other strengths, unless that is given."""
        if "regularization" not in self._names:
            return [point] if 1 in changes else []
        return [point._replace(strength=point.strength * change) for change in changes]

    def _walk(self, groups: Iterable[Sequence[_Point]], patience: int = _PATIENCE) -> None:
        """Try groups of points until some in a row have nothing better than everything before."""
        behind = 0
        for group in groups:
            highest = max(values.mean() for values in self._values.values())
            if self._consider(group) > highest:
                behind = 0
            else:
                behind += 1
            if behind == patience:
                return

    def _consider(self, points: Iterable[_Point]) -> float:
        """Try points, take over those that are better, and return the highest mean of them."""
        means = [-np.inf]
        for point in points:
            if point not in self._values:
                entries = sum(sample.rows.entries for sample in self._samples)
                work = entries * point.factors * self._iterations
                if self._work + work > _BUDGET:
                    continue
                self._work += work
                self._values[point] = self._each(partial(self._judged, point))
            means.append(float(self._values[point].mean()))
            if self._is_better(point):
                self._best = point
        return max(means)

    def _is_better(self, point: _Point) -> bool:
        """Return whether a point is better than the best so far.

        A less regularised model, or a larger one, has to be better by more than the standard error of the
        difference; the simpler one of equals is taken.
        """
        best = self._best
        gain = self._values[point] - self._values[best]
        if point.factors <= best.factors and point.strength >= best.strength and point[2:] == best[2:]:
            return bool(gain.mean() >= 0)
        return bool(gain.mean() > gain.std() / np.sqrt(len(gain)))

    @property
    def _iterations(self) -> int:
        return min(_ITERATIONS, self._config.num_iters)

    @property
    def _is_too_small(self) -> bool:
        return sum(len(sample.judged) for sample in self._samples) < _LEAST_JUDGED

    def _each(self, judge: Callable[[_Sample], NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return the values of the judged users of all samples."""
        return np.concatenate([judge(sample) for sample in self._samples])

    def _config_of(self, point: _Point, sides: _Sides) -> TrainConfig:
        """Return the parameters that a point stands for, on the whole matrix or on the sample."""
        regularization = point.strength * self._unit(point, sides) * _noise(sides) / _noise(self._sides)
        values = {
            "latent_factors": point.factors,
            "regularization": regularization,
            "unobs_weight": point.weight,
            "alpha": point.alpha,
        }
        if sides is self._sides:
            values["regularization"] = _rounded(regularization)
            values = {name: values[name] for name in self._names}
        return self._config.replace(**values)

    def _unit(self, point: _Point, sides: _Sides) -> float:
        """Return the lambda that regularises as much as 1 does where entries weigh 1 and nu is 1.

        It is the mean weight of an entry, times mass^(1 - nu) for the geometric mean of the masses of the
        entries' rows and columns.
        """
        config = self._config.replace(unobs_weight=point.weight, alpha=point.alpha)
        users, items = sides
        _, weights = entry_weights(config, len(users), items)
        weight = point.weight + float(weights @ items / items.sum()) + value_weight(config) * self._mean
        remaining = 1 - config.regularization_exponent
        if remaining == 0:
            return weight or 1.0
        masses = (users + point.weight * self._items, items + point.weight * len(users))
        logs = [
            float(np.log(mass[counts > 0]) @ counts[counts > 0] / counts.sum())
            for mass, counts in zip(masses, sides, strict=True)
        ]
        return (weight or 1.0) * float(np.exp(remaining * np.mean(logs)))

    def _judged(self, point: _Point, sample: _Sample) -> NDArray[np.float64]:
        """Train on a sample, and return the judged users' values."""
        user_factors, item_factors = self._train(self._config_of(point, sample.sides), sample)
        if not (np.isfinite(user_factors).all() and np.isfinite(item_factors).all()):
            return np.full(len(sample.judged), _WORST if self._metric == ERROR else 0.0)
        queries = user_factors[sample.judged]
        if self._metric == ERROR:
            owners = _owners(sample.held_out)[1]
            predicted = np.einsum("nd,nd->n", queries[owners], item_factors[sample.held_out.indices])
            return _negative_errors(predicted, sample.held_out)
        return _ndcg(
            top_k(queries, item_factors, _K, masked=sample.rows.take(sample.judged))[0], sample.held_out
        )

    def _train(self, config: TrainConfig, sample: _Sample) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return factors after some iterations, with the regularisation that all items would cause."""
        rows, columns = sample.rows, sample.columns
        problem = Problem.of(config, *sample.sides)
        regularization = scaled_regularization(config, sample.sides[0], self._items)
        users = replace(problem.users, regularization=regularization)
        random = np.random.default_rng(config.seed)
        item_factors = random.standard_normal((columns.rows, config.latent_factors), np.float32)
        item_factors *= np.float32(config.init_stddev / np.sqrt(config.latent_factors))
        user_factors = np.zeros((rows.rows, config.latent_factors), np.float32)
        # On a GPU, starting would take longer than the search.
        solver = make_solver(config.replace(solver="cg"))
        for _ in range(self._iterations):
            solver.sweep([rows], users, item_factors, user_factors)
            solver.sweep([columns], problem.items, user_factors, item_factors)
        return user_factors, item_factors

    def _baseline(self) -> NDArray[np.float64]:
        """Return the judged users' values of popularity, or of the items' mean values."""
        return self._each(_popularity if self._metric == RANKING else _means)

    def _shown(self, values: NDArray[np.float64]) -> float:
        """Return the metric of some values."""
        mean = float(values.mean())
        return math.sqrt(-mean) if self._metric == ERROR else mean


def _popularity(sample: _Sample) -> NDArray[np.float64]:
    popular, masked = Popularity(sample.sides[1]), sample.rows.take(sample.judged)
    return _ndcg(popular.recommend(sample.judged, _K, masked), sample.held_out)


def _means(sample: _Sample) -> NDArray[np.float64]:
    sums = np.bincount(sample.rows.indices, weights=sample.rows.values)
    return _negative_errors((sums / sample.sides[1])[sample.held_out.indices], sample.held_out)


def _ndcg(lists: NDArray[np.int32], held_out: Shard) -> NDArray[np.float64]:
    if not held_out.rows:
        return np.zeros(0)
    return ranking_metrics(lists, held_out.indptr, held_out.indices, [_K])[RANKING]


def _negative_errors(predicted: NDArray[np.floating], held_out: Shard) -> NDArray[np.float64]:
    """Return values whose mean is the negative mean squared error."""
    squares = np.square(held_out.values - predicted, dtype=np.float64)
    return -np.add.reduceat(squares, held_out.indptr[:-1]) * held_out.rows / max(1, held_out.entries)


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")
