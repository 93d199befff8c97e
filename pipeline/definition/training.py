"""The training pipeline: extract -> prepare -> train -> evaluate -> publish."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from kfp import dsl
from kfp.dsl import graph_component

from components.evaluate.component import evaluate
from components.extract.component import extract
from components.extract.options import ExtractOptions
from components.options import RankingOptions
from components.prepare.component import prepare
from components.prepare.options import PrepareOptions
from components.publish.component import publish
from components.publish.options import PublishOptions
from components.train.component import train
from pipeline.definition.parameters import pipeline_function
from pipeline.definition.pipeline import ImageOf, Pipeline
from pipeline.definition.targets import Target
from trainer.config import TrainConfig

Placed = Callable[[Any], Callable[..., dsl.PipelineTask]]
"""Returns a function that creates a component's task for a platform."""


class Outputs(NamedTuple):
    """Outputs of a pipeline that ends with a published model."""

    training: dsl.Dataset
    profile: dsl.Dataset
    profile_report: dsl.HTML
    model: dsl.Model
    metrics: dsl.Metrics
    report: dsl.HTML
    recommendations: dsl.Dataset


def prepared_interactions(placed: Placed, values: Mapping[str, Any]) -> dsl.PipelineTask:
    """Extract and prepare, and return the task of the preparation."""
    extracted = placed(extract)(**ExtractOptions.select(values))
    return placed(prepare)(interactions=extracted.outputs["interactions"], **PrepareOptions.select(values))


def trained_model(placed: Placed, values: Mapping[str, Any], prepared: dsl.PipelineTask) -> dsl.PipelineTask:
    """Train on the prepared interactions, and return the task."""
    return placed(train)(
        matrix=prepared.outputs["training"],
        vocabulary=prepared.outputs["vocabulary"],
        **TrainConfig.select(values),
    )


def judged_and_published(
    placed: Placed, values: Mapping[str, Any], prepared: dsl.PipelineTask, trained: dsl.PipelineTask
) -> Outputs:
    """Evaluate and publish a model, and return the pipeline's outputs."""
    evaluated = placed(evaluate)(
        model=trained.outputs["model"],
        training=prepared.outputs["training"],
        holdout=prepared.outputs["holdout"],
        **RankingOptions.select(values),
    )
    published = placed(publish)(model=trained.outputs["model"], **PublishOptions.select(values))
    # Publishing waits for the evaluation, so that a model that could not be evaluated is not published.
    published.after(evaluated)
    return Outputs(
        training=prepared.outputs["training"],
        profile=prepared.outputs["profile"],
        profile_report=prepared.outputs["profile_report"],
        model=trained.outputs["model"],
        metrics=evaluated.outputs["metrics"],
        report=evaluated.outputs["report"],
        recommendations=published.outputs["recommendations"],
    )


def training_pipeline(pipeline: Pipeline, image: ImageOf, target: Target) -> graph_component.GraphComponent:
    """Return the training pipeline for one platform.

    Args:
        pipeline: the pipeline's record.
        image: function that returns the container image of a step.
        target: the platform to compile for.
    """

    def placed(component: Any) -> Callable[..., dsl.PipelineTask]:
        return target.placed(component, image(component.name))

    def wire(values: Mapping[str, Any]) -> Outputs:
        prepared = prepared_interactions(placed, values)
        return judged_and_published(placed, values, prepared, trained_model(placed, values, prepared))

    return dsl.pipeline(name=pipeline.name, description=pipeline.summary)(
        pipeline_function(pipeline.summary, pipeline.parameters, Outputs, wire)
    )
