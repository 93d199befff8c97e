"""The tuning pipeline: extract and prepare once, rounds of parallel trials, then train with the best."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from kfp import dsl
from kfp.dsl import graph_component

from components.images import image_name
from components.tune.component import choose, suggest, trial
from components.tune.options import TUNED, ChooseOptions, SuggestOptions, TrialOptions
from pipeline.definition.parameters import pipeline_function
from pipeline.definition.pipeline import ImageOf, Pipeline
from pipeline.definition.targets import Target
from pipeline.definition.training import judged_and_published, prepared_interactions, trained_model


class _Outputs(NamedTuple):
    training: dsl.Dataset
    profile: dsl.Dataset
    profile_report: dsl.HTML
    study: dsl.HTML
    latent_factors: int
    regularization: float
    regularization_exponent: float
    unobs_weight: float
    alpha: float
    feature_wt_factor: float
    feature_wt_exp: float
    model: dsl.Model
    metrics: dsl.Metrics
    report: dsl.HTML
    recommendations: dsl.Dataset


def tuning_pipeline(pipeline: Pipeline, image: ImageOf, target: Target) -> graph_component.GraphComponent:
    """Return the tuning pipeline for one platform.

    Args:
        pipeline: the pipeline's record.
        image: function that returns the container image of a step.
        target: the platform to compile for.
    """

    def placed(component: Any) -> Callable[..., dsl.PipelineTask]:
        return target.placed(component, image(image_name(component.name)))

    def wire(values: Mapping[str, Any]) -> _Outputs:
        prepared = prepared_interactions(placed, values)

        def round_of_trials(**rounds_before: Any) -> Callable[[], dsl.Collected]:
            candidates = placed(suggest)(**rounds_before, **SuggestOptions.select(values))
            # By name: a task of a custom job has further outputs.
            with dsl.ParallelFor(candidates.outputs["Output"]) as candidate:
                result = placed(trial)(
                    matrix=prepared.outputs["training"], candidate=candidate, **TrialOptions.select(values)
                )
            # A new object for each consumer, since compiling changes the one it is given.
            return lambda: dsl.Collected(result.outputs["Output"])

        first = round_of_trials(first=[], second=[])
        second = round_of_trials(first=first(), second=[])
        third = round_of_trials(first=first(), second=second())
        chosen = placed(choose)(first=first(), second=second(), third=third(), **ChooseOptions.select(values))
        best = {name: chosen.outputs[name] for name in TUNED}
        trained = trained_model(placed, {**values, **best}, prepared)
        published = judged_and_published(placed, values, prepared, trained)
        return _Outputs(study=chosen.outputs["study"], **best, **published._asdict())

    return dsl.pipeline(name=pipeline.name, description=pipeline.summary)(
        pipeline_function(pipeline.summary, pipeline.parameters, _Outputs, wire)
    )
