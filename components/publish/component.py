"""The KFP wrapper of the publishing step."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("publish"), packages_to_install=[], install_kfp_package=False)
def publish(model: dsl.Input[dsl.Model], recommendations: dsl.Output[dsl.Dataset], top_k: int = 10) -> None:
    """Write the best items of every user, seen ones left out, as Parquet."""
    arguments = dict(locals())
    from components.publish.options import PublishOptions
    from components.publish.step import publish as step
    from components.runtime import run_step

    recommendations.metadata.update(run_step(step, PublishOptions, arguments))
