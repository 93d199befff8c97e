"""The gate: whether a judged model is delivered, from the users' metrics and the options alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.artifacts.evaluation import Check, Decision
from components.evaluate.labels import metric_label
from components.evaluate.options import EvaluateOptions
from trainer.metrics import paired_bootstrap

LEAST_USERS = 100
"""Users that a segment needs to reject a model."""


@dataclass(frozen=True)
class Part:
    """A segment's values of the metric that decides.

    Attributes:
        by: what divides the holdout, such as ``user activity``.
        name: name of the segment, such as ``cold``.
        model: (n,) value for each user of the segment.
        champion: (n,) likewise.
    """

    by: str
    name: str
    model: NDArray[np.float32]
    champion: NDArray[np.float32]

    @property
    def gain(self) -> float:
        """Relative gain of the model over the champion."""
        champion = _mean(self.champion)
        return _ratio(_mean(self.model) - champion, champion)


@dataclass(frozen=True)
class Rival:
    """The champion's values of the metric that decides.

    Attributes:
        version: its name in the registry.
        values: (users,) value for each judged user; None if it was trained on all held-out entries.
        parts: segments, with its values and the model's.
    """

    version: str
    values: NDArray[np.float32] | None
    parts: Sequence[Part] = ()


@dataclass(frozen=True)
class Scores:
    """What the gate decides by.

    Attributes:
        metric: metric that decides, such as ``ndcg_at_20``.
        model: (users,) the new model's value for each judged user.
        popularity: (users,) the popularity baseline's.
        rival: the champion; None if there is none.
        fixed: parameters of the training that could have been chosen for the data, but were given.
        tuned: whether the parameters are the best of a tuning.
    """

    metric: str
    model: NDArray[np.float32]
    popularity: NDArray[np.float32]
    rival: Rival | None
    fixed: Sequence[str] = ()
    tuned: bool = False


def decide(options: EvaluateOptions, scores: Scores, seed: int) -> Decision:
    """Return whether the model is delivered.

    The conditions, in this order: it is at least as good as popularity (`min_over_popularity`); and if there
    is a champion, it gains enough on it (`min_gain`), the interval of the gain does not reach below that
    (`require_significance`), and no segment loses too much (`max_segment_loss`). All are checked; the first
    that does not hold is the reason.

    Args:
        options: thresholds.
        scores: the users' values.
        seed: seed of the bootstrap.
    """
    checks = [_floor(options, scores)]
    blessing = f"{checks[0].detail.removesuffix('.')}, and there is no champion yet."
    rival = scores.rival
    if rival and rival.values is None:
        checks.append(_nothing_left(rival))
    elif rival and rival.values is not None:
        gain = _Gain.of(scores.model, rival.values, seed)
        checks += [_gained(options, scores.metric, gain), _lost(options, scores.metric, rival.parts, seed)]
        if options.require_significance:
            checks.insert(2, _significant(options, gain))
        blessing = checks[1].detail
    failed = next((check for check in checks if not check.passed), None)
    return Decision(
        outcome="rejected" if failed else "blessed",
        reason=failed.detail if failed else blessing,
        metric=scores.metric,
        checks=tuple(checks),
    )


class _Gain(NamedTuple):
    """Relative gain of a model over another, with its 95 % interval by paired bootstrap over the users."""

    model: float
    other: float
    low: float
    high: float

    @classmethod
    def of(cls, model: NDArray[np.float32], other: NDArray[np.float32], seed: int) -> "_Gain":
        interval = paired_bootstrap(np.subtract(model, other, dtype=np.float64), seed)
        value = _mean(other)
        return cls(_mean(model), value, _ratio(interval.low, value), _ratio(interval.high, value))

    @property
    def relative(self) -> float:
        return _ratio(self.model - self.other, self.other)

    @property
    def interval(self) -> str:
        return f"95 % interval {_percent(self.low)} to {_percent(self.high)}" if self.other else ""

    def against(self, metric: str, other: str) -> str:
        """Return the comparison in words, such as ``NDCG@20 0.412 is 3.1 % above the champion's 0.400``."""
        relation = f"is {_distance(self.relative)} {other}" if self.model != self.other else f"equals {other}"
        return f"{metric_label(metric)} {_figure(self.model)} {relation} {_figure(self.other)}"


