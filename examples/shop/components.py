"""The KFP wrappers of the own source and the own step; both run in the image ``shop``."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("shop"), packages_to_install=[], install_kfp_package=False)
def orders(database: str, interactions: dsl.Output[dsl.Dataset], catalogue: dsl.Output[dsl.Dataset]) -> None:
    """Read the orders and the products of a shop."""
    arguments = dict(locals())
    from components.runtime import run_step
    from examples.shop.orders import OrdersOptions
    from examples.shop.orders import orders as step

    metadata = run_step(step, OrdersOptions, arguments)
    interactions.metadata.update(metadata["interactions"])
    catalogue.metadata.update(metadata["catalogue"])


@dsl.component(base_image=image("shop"), packages_to_install=[], install_kfp_package=False)
def keep(
    interactions: dsl.Input[dsl.Dataset],
    catalogue: dsl.Input[dsl.Dataset],
    kept: dsl.Output[dsl.Dataset],
    categories: str = "",
) -> None:
    """Keep the interactions with items of some categories."""
    arguments = dict(locals())
    from components.runtime import run_step
    from examples.shop.keep import KeepOptions
    from examples.shop.keep import keep as step

    kept.metadata.update(run_step(step, KeepOptions, arguments))
