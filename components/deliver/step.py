"""Delivery: a model that was found good enough goes to the registry, BigQuery and Vertex AI."""

import hashlib
import logging
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from components.artifacts.delivery import SCHEMA, Delivery
from components.artifacts.evaluation import SCHEMA as EVALUATION_SCHEMA
from components.artifacts.evaluation import Evaluation
from components.deliver.card import model_card
from components.deliver.options import DeliverOptions
from components.deliver.serving import serve, to_bigquery
from components.registry import Champion, Part, Registry, Version, open_registry, time_of
from components.software import own_version
from trainer.errors import InputError, WalsError
from trainer.files import (
    MANIFEST,
    Count,
    Manifest,
    begin_artifact,
    finish_artifact,
    identity,
    read_manifest,
    sha256,
    write_json,
)
from trainer.history import Iteration
from trainer.model import SCHEMA as MODEL_SCHEMA
from trainer.scratch import scratch_folder

_SHOWN = ("version", "champion_before", "destination", "vertex_model", "vertex_endpoint")

logger = logging.getLogger(__name__)


class _Model(Manifest):
    """What a version tells of its model."""

    config: Mapping[str, Any]
    users: Count
    items: Count
    entries: Count
    history: tuple[Iteration, ...]


def deliver(
    options: DeliverOptions,
    *,
    model: Path,
    saved_model: Path,
    recommendations: Path,
    similar_items: Path,
    embeddings: Path,
    evaluation: Path,
    report: Path,
    profile: Path,
    delivery: Path,
    run: str = "",
) -> dict[str, Any]:
    """Bring a model and what was made of it to where applications read it.

    In this order: the files of the version into the registry, its manifest last; a version in Vertex AI's
    Model Registry, deployed to the endpoint without traffic; the tables of BigQuery, replaced together; the
    pointer to the champion, if it is still the model that this one was compared with; the alias ``champion``
    in Vertex AI; the traffic of the endpoint; and old versions are deleted. Whatever interrupts it, the
    pointer names a complete version. Delivering the same artifacts again is the same version, and completes
    what is missing.

    Args:
        options: where to deliver to; without a registry and a destination nothing is delivered.
        model: folder of the ``wals.model`` artifact to deliver.
        saved_model: folder of the ``wals.saved_model`` artifact of that model, or an empty one.
        recommendations: folder of the ``wals.recommendations`` artifact of that model.
        similar_items: folder of its ``wals.similar_items`` artifact.
        embeddings: folder of its ``wals.embeddings`` artifact.
        evaluation: folder of the ``wals.evaluation`` artifact that found the model good enough.
        report: the HTML report of the evaluation.
        profile: folder of the ``wals.profile`` artifact of the data that the model rests on.
        delivery: folder to write the ``wals.delivery`` artifact to.
        run: name of the run.

    Returns:
        The artifact's metadata: version, champion_before, destination, vertex_model, vertex_endpoint,
        checksum and schema_version.

    Raises:
        InputError: a folder is not the expected artifact, the evaluation rejected the model, or a place
            cannot be used.
        WalsError: another run has changed the champion meanwhile, or a place failed.
    """
    begin_artifact(delivery)
    judged = read_manifest(evaluation, EVALUATION_SCHEMA, Evaluation)
    if judged.decision.outcome != "blessed":
        raise InputError("evaluation", judged.decision.outcome, "is not blessed", "deliver a blessed model")
    made = {
        "model": model,
        "recommendations": recommendations,
        "similar_items": similar_items,
        "embeddings": embeddings,
        # Empty unless it was asked for.
        **({"saved_model": saved_model} if (saved_model / MANIFEST).exists() else {}),
    }
    if options.vertex_model and "saved_model" not in made:
        raise InputError(
            "vertex_model", options.vertex_model, "requires a SavedModel", "set export_saved_model to true"
        )
    digest = _digest(made)
    judged_by = {"evaluation": evaluation, "profile": profile, "report.html": report}
    parts: dict[Part, Path] = {**made, **judged_by}  # type: ignore[dict-item]
    outcome = _deliver(options, judged, parts, digest, run)
    content = outcome.model_dump(mode="json")
    finish_artifact(delivery, SCHEMA, content)
    return {**{name: content[name] for name in _SHOWN}, **identity(SCHEMA, content)}


