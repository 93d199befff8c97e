"""Evaluation: the new model on the holdout beside the champion and baselines, and the decision on it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.artifacts.evaluation import PER_USER_FILE, SCHEMA, Estimate, Recommender, log_summary
from components.evaluate.champion import champion_of
from components.evaluate.examples import examples_of
from components.evaluate.judge import Case, Judge
from components.evaluate.labels import BASELINE_PREFIX, CHAMPION_PREFIX, metric_length
from components.evaluate.options import FAILED, REJECTED, EvaluateOptions
from components.evaluate.report import write_report
from components.options import at_most_items
from trainer.files import begin_artifact, finish_artifact, identity
from trainer.ranking import ranking_as_trained

_PREFIXES: Mapping[Recommender, str] = {
    "model": "",
    "champion": CHAMPION_PREFIX,
    "popularity": BASELINE_PREFIX,
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judgement:
    """Result of the evaluation.

    Attributes:
        decision: ``blessed``, ``rejected``, or ``failed`` for a rejected model that is to fail the run.
        metrics: figures that consoles show: the new model's by their names, and with the prefixes
            ``champion_`` and ``popularity_`` those of the other two.
        metadata: metadata of the evaluation artifact.
    """

    decision: str
    metrics: Mapping[str, float]
    metadata: Mapping[str, Any]


def evaluate(
    options: EvaluateOptions,
    *,
    model: Path,
    training: Path,
    holdout: Path,
    catalogue: Path,
    profile: Path,
    evaluation: Path,
    report: Path,
    tuned: bool = False,
) -> Judgement:
    """Judge a model on a holdout beside the champion and baselines, and decide whether it is delivered.

    docs/results.md describes the rules. In short: the champion is the model that the registry calls so; all
    recommenders rank for the same users, at most ``eval_users`` drawn at random, and have to find the same
    entries, those that the champion was not trained on; items that a user has in the training of either model
    are masked for all of them; users that a model knows nothing about get the popular items from it. Users
    who were held out whole get factors from their ``history`` in the holdout (fold-in), and its items are
    masked; this is strong generalisation (Liang et al. 2018, sec. 4.2).

    Args:
        options: how the model is judged, and what it takes to be delivered.
        model: folder of a ``wals.model`` artifact.
        training: folder of the ``wals.matrix`` artifact it was trained on.
        holdout: folder of the ``wals.holdout`` artifact that belongs to that matrix.
        catalogue: folder of the ``wals.catalogue`` artifact.
        profile: folder of the ``wals.profile`` artifact of the interactions.
        evaluation: folder to write the ``wals.evaluation`` artifact to.
        report: HTML file to write.
        tuned: whether the model's parameters are the best of a tuning, which is then not advised.

    Returns:
        Decision and figures.

    Raises:
        InputError: the holdout is empty, a folder is not the expected artifact, they are of different
            runs, the champion cannot be compared with the model, or the GPU cannot be used.
        WalsError: the registry cannot be reached.
    """
    begin_artifact(evaluation)
    report.unlink(missing_ok=True)
    case = Case.open(model, training, holdout, catalogue, profile)
    # The metrics keep the name of the length that was asked for: longer lists than the items change nothing.
    at_most_items("eval_k", options.eval_k, len(case.model.items))
    with (
        champion_of(options.registry, case.model) as champion,
        # Both models' lists, so that they are compared by the same arithmetic.
        ranking_as_trained(case.model.config),
    ):
        content = Judge(case, champion, options, tuned).judge(evaluation / PER_USER_FILE)
        served = champion.profile if champion else None
    known = case.matrix if case.history is None else case.history
    described = case.catalogue.described(case.model.items)
    examples = examples_of(case.model, known, case.targets, described)
    write_report(content, examples, case.profile, served, report)
    written = content.model_dump(mode="json")
    finish_artifact(evaluation, SCHEMA, written)
    log_summary(content)
    decision = content.decision
    logger.info("%s: %s", decision.outcome, decision.reason)
    if content.drift_warning:
        logger.warning("%s", content.drift_warning)
    failed = decision.outcome == REJECTED and options.on_rejection == "fail"
    return Judgement(
        FAILED if failed else decision.outcome,
        _figures(content.metrics, options.eval_k),
        {
            "outcome": decision.outcome,
            "reason": decision.reason,
            "holdout": content.holdout.checksum,
            **identity(SCHEMA, written),
        },
    )


def _figures(metrics: Mapping[Recommender, Mapping[str, Estimate]], eval_k: int) -> dict[str, float]:
    """Return the figures that consoles show: those of lists of ``eval_k``, and errors of predicted values."""
    return {
        f"{prefix}{name}": estimate.value
        for recommender, prefix in _PREFIXES.items()
        for name, estimate in metrics.get(recommender, {}).items()
        if metric_length(name) in ("", str(eval_k))
    }
