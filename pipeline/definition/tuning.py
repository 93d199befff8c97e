"""The tuning pipeline: extract and prepare once, rounds of parallel trials, then train with the best."""

from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl
from kfp.dsl import graph_component

from components.tune.component import choose, suggest, trial
from components.tune.options import TUNED, ChooseOptions, SuggestOptions, TrialOptions
from pipeline.definition.parameters import pipeline_function
from pipeline.definition.pipeline import ImageOf, Pipeline
from pipeline.definition.targets import Target
from pipeline.definition.training import (
    Interactions,
    Placed,
    notified,
    placed_on,
    prepared_interactions,
    trained_and_delivered,
)


def tuning_pipeline(pipeline: Pipeline, image: ImageOf, target: Target) -> graph_component.GraphComponent:
    """Return the tuning pipeline for one platform.

    Args:
        pipeline: the pipeline's record.
        image: function that returns the container image of a step.
        target: the platform to compile for.
    """
    placed = placed_on(target, image)

    def wire(values: Mapping[str, Any]) -> None:
        data = prepared_interactions(placed, values)
        best = _tuned(placed, values, data)
        # The search is outside: Kubeflow Pipelines fails on loops in an exit handler (its issue 12390).
        with notified(placed, values, pipeline.name):
            trained_and_delivered(placed, {**values, **best}, data, target.run_id, tuned=True)

    return dsl.pipeline(name=pipeline.name, description=pipeline.summary)(
        pipeline_function(pipeline.summary, pipeline.parameters, wire)
    )


def _tuned(placed: Placed, values: Mapping[str, Any], data: Interactions) -> dict[str, Any]:
    """Search in three rounds of trials, and return the best parameters by name, which are known later."""

    def round_of_trials(**rounds_before: Any) -> Callable[[], dsl.Collected]:
        candidates = placed(suggest)(**rounds_before, **SuggestOptions.select(values))
        # By name: a task of a custom job has further outputs.
        with dsl.ParallelFor(candidates.outputs["Output"]) as candidate:
            result = placed(trial)(
                matrix=data.prepared.outputs["training"], candidate=candidate, **TrialOptions.select(values)
            )
        # A new object for each consumer, since compiling changes the one it is given.
        return lambda: dsl.Collected(result.outputs["Output"])

    first = round_of_trials(first=[], second=[])
    second = round_of_trials(first=first(), second=[])
    third = round_of_trials(first=first(), second=second())
    chosen = placed(choose)(first=first(), second=second(), third=third(), **ChooseOptions.select(values))
    return {name: chosen.outputs[name] for name in TUNED}
