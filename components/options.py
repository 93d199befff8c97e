"""Options that several steps share."""

import logging
from typing import Annotated

from pydantic import Field

from trainer.errors import InputError
from trainer.options import Options, group, no_credentials, valid_if

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
        description="Length of the ranked lists for the main metrics, which decide on the delivery.",
        json_schema_extra=group("Evaluation"),
    )


STORE_SCHEMES = ("gs", "s3", "minio")
"""Schemes of the stores that steps read and write besides folders."""


def check_place(address: str, kind: str) -> None:
    """Refuse an address in a store where steps cannot keep anything.

    Args:
        address: address of a folder.
        kind: what the folder is for, as messages name it.
    """
    scheme, separator, path = address.partition("://")
    if separator and (scheme not in STORE_SCHEMES or not path.strip("/")):
        remedy = "give a folder, gs://BUCKET/PATH or s3://BUCKET/PATH"
        raise InputError(kind, address, f"is not a valid {kind}", remedy)


def check_registry(address: str) -> None:
    """Refuse an address in a store where there can be no registry."""
    check_place(address, "registry")


class RegistryOptions(Options):
    """Where delivered models are kept."""

    registry: Annotated[str, no_credentials("omit them"), valid_if(check_registry)] = Field(
        default="",
        description="Folder of the registry of delivered models, on this machine, gs:// or s3://; none if "
        "omitted.",
        json_schema_extra=group("Decision", common=True),
    )
