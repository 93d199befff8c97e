"""Options of the delivery step."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, StringConstraints

from components.deliver.bigquery_options import BigQueryDelivery
from components.deliver.vertex_names import check_endpoint, check_model, endpoint_of, model_of
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
        description="Number of versions that the registry keeps; the champion and its predecessor are "
        "always kept.",
        json_schema_extra=_DELIVERY,
    )
    vertex_model: Annotated[str, valid_if(check_model)] = Field(
        default="",
        description="Model in Vertex AI's Model Registry, projects/PROJECT/locations/REGION/models/ID, that "
        "gets the SavedModel as a new version; none if omitted.",
        json_schema_extra=_DELIVERY,
    )
    vertex_endpoint: Annotated[str, valid_if(check_endpoint)] = Field(
        default="",
        description="Endpoint of Vertex AI, projects/PROJECT/locations/REGION/endpoints/ID, that the version "
        "of vertex_model is deployed to; none if omitted.",
        json_schema_extra=_DELIVERY,
    )
    vertex_traffic: int = Field(
        default=100,
        ge=1,
        le=100,
        description="Percent of the endpoint's traffic that a new version gets; the others share the rest as "
        "before, and those left with none are undeployed.",
        json_schema_extra=_DELIVERY,
    )
    vertex_machine_type: Annotated[str, StringConstraints(pattern=r"^[a-z]\w*(-\w+)+$")] = Field(
        default="n1-standard-2",
        description="Machine type that a version is deployed on.",
        json_schema_extra=_DELIVERY,
    )
    vertex_max_replicas: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="Number of machines that a deployed version may grow to under load; one always runs.",
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
        if not self.vertex_endpoint:
            return
        if not self.vertex_model:
            yield InputError(
                "vertex_endpoint",
                self.vertex_endpoint,
                "requires vertex_model, whose versions are deployed",
                "set vertex_model",
            )
        elif endpoint_of(self.vertex_endpoint).region != model_of(self.vertex_model).region:
            yield InputError(
                "vertex_endpoint",
                self.vertex_endpoint,
                f"is in another region than vertex_model, {self.vertex_model}",
                "give an endpoint in the model's region",
            )
