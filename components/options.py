"""Options that several steps share."""

from pydantic import Field

from trainer.options import Options, group


class RankingOptions(Options):
    """How rankings are evaluated."""

    eval_k: int = Field(
        default=20,
        ge=1,
        description="Length of the ranked lists that Recall and NDCG are computed on.",
        json_schema_extra=group("Evaluation"),
    )
