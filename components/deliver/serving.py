"""Making a version of the registry the one that serves: in BigQuery, in Vertex AI, and in the registry."""

import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from components.deliver.options import DeliverOptions
from components.registry import Champion, Part, Registry, open_registry
from trainer.errors import InputError

_TABLES: tuple[Part, ...] = ("recommendations", "similar_items", "embeddings")

_ALL_TRAFFIC = 100

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """Where a version serves.

    Attributes:
        champion: the champion after it.
        rows: rows that were loaded into BigQuery, by table; none if it already had the version.
        vertex_model: its version in Vertex AI's Model Registry, or "".
    """

    champion: Champion
    rows: Mapping[str, int]
    vertex_model: str


def promote(options: DeliverOptions, name: str, *, force: bool = False) -> Served:
    """Make a version of the registry serve, in the tables of BigQuery and in Vertex AI too.

    Args:
        options: the registry, and where its versions are delivered to.
        name: name of the version.
        force: whether to take over the claim of a delivery that was killed.

    Raises:
        InputError: there is no such version, or a place cannot be used.
        WalsError: a run is delivering or has changed the champion meanwhile, or a place failed.
    """
    registry = open_registry(options.registry)
    registry.version(name)
    return _switch(options, registry, name, partial(registry.promote, name, registry.champion()), force)


def rollback(options: DeliverOptions, *, force: bool = False) -> Served:
    """Make the version before the champion serve again, as `promote` does.

    Raises:
        InputError: there is no such version, or a place cannot be used.
        WalsError: a run is delivering or has changed the champion meanwhile, or a place failed.
    """
    registry = open_registry(options.registry)
    champion = registry.serving()
    before = registry.before(champion)
    return _switch(options, registry, before, partial(registry.rollback, champion), force)


def _switch(
    options: DeliverOptions, registry: Registry, name: str, replace: Callable[[], Champion], force: bool
) -> Served:
    with registry.claimed(name, force=force), contextlib.ExitStack() as copies:
        wanted = _TABLES if options.destination else ()
        parts = {part: copies.enter_context(registry.local(name, part)) for part in wanted}
        # Whoever chooses a version wants that one to answer, not a share of its answers.
        return serve(options, registry, name, parts, replace, _ALL_TRAFFIC)


def serve(
    options: DeliverOptions,
    registry: Registry,
    name: str,
    parts: Mapping[Part, Path],
    replace: Callable[[], Champion],
    traffic: int,
) -> Served:
    """Make a version serve.

    What takes minutes, may fail and changes nothing that serves comes first: the upload to Vertex AI and the
    deployment without traffic. Then the tables, the registry's pointer, the alias and the traffic change.

    Args:
        options: where to deliver to.
        registry: the registry, in which the version is complete and claimed.
        name: name of the version.
        parts: the folders that the tables are made of.
        replace: moves the pointer to the version.
        traffic: percent of the endpoint's traffic that the version gets.
    """
    if not options.vertex_model:
        rows = to_bigquery(options, name, parts)
        return Served(_logged(replace()), rows, "")
    # Slow to import, and few deliveries go there.
    from components.deliver.vertex import VertexRegistry
    from components.deliver.vertex_endpoint import VertexEndpoint

    version = registry.version(name)
    if "saved_model" not in version.parts:
        raise InputError(
            "vertex_model", options.vertex_model, f"requires a SavedModel, which {name} lacks", "omit it"
        )
    vertex = VertexRegistry(options.vertex_model)
    uploaded = vertex.upload(version, registry.folder(name))
    endpoint = None
    if options.vertex_endpoint:
        endpoint = VertexEndpoint(options.vertex_endpoint, options.vertex_model)
        endpoint.deploy(uploaded, name, options.vertex_machine_type, options.vertex_max_replicas)
    rows = to_bigquery(options, name, parts)
    champion = _logged(replace())
    vertex.move_alias(uploaded)
    if endpoint:
        endpoint.route(uploaded, traffic)
    return Served(champion, rows, uploaded)


def to_bigquery(options: DeliverOptions, version: str, parts: Mapping[Part, Path]) -> Mapping[str, int]:
    """Deliver to BigQuery, if there is a destination, and return the loaded rows by table."""
    if not options.destination:
        return {}
    # Slow to import, and few deliveries go there.
    from components.deliver.bigquery import deliver_to_bigquery

    return deliver_to_bigquery(
        options.destination,
        parts["recommendations"],
        parts["similar_items"],
        parts["embeddings"],
        version,
        expiration_days=options.delivery_expiration_days,
    )


def _logged(champion: Champion) -> Champion:
    logger.info("the champion is %s", champion.version)
    return champion
