"""Options of the delivery step."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from components.deliver.bigquery_options import BigQueryDelivery
from components.deliver.vertex_names import check_model
from components.options import RegistryOptions
from trainer.errors import InputError
from trainer.options import group, valid_if

_DELIVERY = group("Delivery")


class DeliverOptions(BigQueryDelivery, RegistryOptions):
    """Where a model that was found good enough goes."""

    keep_versions: int = Field(
        default=10,
        ge=1,
        le=10_000,
        description="Number of newest versions that the registry keeps; the champion and the one before it "
        "always stay.",
        json_schema_extra=_DELIVERY,
    )
    vertex_model: Annotated[str, valid_if(check_model)] = Field(
        default="",
        description="Model in Vertex AI's Model Registry, projects/PROJECT/locations/REGION/models/ID, that "
        "gets the SavedModel as a new version; none if omitted.",
        json_schema_extra=_DELIVERY,
    )

    def conflicts(self) -> Iterator[InputError]:
        """See `Options.conflicts`."""
        if self.vertex_model and not self.registry.startswith("gs://"):
            yield InputError(
                "vertex_model",
                self.vertex_model,
                "requires a registry in Cloud Storage, where Vertex AI reads the SavedModel",
                "set registry to gs://BUCKET/PATH",
            )
