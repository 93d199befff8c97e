"""The training pipeline: from a source to a judged model, and from a blessed model to its delivery."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kfp import dsl
from kfp.dsl import graph_component

from components.deliver.component import deliver
from components.deliver.options import DeliverOptions
from components.evaluate.component import evaluate, reject
from components.evaluate.options import BLESSED, FAILED, EvaluateOptions
from components.extract.component import extract
from components.extract.options import ExtractOptions
from components.images import image_name
from components.notify.component import notify
from components.notify.options import NotifyOptions
from components.prepare.component import prepare
from components.prepare.options import PrepareOptions
from components.publish.component import publish
from components.publish.options import PublishOptions
from components.train.component import refit, train
from components.train.options import RefitOptions, TrainStepOptions
from pipeline.definition.parameters import pipeline_function
from pipeline.definition.pipeline import ImageOf, Pipeline
from pipeline.definition.targets import Target

Placed = Callable[[Any], Callable[..., dsl.PipelineTask]]
"""Returns a function that creates a component's task for a platform."""


@dataclass(frozen=True)
class Interactions:
    """The tasks that extract and prepare the interactions."""

    extracted: dsl.PipelineTask
    prepared: dsl.PipelineTask


def placed_on(target: Target, image: ImageOf) -> Placed:
    """Return the function that creates tasks for a platform, with the images and settings of their steps."""
    return lambda component: target.placed(component, image(image_name(component.name)))


def notified(placed: Placed, values: Mapping[str, Any], pipeline: str) -> dsl.ExitHandler:
    """Return the context of tasks after which the notification is sent, whatever happens to them."""
    return dsl.ExitHandler(placed(notify)(pipeline=pipeline, **NotifyOptions.select(values)), name="run")


def prepared_interactions(placed: Placed, values: Mapping[str, Any]) -> Interactions:
    """Extract and prepare, and return the tasks."""
    extracted = placed(extract)(**ExtractOptions.select(values))
    prepared = placed(prepare)(
        interactions=extracted.outputs["interactions"], **PrepareOptions.select(values)
    )
    return Interactions(extracted, prepared)


def trained_and_delivered(
    placed: Placed, values: Mapping[str, Any], data: Interactions, run: str, *, tuned: bool = False
) -> None:
    """Train a model, and deliver it if the evaluation blesses it.

    Args:
        placed: creates tasks.
        values: values of all parameters, by name.
        data: what to train and to judge on.
        run: placeholder of the run's id.
        tuned: whether the values are the best of a tuning.
    """
    sets = data.prepared.outputs
    trained = placed(train)(
        matrix=sets["training"], vocabulary=sets["vocabulary"], **TrainStepOptions.select(values)
    )
    catalogue = data.extracted.outputs["catalogue"]
    evaluated = placed(evaluate)(
        model=trained.outputs["model"],
        training=sets["training"],
        holdout=sets["holdout"],
        catalogue=catalogue,
        profile=sets["profile"],
        tuned=tuned,
        **EvaluateOptions.select(values),
    )
    with dsl.If(evaluated.outputs["Output"] == BLESSED, name=BLESSED):
        refitted = placed(refit)(
            judged=trained.outputs["model"],
            training=sets["training"],
            holdout=sets["holdout"],
            vocabulary=sets["vocabulary"],
            **RefitOptions.select(values),
        )
        published = placed(publish)(
            model=refitted.outputs["model"], catalogue=catalogue, **PublishOptions.select(values)
        )
        # By name: a task of a custom job has further outputs.
        placed(deliver)(
            **{name: refitted.outputs[name] for name in ("model", "saved_model")},
            **{name: published.outputs[name] for name in ("recommendations", "similar_items", "embeddings")},
            **{name: evaluated.outputs[name] for name in ("evaluation", "report")},
            profile=sets["profile"],
            run=run,
            **DeliverOptions.select(values),
        )
    with dsl.If(evaluated.outputs["Output"] == FAILED, name=FAILED):
        placed(reject)(evaluation=evaluated.outputs["evaluation"])


def training_pipeline(pipeline: Pipeline, image: ImageOf, target: Target) -> graph_component.GraphComponent:
    """Return the training pipeline for one platform.

    Args:
        pipeline: the pipeline's record.
        image: function that returns the container image of a step.
        target: the platform to compile for.
    """
    placed = placed_on(target, image)

    def wire(values: Mapping[str, Any]) -> None:
        with notified(placed, values, pipeline.name):
            trained_and_delivered(placed, values, prepared_interactions(placed, values), target.run_id)

    return dsl.pipeline(name=pipeline.name, description=pipeline.summary)(
        pipeline_function(pipeline.summary, pipeline.parameters, wire)
    )
