"""Options of the publishing step."""

from pydantic import Field

from trainer.options import Options, group


class PublishOptions(Options):
    """What to publish."""

    top_k: int = Field(
        default=10,
        ge=1,
        le=100_000,
        description="Number of recommendations to publish for each user.",
        json_schema_extra=group("Output"),
    )
