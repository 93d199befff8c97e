"""The tuning pipeline: extract and prepare once, rounds of parallel trials, then train with the best."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from kfp import dsl
from kfp.dsl import graph_component

from components.images import image_name
from components.train.component import train
from components.tune.component import choose, suggest, trial
from pipeline.parameters import TUNING, of_step, pipeline_function
from pipeline.targets import Target
from pipeline.training import judged_and_published, prepared_interactions

STEPS = (
    *("extract", "prepare", "suggest", "trial", "suggest-2", "trial-2", "suggest-3", "trial-3"),
    *("choose", "train", "evaluate", "publish"),
)
TUNED = (
    *("latent_factors", "regularization", "regularization_exponent", "unobs_weight"),
    *("alpha", "feature_wt_factor", "feature_wt_exp"),
)


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


def tuning_pipeline(image: Callable[[str], str], target: Target) -> graph_component.GraphComponent:
    """Return the tuning pipeline for one platform.

    Args:
        image: gives the container image of a step.
        target: gives each task its place on the platform.
    """

    def placed(component: Any) -> Callable[..., dsl.PipelineTask]:
        return target.placed(component, image(image_name(component.name)))

    def wire(given: Mapping[str, Any]) -> _Outputs:
        prepared = prepared_interactions(placed, given)
        matrix = prepared.outputs["training"]

        def tried(candidates: dsl.PipelineTask) -> Callable[[], dsl.Collected]:
            # By name: a task of a custom job has further outputs.
            with dsl.ParallelFor(candidates.outputs["Output"]) as candidate:
                result = placed(trial)(matrix=matrix, candidate=candidate, **of_step(trial, given))
            # Anew for each consumer, as compiling changes what it is given.
            return lambda: dsl.Collected(result.outputs["Output"])

        first = tried(placed(suggest)(first=[], second=[], **of_step(suggest, given)))
        second = tried(placed(suggest)(first=first(), second=[], **of_step(suggest, given)))
        third = tried(placed(suggest)(first=first(), second=second(), **of_step(suggest, given)))
        chosen = placed(choose)(first=first(), second=second(), third=third(), **of_step(choose, given))
        best = {name: chosen.outputs[name] for name in TUNED}
        trained = placed(train)(
            matrix=matrix,
            vocabulary=prepared.outputs["vocabulary"],
            **{**of_step(train, given), **best},
        )
        published = judged_and_published(placed, given, prepared, trained)
        return _Outputs(study=chosen.outputs["study"], **best, **published._asdict())

    summary = "Tune the training's parameters, and train with the best."
    return dsl.pipeline(name="wals-tune", description=summary)(
        pipeline_function(summary, TUNING, _Outputs, wire)
    )
