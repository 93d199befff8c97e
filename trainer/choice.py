"""What was chosen for the data, as the model records it."""

from dataclasses import dataclass


def shown(value: float) -> str:
    """Return a value that was chosen as people read it, such as ``64 (auto)``."""
    return f"{value:.6g} (auto)"


@dataclass(frozen=True)
class Tried:
    """Values that were tried, and what they achieved.

    Attributes:
        latent_factors: length of a factor.
        regularization: lambda, as it would be for all data.
        unobs_weight: w0.
        alpha: confidence per unit of value.
        score: metric of the held-out entries.
    """

    latent_factors: int
    regularization: float
    unobs_weight: float
    alpha: float
    score: float


@dataclass(frozen=True)
class Choice:
    """A search for the values of the parameters that were left at ``auto``.

    Attributes:
        parameters: names of these parameters.
        metric: metric of the scores: ``ndcg_at_20``, where larger is better, or ``rmse``.
        score: metric of the chosen values; None if there were too few entries to hold some out.
        baseline: metric of popularity, or of the items' mean values if the metric is ``rmse``.
        users: users of the sample that was searched on.
        entries: entries of it, with those held out.
        seconds: wall time of the search.
        tried: everything that was tried, in this order.
    """

    parameters: tuple[str, ...]
    metric: str
    score: float | None
    baseline: float | None
    users: int
    entries: int
    seconds: float
    tried: tuple[Tried, ...]

    @property
    def baseline_name(self) -> str:
        """What the baseline is."""
        return "items' means" if self.metric == "rmse" else "popularity"

    @property
    def loses(self) -> bool:
        """Whether the baseline is better than everything that was tried."""
        if self.score is None or self.baseline is None:
            return False
        return self.score > self.baseline if self.metric == "rmse" else self.score < self.baseline
