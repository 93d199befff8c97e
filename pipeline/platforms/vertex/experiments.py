"""Experiments of Vertex AI, which compare the parameters and metrics of runs.

An experiment is a context in the project's metadata store, and a run belongs to it once the run's own
context, which Vertex AI creates when the run starts, is its child.
"""

from typing import Any

from google.api_core import exceptions

from pipeline.platforms.environments import Vertex
from pipeline.platforms.vertex.job_requests import METADATA_STORE, experiment_of, parent_of
from trainer.errors import InputError

# Those that google-cloud-aiplatform creates experiments with.
_SCHEMA, _SCHEMA_VERSION = "system.Experiment", "0.0.1"
_METADATA = {"experiment_deleted": False}


def ensure_experiment(client: Any, platform: Vertex, **options: Any) -> None:
    """Create the platform's experiment unless it exists.

    Args:
        client: a ``MetadataServiceClient``.
        platform: platform with the name of the experiment.
        options: options of each request.

    Raises:
        InputError: the name is that of something else in the metadata store.
        GoogleAPICallError: the service refuses or fails.
    """
    try:
        found = client.get_context(name=experiment_of(platform), **options)
    except exceptions.NotFound:
        _create(client, platform, **options)
        return
    if found.schema_title != _SCHEMA:
        raise InputError(
            "experiment",
            platform.experiment,
            f"is the name of a {found.schema_title} in the metadata store",
            "give another name",
        )


def _create(client: Any, platform: Vertex, **options: Any) -> None:
    request = {
        "parent": f"{parent_of(platform)}/{METADATA_STORE}",
        "context_id": platform.experiment,
        "context": {
            "display_name": platform.experiment,
            "schema_title": _SCHEMA,
            "schema_version": _SCHEMA_VERSION,
            "metadata": _METADATA,
        },
    }
    try:
        client.create_context(request, **options)
    except exceptions.AlreadyExists:
        # Another run has created it at the same time.
        return


def add_to_experiment(client: Any, platform: Vertex, run_context: str, **options: Any) -> None:
    """Add a run to the platform's experiment, which is created if it does not exist.

    Args:
        client: a ``MetadataServiceClient``.
        platform: platform with the name of the experiment.
        run_context: resource name of the run's context.
        options: options of each request.

    Raises:
        InputError: the name is that of something else in the metadata store.
        GoogleAPICallError: the service refuses or fails.
    """
    ensure_experiment(client, platform, **options)
    request = {"context": experiment_of(platform), "child_contexts": [run_context]}
    client.add_context_children(request, **options)
