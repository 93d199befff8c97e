"""The KFP wrapper of the delivery step."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("publish"), packages_to_install=[], install_kfp_package=False)
def deliver(
    model: dsl.Input[dsl.Model],
    saved_model: dsl.Input[dsl.Artifact],
    recommendations: dsl.Input[dsl.Dataset],
    similar_items: dsl.Input[dsl.Dataset],
    embeddings: dsl.Input[dsl.Dataset],
    evaluation: dsl.Input[dsl.Artifact],
    report: dsl.Input[dsl.HTML],
    profile: dsl.Input[dsl.Dataset],
    delivery: dsl.Output[dsl.Artifact],
    registry: str = "",
    destination: str = "",
    delivery_expiration_days: int = 0,
    keep_versions: int = 10,
    vertex_model: str = "",
    vertex_endpoint: str = "",
    vertex_traffic: int = 100,
    vertex_machine_type: str = "n1-standard-2",
    vertex_max_replicas: int = 1,
    run: str = "",
) -> None:
    """Bring a blessed model to the registry, BigQuery and Vertex AI, and make it the champion."""
    arguments = dict(locals())
    from components.deliver.options import DeliverOptions
    from components.deliver.step import deliver as step
    from components.runtime import run_step

    delivery.metadata.update(run_step(step, DeliverOptions, arguments))
