"""Checking the registry of delivered models, the model to start from, and the folder for checkpoints."""

from collections.abc import Mapping
from typing import Any

from components.registry import open_registry, open_store
from components.train.options import CHAMPION
from pipeline.platforms.findings import Findings
from trainer.errors import InputError
from trainer.files import MANIFEST


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


def look_for_start(parameters: Mapping[str, Any], findings: Findings) -> None:
    """Note if the model to start from is not there, or it or the folder for checkpoints cannot be read.

    Args:
        parameters: parameters of the pipeline; folders on a machine are skipped.
        findings: findings to add to. That S3 or the keys cannot be used is noted as unchecked, since the
            steps may have others.
    """
    for field in ("warm_start", "checkpoint_dir"):
        address = parameters.get(field, "")
        if address == CHAMPION or "://" not in address:
            continue
        with findings.noted():
            try:
                stored = open_store(field, address).read(MANIFEST)
            except InputError as error:
                if address.startswith("gs://"):
                    raise
                findings.unchecked.append(f"{error}, unless the steps have other keys")
                continue
            if field == "warm_start":
                # Slow to import, and few runs name a model.
                from components.train.warm_start import check_manifest

                check_manifest(stored, address)
