"""The available pipelines. Nothing slow is imported until one of them is built."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from components.extract.options import ExtractOptions
from components.options import RankingOptions
from components.prepare.options import PrepareOptions
from components.probe.options import ProbeOptions
from components.publish.options import PublishOptions
from components.tune.options import ChooseOptions, SuggestOptions, TrialOptions
from pipeline.definition.pipeline import ImageOf, Pipeline
from pipeline.definition.targets import Target
from trainer.config import TrainConfig

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


TRAINING = Pipeline(
    name="wals-train",
    summary="Train recommendations with weighted alternating least squares.",
    steps=("extract", "prepare", "train", "evaluate", "publish"),
    models=(ExtractOptions, PrepareOptions, TrainConfig, RankingOptions, PublishOptions),
    build=_build_training,
)

TUNING = Pipeline(
    name="wals-tune",
    summary="Tune the training's parameters, and train with the best.",
    steps=(
        *("extract", "prepare", "suggest", "trial", "suggest-2", "trial-2", "suggest-3", "trial-3"),
        *("choose", "train", "evaluate", "publish"),
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