def _deliver(
    options: DeliverOptions, judged: Evaluation, parts: Mapping[Part, Path], digest: str, run: str
) -> Delivery:
    if not options.registry:
        if not options.destination:
            logger.info("nothing to deliver: neither a registry nor a destination is set")
        return Delivery(
            version=digest[:16],
            registry="",
            champion_before="",
            destination=options.destination,
            rows=to_bigquery(options, digest[:16], parts),
            vertex_model="",
            vertex_endpoint="",
            deleted_versions=(),
        )
    registry = open_registry(options.registry)
    version = registry.name_for(digest)
    # Until the pointer is replaced, no other run may replace the tables.
    with registry.claimed(version):
        champion = registry.champion()
        _check_champion(registry, champion, version, judged)
        _add(registry, version, judged, parts, run)
        logger.info("version %s is in %s", version, registry.address)
        replace = partial(registry.promote, version, champion)
        served = serve(options, registry, version, parts, replace, options.vertex_traffic)
        deleted = registry.retain(options.keep_versions)
    # A repeated delivery finds its own version.
    before = champion and (champion.previous if champion.version == version else champion.version)
    return Delivery(
        version=version,
        registry=options.registry,
        champion_before=before or "",
        destination=options.destination,
        rows=served.rows,
        vertex_model=served.vertex_model,
        vertex_endpoint=options.vertex_endpoint,
        deleted_versions=tuple(deleted),
    )


def _check_champion(registry: Registry, champion: Champion | None, version: str, judged: Evaluation) -> None:
    """Refuse to replace a champion that the model was not compared with."""
    current = champion.version if champion else None
    compared = judged.champion.version if judged.champion else None
    if current not in (compared, version):
        raise WalsError(
            f"registry {registry.address!r}: the champion is {current or 'missing'}, but this model was "
            f"compared with {compared or 'no champion'}; run the pipeline again to compare the two"
        )


def _add(registry: Registry, name: str, judged: Evaluation, parts: Mapping[Part, Path], run: str) -> None:
    facts = read_manifest(parts["model"], MODEL_SCHEMA, _Model)
    metrics = {metric: estimate.value for metric, estimate in judged.metrics["model"].items()}
    version = Version(
        name=name,
        created=time_of(name).isoformat(),
        run=run,
        decision=judged.decision,
        metrics={metric: value for metric, value in metrics.items() if math.isfinite(value)},
        parameters=judged.parameters,
        model_checksum=sha256(parts["model"] / MANIFEST),
        holdout_checksum=judged.holdout.checksum,
        code_version=own_version(),
        # The judged model itself has the history of the evaluation.
        refit_iters=0 if facts.history == judged.history else len(facts.history),
    )
    with scratch_folder() as scratch:
        card = scratch / "model_card.json"
        counts = {"users": facts.users, "items": facts.items, "interactions": facts.entries}
        write_json(card, model_card(version, judged, counts))
        schema = scratch / "metrics_schema.json"
        write_json(schema, _metrics_schema(version))
        registry.add(version, {**parts, "model_card.json": card, "metrics_schema.json": schema})


def _metrics_schema(version: Version) -> dict[str, Any]:
    """Return the OpenAPI schema of a version's metrics, which Vertex AI requires with them."""
    properties = {name: {"type": "number"} for name in sorted(version.metrics)}
    return {"title": "Ranking metrics on a holdout", "type": "object", "properties": properties}


def _digest(folders: Mapping[str, Path]) -> str:
    """Return the SHA-256 of artifacts' manifests, which hold the checksums of their files."""
    digest = hashlib.sha256()
    for name, folder in sorted(folders.items()):
        if not (folder / MANIFEST).exists():
            raise InputError(
                name, str(folder), f"has no {MANIFEST}", "give a folder that a finished run wrote"
            )
        digest.update(f"{name} {sha256(folder / MANIFEST)}\n".encode())
    return digest.hexdigest()
