"""Checking the registry of delivered models."""

from components.registry import open_registry
from pipeline.platforms.findings import Findings
from trainer.errors import InputError


def check_champion(address: str) -> None:
    """Check that a registry can be read, and its champion too if it has one.

    Raises:
        InputError: the place cannot be used, or the champion is damaged or of another schema.
        WalsError: the place failed.
    """
    registry = open_registry(address)
    champion = registry.champion()
    if champion:
        registry.version(champion.version)


def look_for_registry(address: str, findings: Findings) -> None:
    """Note if a registry in S3 or a store like it cannot be read, or its champion is damaged.

    Args:
        address: address of the registry; one in another place is skipped.
        findings: findings to add to. That the store or the keys cannot be used is noted as unchecked, since
            the steps may have others.
    """
    if not address.startswith(("s3://", "minio://")):
        return
    with findings.noted():
        try:
            check_champion(address)
        except InputError as error:
            if error.field != "registry":
                raise
            findings.unchecked.append(f"{error}, unless the steps have other keys")