def _floor(options: EvaluateOptions, scores: Scores) -> Check:
    model, popularity = _mean(scores.model), _mean(scores.popularity)
    gain = _Gain(model, popularity, 0.0, 0.0)
    detail = gain.against(scores.metric, "popularity's")
    required = options.min_over_popularity
    passed = model > 0 and gain.relative >= required
    if not model:
        metric, advice = metric_label(scores.metric), _advice(scores)
        detail = f"{metric} is 0, because no list has a held-out item: {advice}"
    elif not passed:
        demand = f", and min_over_popularity requires {_percent(required)}" if required else ""
        detail = f"{detail}{demand}: {_advice(scores)}"
    return Check(name="gain over popularity", passed=passed, detail=f"{detail}.")


def _advice(scores: Scores) -> str:
    """Return what to do about a model that is not above popularity."""
    if scores.tuned:
        return "give more data"
    fixed = scores.fixed
    names = " and ".join(filter(None, (", ".join(fixed[:-1]), *fixed[-1:])))
    return f"{f'set {names} to auto, ' if fixed else ''}run wals tune, or give more data"


def _nothing_left(rival: Rival) -> Check:
    detail = (
        f"The champion, {rival.version}, was trained on all held-out interactions, which leaves nothing to "
        "compare the models on: give newer interactions, and hold out the newest with split time or last."
    )
    return Check(name="gain over the champion", passed=False, detail=detail)


def _gained(options: EvaluateOptions, metric: str, gain: _Gain) -> Check:
    passed = gain.relative >= options.min_gain
    detail = gain.against(metric, "the champion's")
    if gain.interval:
        detail = f"{detail} ({gain.interval})"
    if not passed and options.min_gain:
        detail = f"{detail}, and min_gain requires {_percent(options.min_gain)}"
    return Check(name="gain over the champion", passed=passed, detail=f"{detail}.")


def _significant(options: EvaluateOptions, gain: _Gain) -> Check:
    passed = gain.low >= options.min_gain
    detail = (
        f"The 95 % interval of the gain over the champion, {_percent(gain.low)} to {_percent(gain.high)}, "
        f"{'lies at or above' if passed else 'starts below'} the {_percent(options.min_gain)} that min_gain "
        "requires."
    )
    return Check(name="significance of the gain", passed=passed, detail=detail)


def _lost(options: EvaluateOptions, metric: str, parts: Sequence[Part], seed: int) -> Check:
    large = [part for part in parts if len(part.model) >= LEAST_USERS]
    below = [part for part in large if part.gain < -options.max_segment_loss]
    gains = [(part, _Gain.of(part.model, part.champion, seed)) for part in below]
    # A loss that chance explains, which small segments often show, rejects no model.
    lost = [(part, gain) for part, gain in gains if gain.high < 0]
    if not lost:
        detail = (
            f"In none of the {len(large)} segments with at least {LEAST_USERS} users does "
            f"{metric_label(metric)} lose more than {_percent(options.max_segment_loss)} against the "
            "champion with an interval below 0"
            if large
            else f"No segment has the {LEAST_USERS} users that it takes to compare it with the champion"
        )
        return Check(name="loss in segments", passed=True, detail=f"{detail}.")
    part, gain = min(lost, key=lambda one: one[1].relative)
    comparison = gain.against(metric, "the champion's")
    detail = (
        f"In the segment {part.name} ({part.by}, {len(part.model):,} users), {comparison} "
        f"({gain.interval}), and max_segment_loss allows {_percent(options.max_segment_loss)}."
    )
    return Check(name="loss in segments", passed=False, detail=detail)


def _mean(values: NDArray[np.float32]) -> float:
    return float(np.mean(values, dtype=np.float64))


def _ratio(difference: float, base: float) -> float:
    """Return a difference relative to a metric; without bounds if the metric is 0."""
    if base:
        return difference / base
    return float(np.sign(difference)) * float("inf") if difference else 0.0


def _figure(value: float) -> str:
    return f"{value:.3f}" if value >= 0.1 or not value else f"{value:.3g}"


def _percent(ratio: float) -> str:
    return f"{100 * ratio:,.1f} %"


def _distance(ratio: float) -> str:
    side = "above" if ratio > 0 else "below"
    size = abs(ratio)
    if size == float("inf"):
        return side
    return f"{_percent(size) if size >= 0.0005 else 'less than 0.1 %'} {side}"
