"""Options of the publishing step."""

from pydantic import Field

from trainer.options import Options, group

_OUTPUT, _RULES = group("Output"), group("Rules")

ANY_SCORE = -1e9
"""Lowest score of the default: below those of any model."""


class PublishOptions(Options):
    """What to publish."""

    top_k: int = Field(
        default=10,
        ge=1,
        le=100_000,
        description="Number of recommendations to publish for each user.",
        json_schema_extra=group("Output", common=True),
    )
    similar_k: int = Field(
        default=10,
        ge=1,
        le=100_000,
        description="Number of similar items to publish for each item.",
        json_schema_extra=_OUTPUT,
    )
    max_per_category: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="Recommend at most this many items of a category to a user; 0 is unlimited.",
        json_schema_extra=_RULES,
    )
    min_score: float = Field(
        default=ANY_SCORE,
        ge=ANY_SCORE,
        le=-ANY_SCORE,
        description="Recommend only items with at least this predicted score; the default is below any.",
        json_schema_extra=_RULES,
    )
