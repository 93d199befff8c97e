"""The available pipelines. Nothing slow is imported until one of them is built."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from components.deliver.options import DeliverOptions
from components.evaluate.options import EvaluateOptions
from components.extract.options import ExtractOptions
from components.notify.options import NotifyOptions
from components.prepare.options import PrepareOptions
from components.probe.options import ProbeOptions
from components.publish.options import PublishOptions
from components.train.options import RefitOptions, TrainStepOptions
from components.tune.options import ChooseOptions, SuggestOptions, TrialOptions
from pipeline.definition.pipeline import ImageOf, Pipeline
from pipeline.definition.targets import Target
from trainer.errors import InputError

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent


def _build_training(pipeline: Pipeline, image: ImageOf, target: Target) -> "GraphComponent":
    from pipeline.definition.training import training_pipeline

    return training_pipeline(pipeline, image, target)


def _build_tuning(pipeline: Pipeline, image: ImageOf, target: Target) -> "GraphComponent":
    from pipeline.definition.tuning import tuning_pipeline

    return tuning_pipeline(pipeline, image, target)


def _build_probe(pipeline: Pipeline, image: ImageOf, target: Target) -> "GraphComponent":
    from pipeline.definition.probing import probe_pipeline

    return probe_pipeline(pipeline, image, target)


class _DeliveryOptions(RefitOptions, DeliverOptions):
    """Options of the steps from a blessed model to what serves."""

    def conflicts(self) -> Iterator[InputError]:
        """See `Options.conflicts`."""
        yield from super().conflicts()
        if self.vertex_model and not self.export_saved_model:
            yield InputError(
                "vertex_model", self.vertex_model, "requires a SavedModel", "set export_saved_model to true"
            )


_FROM_TRAIN = ("train", "evaluate", "reject", "refit", "publish", "deliver", "notify")

TRAINING = Pipeline(
    name="wals-train",
    summary="Train recommendations with weighted alternating least squares.",
    steps=("extract", "prepare", *_FROM_TRAIN),
    models=(
        *(ExtractOptions, PrepareOptions, TrainStepOptions, EvaluateOptions, PublishOptions),
        *(_DeliveryOptions, NotifyOptions),
    ),
    build=_build_training,
)

TUNING = Pipeline(
    name="wals-tune",
    summary="Tune the training's parameters, and train with the best.",
    steps=(
        *("extract", "prepare", "suggest", "trial", "suggest-2", "trial-2", "suggest-3", "trial-3"),
        *("choose", *_FROM_TRAIN),
    ),
    models=(*TRAINING.models, SuggestOptions, TrialOptions, ChooseOptions),
    build=_build_tuning,
    side_by_side={"trial": "width"},
)

PROBE = Pipeline(
    name="wals-probe",
    summary="Find out what the steps of the other pipelines can do where they run.",
    steps=("extract", "prepare", "train", "evaluate", "publish", "suggest", "trial", "report"),
    models=(ExtractOptions, ProbeOptions),
    build=_build_probe,
    unused=TUNING.models,
)

PIPELINES: Mapping[str, Pipeline] = {pipeline.name: pipeline for pipeline in (TRAINING, TUNING, PROBE)}
