"""Options of the notification."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from trainer.options import Options, group

NotifyOn = Literal["always", "problems", "never"]

VERSIONS_OF_SECRETS = r"projects/[a-z0-9:.-]+/secrets/[A-Za-z0-9_-]+/versions/[a-z0-9-]+"
"""Pattern of the names of secrets' versions in Secret Manager."""

SecretVersion = Annotated[str, StringConstraints(pattern=f"^({VERSIONS_OF_SECRETS})?$")]


class NotifyOptions(Options):
    """Which runs are reported, and where the address of the webhook is kept."""

    notify_on: NotifyOn = Field(
        default="always",
        description="Which runs to report: all, only those that fail, whose model is rejected or whose data "
        "have drifted, or none.",
        json_schema_extra=group("Notification"),
    )
    webhook_secret: SecretVersion = Field(
        default="",
        description="Secret in Secret Manager that holds the webhook's address, as "
        "projects/P/secrets/S/versions/V; if omitted, the step's variable WALS_WEBHOOK holds it.",
        json_schema_extra=group("Notification"),
    )
