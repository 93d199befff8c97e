"""The KFP wrapper of the publishing step."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("publish"), packages_to_install=[], install_kfp_package=False)
def publish(
    model: dsl.Input[dsl.Model],
    catalogue: dsl.Input[dsl.Artifact],
    recommendations: dsl.Output[dsl.Dataset],
    similar_items: dsl.Output[dsl.Dataset],
    embeddings: dsl.Output[dsl.Dataset],
    top_k: int = 10,
    similar_k: int = 10,
    max_per_category: int = 0,
    min_score: float = -1000000000.0,
) -> None:
    """Write each user's best unseen items, each item's nearest items, and the factors, as Parquet."""
    arguments = dict(locals())
    from components.publish.options import PublishOptions
    from components.publish.step import publish as step
    from components.runtime import run_step

    metadata = run_step(step, PublishOptions, arguments)
    recommendations.metadata.update(metadata["recommendations"])
    similar_items.metadata.update(metadata["similar_items"])
    embeddings.metadata.update(metadata["embeddings"])
