"""The model card: what a delivered model is for, what it cannot do, and how good it was found."""

from typing import Any

from components.artifacts.evaluation import Evaluation
from components.artifacts.model_card import INTENDED_USE, LIMITS, SCHEMA
from components.registry import Version


def model_card(version: Version, evaluation: Evaluation, facts: dict[str, int]) -> dict[str, Any]:
    """Return the content of ``model_card.json``.

    Args:
        version: version that the card belongs to.
        evaluation: evaluation of the judged model.
        facts: numbers of users, items and interactions that the delivered model was trained on.
    """
    return {
        "schema": SCHEMA.name,
        "schema_version": SCHEMA.version,
        "model": {
            "version": version.name,
            "created": version.created,
            "run": version.run,
            "code_version": version.code_version,
            "algorithm": "weighted alternating least squares",
            "parameters": dict(version.parameters),
            "checksum": version.model_checksum,
        },
        "intended_use": list(INTENDED_USE),
        "limits": list(LIMITS),
        "training_data": facts,
        "refit": _refit(version.refit_iters),
        "evaluation": {
            "decision": evaluation.decision.reason,
            "metric": evaluation.decision.metric,
            "holdout": evaluation.holdout.model_dump(),
            "facts": dict(evaluation.facts),
            "metrics": {
                recommender: {
                    name: estimate.model_dump(exclude_none=True) for name, estimate in metrics.items()
                }
                for recommender, metrics in evaluation.metrics.items()
            },
        },
    }


def _refit(iterations: int) -> str:
    if not iterations:
        return "The delivered model is the judged model itself: held-out interactions are not in it."
    return (
        f"After it was judged, the model was trained on all interactions, held-out ones included, for "
        f"{iterations} more iterations from the judged factors. The metrics are those of the judged model; "
        "the delivered one cannot be measured on interactions that it has seen."
    )
