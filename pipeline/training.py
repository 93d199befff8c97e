"""The training pipeline: extract -> prepare -> train -> evaluate -> publish."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from kfp import dsl
from kfp.dsl import graph_component

from components.evaluate.component import evaluate
from components.extract.component import extract
from components.prepare.component import prepare
from components.publish.component import publish
from components.train.component import train
from pipeline.parameters import TRAINING, of_step, pipeline_function
from pipeline.targets import Target
from trainer.config import TrainConfig
from trainer.errors import InputError, problems_of

STEPS = ("extract", "prepare", "train", "evaluate", "publish")

Placed = Callable[[Any], Callable[..., dsl.PipelineTask]]
"""Makes a component's task for a platform."""


class Outputs(NamedTuple):
    """What a pipeline that ends with a published model gives."""

    training: dsl.Dataset
    profile: dsl.Dataset
    profile_report: dsl.HTML
    model: dsl.Model
    metrics: dsl.Metrics
    report: dsl.HTML
    recommendations: dsl.Dataset


def prepared_interactions(placed: Placed, given: Mapping[str, Any]) -> dsl.PipelineTask:
    """Extract and prepare, and return the task of the preparation."""
    extracted = placed(extract)(**of_step(extract, given))
    return placed(prepare)(interactions=extracted.outputs["interactions"], **of_step(prepare, given))


def judged_and_published(
    placed: Placed, given: Mapping[str, Any], prepared: dsl.PipelineTask, trained: dsl.PipelineTask
) -> Outputs:
    """Evaluate and publish a model, and return the pipeline's outputs."""
    evaluated = placed(evaluate)(
        model=trained.outputs["model"],
        training=prepared.outputs["training"],
        holdout=prepared.outputs["holdout"],
        **of_step(evaluate, given),
    )
    published = placed(publish)(model=trained.outputs["model"], **of_step(publish, given))
    # Publishing waits for the evaluation, so that a model which could not be evaluated is not published.
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


def training_pipeline(image: Callable[[str], str], target: Target) -> graph_component.GraphComponent:
    """Return the training pipeline for one platform.

    Args:
        image: gives the container image of a step.
        target: gives each task its place on the platform.
    """

    def placed(component: Any) -> Callable[..., dsl.PipelineTask]:
        return target.placed(component, image(component.name))

    def wire(given: Mapping[str, Any]) -> Outputs:
        prepared = prepared_interactions(placed, given)
        trained = placed(train)(
            matrix=prepared.outputs["training"],
            vocabulary=prepared.outputs["vocabulary"],
            **of_step(train, given),
        )
        return judged_and_published(placed, given, prepared, trained)

    summary = "Train recommendations with weighted alternating least squares."
    return dsl.pipeline(name="wals-train", description=summary)(
        pipeline_function(summary, TRAINING, Outputs, wire)
    )


def check_parameters(parameters: Mapping[str, Any]) -> list[InputError]:
    """Return everything that a step would refuse of a pipeline's parameters, before any step runs.

    Args:
        parameters: all of the training pipeline's, or all of the tuning pipeline's, by name.
    """
    # The steps' own packages are slow to import, and compiling needs none of them.
    from components.evaluate.step import check_eval_k
    from components.extract.step import option_problems
    from components.publish.step import check_top_k

    return [
        *option_problems(**of_step(extract, parameters)),
        *_preparation_problems(parameters),
        *_training_problems(parameters),
        *problems_of(partial(check_eval_k, parameters["eval_k"])),
        *problems_of(partial(check_top_k, parameters["top_k"])),
        *_study_problems(parameters),
    ]


def _preparation_problems(parameters: Mapping[str, Any]) -> Iterator[InputError]:
    from components.prepare.options import Options
    from components.prepare.profile import Contract

    def given(kind: type[Any]) -> dict[str, Any]:
        return {field.name: parameters[field.name] for field in dataclasses.fields(kind)}

    yield from Options(**given(Options)).problems()
    yield from Contract(**given(Contract)).problems(parameters["on_drift"])


def _training_problems(parameters: Mapping[str, Any]) -> Iterator[InputError]:
    # One by one, as a configuration tells of the first only.
    for name, value in of_step(train, parameters).items():
        yield from problems_of(partial(TrainConfig.from_dict, {name: value}))


def _study_problems(parameters: Mapping[str, Any]) -> Iterator[InputError]:
    if "width" in parameters:
        from components.tune.study import problems

        yield from problems(width=parameters["width"], max_latent_factors=parameters["max_latent_factors"])
