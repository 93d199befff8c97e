"""The evaluation artifact (schema ``wals.evaluation`` v1): how good a model is, and whether it is delivered.

A folder with

    per_user.parquet    one row for each judged user: user (index), activity (segment), known_user (whether
                        the champion knows the user, if there is one), and a float32 column
                        METRIC.RECOMMENDER for each metric that is averaged over users, and
                        METRIC.RECOMMENDER.SEGMENT for the segments of items, where a user without held-out
                        entries in the segment has no value
    _manifest.json      the fields of `Evaluation`

The names of metrics are those of the field: ``recall_at_20``, ``ndcg_at_20``, ``map_at_20``, ``mrr_at_20``,
``hit_rate_at_20``, ``rmse``, ``mae``, ``coverage_at_20``, ``gini_at_20``, ``novelty_at_20``,
``popularity_at_20``.
"""

import os
from collections.abc import Mapping
from typing import Any, Literal

import pydantic
from pydantic import Field

from trainer.choice import Choice, shown
from trainer.files import Count, Digest, Manifest, Schema
from trainer.history import Iteration

SCHEMA = Schema("wals.evaluation", 1)
PER_USER_FILE = "per_user.parquet"

SUMMARY_MARK = "wals-evaluation:"
"""Prefix of the line in which a step on Kubernetes logs an evaluation for the notification."""

Recommender = Literal["model", "champion", "popularity", "item_cosine", "random"]
"""What is judged on the holdout: the new model, the one that serves, and the baselines."""

Outcome = Literal["blessed", "rejected"]


class Estimate(Manifest):
    """A metric with its bootstrap interval.

    Attributes:
        value: the metric.
        low: lower end of the 95 % interval; None for a metric that is not averaged over users.
        high: upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None


class Segment(Manifest):
    """The metrics of a part of the holdout.

    Attributes:
        by: what divides the holdout: ``user activity``, ``item popularity`` or ``known to the champion``.
        name: name of the part: ``cold``, ``middle``, ``heavy``; ``head``, ``tail``; ``known users``,
            ``unknown users`` or ``unknown items``.
        users: judged users in it; for parts by items, those who have held-out entries in it.
        metrics: metric by name, by recommender.
    """

    by: str
    name: str
    users: Count
    metrics: Mapping[Recommender, Mapping[str, Estimate]]


class Check(Manifest):
    """One condition of the decision.

    Attributes:
        name: name of the condition, such as ``gain over the champion``.
        passed: whether it holds.
        detail: a sentence with the figures.
    """

    name: str
    passed: bool
    detail: str


class Decision(Manifest):
    """Whether the model is delivered, and why.

    Attributes:
        outcome: ``blessed`` or ``rejected``.
        reason: one sentence that starts with a capital and ends with a full stop.
        metric: metric that decides, such as ``ndcg_at_20``.
        checks: all conditions, in the order they were checked.
    """

    outcome: Outcome
    reason: str
    metric: str
    checks: tuple[Check, ...]


class ChampionFacts(Manifest):
    """The model that serves, as the judge saw it.

    Attributes:
        version: its name in the registry.
        promoted: time since which it serves, ISO 8601 in UTC.
        unknown_users: judged users that it does not know, for whom it answers by popularity.
        unknown_items: items that it does not know.
        excluded_entries: held-out entries that it was trained on, which are left out for all recommenders.
    """

    version: str
    promoted: str
    unknown_users: Count
    unknown_items: Count
    excluded_entries: Count


class Drift(Manifest):
    """How far the data differ from those of the champion in one respect.

    Attributes:
        name: what is compared, such as ``interactions``.
        value: the difference, in the unit of ``limit``.
        limit: largest difference, up or down, without a warning.
        detail: the figures in words, without a capital or a full stop.
    """

    name: str
    value: float
    limit: float
    detail: str

    @property
    def exceeded(self) -> bool:
        """Whether the difference is a warning."""
        return abs(self.value) > self.limit


class Holdout(Manifest):
    """What the metrics were computed on.

    Attributes:
        users: judged users.
        entries: judged entries.
        checksum: SHA-256 of all held-out entries, whether they are judged or not; metrics of different
            holdouts are not comparable.
    """

    users: Count
    entries: Count
    checksum: Digest


class Evaluation(Manifest):
    """Everything that is known about a model after the evaluation; the report and the notification show it.

    Attributes:
        decision: whether it is delivered.
        champion: the model that it was compared with; None if there was none.
        holdout: what it was judged on.
        metrics: metric by name, by recommender.
        segments: metrics of parts of the holdout.
        parameters: parameters of the training.
        choice: how those at ``auto`` were chosen; None if they were all given.
        history: iterations of the training.
        drift: how far the data differ from the champion's; empty without a champion.
        facts: further facts for people to read, by name, in display order; such as users and density.
        sha256: SHA-256 of each other file, by name.
    """

    decision: Decision
    champion: ChampionFacts | None
    holdout: Holdout
    metrics: Mapping[Recommender, Mapping[str, Estimate]]
    segments: tuple[Segment, ...]
    parameters: Mapping[str, Any]
    choice: Choice | None = None
    history: tuple[Iteration, ...]
    drift: tuple[Drift, ...] = ()
    facts: Mapping[str, str] = Field(default_factory=dict)
    sha256: Mapping[str, Digest] = Field(default_factory=dict)

    @property
    def drift_warning(self) -> str:
        """One sentence with the differences of the data that exceed their limits; "" if none does."""
        exceeded = [drift.detail for drift in self.drift if drift.exceeded]
        return f"The data have drifted since the champion: {'; '.join(exceeded)}." if exceeded else ""

    @property
    def shown_parameters(self) -> dict[str, Any]:
        """The parameters as people read them: ``16 (auto)`` where the value was chosen for the data."""
        chosen = self.choice.parameters if self.choice else ()
        return {name: shown(value) if name in chosen else value for name, value in self.parameters.items()}


def log_summary(evaluation: Evaluation) -> None:
    """Log an evaluation without its details in one line, where only the log can be read by the notification.

    That is on Kubernetes: the artifact is in an object store that no other step has access to.
    """
    if "KFP_POD_NAME" in os.environ:
        details: dict[str, Any] = {
            "segments": (),
            "parameters": {},
            "choice": None,
            "history": (),
            "facts": {},
        }
        print(SUMMARY_MARK, evaluation.model_copy(update=details).model_dump_json(), flush=True)


def summary_in(log: str) -> Evaluation | None:
    """Return the last evaluation that a log has; None if it has none, or a damaged one."""
    lines = [line for line in log.splitlines() if line.startswith(SUMMARY_MARK)]
    try:
        return Evaluation.model_validate_json(lines[-1].removeprefix(SUMMARY_MARK)) if lines else None
    except pydantic.ValidationError:
        return None
