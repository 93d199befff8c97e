"""The pipeline of the shop: an own source and an own step before the steps of ``wals-train``.

``python -m examples.shop.pipeline`` compiles it into ``build/``. With a folder and a database as arguments,
it also runs it on this machine, with its results in the folder.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.prepare.options import PrepareOptions
from examples.shop.keep import KeepOptions
from examples.shop.orders import OrdersOptions
from pipeline.definition.compiling import compile_pipeline
from pipeline.definition.parameters import pipeline_function
from pipeline.definition.pipeline import ImageOf, Pipeline
from pipeline.definition.pipelines import TRAINING
from pipeline.definition.targets import KUBEFLOW, VERTEX, Target

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent

    from pipeline.local.runner import StepEvent


def _build(pipeline: Pipeline, image: ImageOf, target: Target) -> "GraphComponent":
    from kfp import dsl

    from components.prepare.component import prepare
    from examples.shop.components import keep, orders
    from pipeline.definition.training import Interactions, notified, placed_on, trained_and_delivered

    placed = placed_on(target, image)

    def wire(values: Mapping[str, Any]) -> None:
        with notified(placed, values, pipeline.name):
            # Own steps have the settings of a step that needs about as much.
            ordered = target.placed(orders, image("shop"), "extract")(**OrdersOptions.select(values))
            catalogue = ordered.outputs["catalogue"]
            kept = target.placed(keep, image("shop"), "prepare")(
                interactions=ordered.outputs["interactions"],
                catalogue=catalogue,
                **KeepOptions.select(values),
            )
            prepared = placed(prepare)(interactions=kept.outputs["kept"], **PrepareOptions.select(values))
            trained_and_delivered(placed, values, Interactions(ordered, prepared), target.run_id)

    return dsl.pipeline(name=pipeline.name, description=pipeline.summary)(
        pipeline_function(pipeline.summary, pipeline.parameters, wire)
    )


_, *_AFTER_EXTRACTION = TRAINING.models

SHOP = Pipeline(
    name="wals-shop",
    summary="Train recommendations from the orders of a shop.",
    steps=("orders", "keep", *TRAINING.steps[1:]),
    models=(OrdersOptions, KeepOptions, *_AFTER_EXTRACTION),
    build=_build,
)


def main(folder: str = "build", database: str = "") -> None:
    """Compile the pipeline into a folder for both platforms and, with a database, run it on this machine."""
    specs = [compile_pipeline(SHOP, target, Path(folder)) for target in (KUBEFLOW, VERTEX)]
    print(*specs, sep="\n")
    if database:
        from pipeline.local.runner import run_compiled

        run_compiled(specs[0], {"database": database}, Path(folder), _show)


def _show(event: "StepEvent") -> None:
    print(f"{event.step} {event.kind} {event.line}".rstrip())


if __name__ == "__main__":
    main(*sys.argv[1:])
