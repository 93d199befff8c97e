"""Options that several steps share."""

import logging

from pydantic import Field

from trainer.options import Options, group

logger = logging.getLogger(__name__)


def at_most_items(option: str, length: int, items: int) -> int:
    """Return the length that an option gives to lists of items, or the number of items if that is less."""
    if length > items:
        logger.warning("%s %d is above the number of items, %d, which is used instead", option, length, items)
    return min(length, items)


class RankingOptions(Options):
    """How rankings are evaluated."""

    eval_k: int = Field(
        default=20,
        ge=1,
        le=100_000,
        description="Length of the ranked lists that Recall and NDCG are computed on.",
        json_schema_extra=group("Evaluation"),
    )
