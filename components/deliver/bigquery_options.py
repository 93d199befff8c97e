"""Options of the delivery to BigQuery."""

from functools import partial
from typing import Annotated

from pydantic import Field

from components.extract.names import check_dataset
from trainer.errors import InputError, problems_of
from trainer.options import Options, group, valid_if

_SCHEME = "bq://"
_DELIVERY = group("Delivery")


def check_destination(destination: str) -> None:
    """Refuse a text that is neither ``bq://project.dataset`` nor ""."""
    name = destination.removeprefix(_SCHEME)
    if destination and (name in (destination, "") or problems_of(partial(check_dataset, name))):
        remedy = f"give one such as {_SCHEME}my-project.my_dataset"
        raise InputError("destination", destination, "is not a dataset in BigQuery", remedy)


def dataset_of(destination: str) -> str:
    """Return the ``project.dataset`` of a checked destination."""
    return destination.removeprefix(_SCHEME)


class BigQueryDelivery(Options):
    """Which dataset to deliver to, and how long the rows stay."""

    destination: Annotated[str, valid_if(check_destination)] = Field(
        default="",
        description="BigQuery dataset (bq://project.dataset) to write recommendations, similar items and "
        "embeddings to; none if omitted.",
        json_schema_extra=_DELIVERY,
    )
    delivery_expiration_days: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="Delete the delivered rows this many days after the delivery, unless another one "
        "replaces them; 0 keeps them.",
        json_schema_extra=_DELIVERY,
    )
