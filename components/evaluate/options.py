"""Options of the evaluation step."""

from typing import Literal

from pydantic import Field

from components.options import RankingOptions, RegistryOptions
from trainer.options import group

BLESSED, REJECTED, FAILED = "blessed", "rejected", "failed"
"""What the step returns: a model is delivered, is not, or is not and the run is to fail."""

_DECISION, _EVALUATION = group("Decision"), group("Evaluation")


class EvaluateOptions(RegistryOptions, RankingOptions):
    """How a model is judged, and what it takes to be delivered."""

    eval_users: int = Field(
        default=100_000,
        ge=0,
        le=1_000_000_000,
        description="Judge at most this many of the users with interactions to predict, drawn at random; 0 "
        "is unlimited.",
        json_schema_extra=_EVALUATION,
    )
    gate_metric: Literal["recall", "ndcg", "map", "mrr", "hit_rate"] = Field(
        default="ndcg",
        description="Metric at eval_k that decides whether the model is delivered.",
        json_schema_extra=_DECISION,
    )
    min_gain: float = Field(
        default=0.0,
        ge=-1,
        le=1000,
        description="Required relative gain over the champion; a negative value allows a loss.",
        json_schema_extra=_DECISION,
    )
    require_significance: bool = Field(
        default=False,
        description="Require the whole 95 % interval of the gain over the champion to reach min_gain.",
        json_schema_extra=_DECISION,
    )
    max_segment_loss: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Maximum relative loss against the champion in a segment of at least 100 users.",
        json_schema_extra=_DECISION,
    )
    min_over_popularity: float = Field(
        default=0.0,
        ge=-1,
        le=1000,
        description="Required relative gain over the popularity baseline.",
        json_schema_extra=_DECISION,
    )
    on_rejection: Literal["keep", "fail"] = Field(
        default="keep",
        description="What happens if the model is rejected: keep the champion and succeed, or fail the run.",
        json_schema_extra=_DECISION,
    )
