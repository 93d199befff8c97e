"""The probe: a small step in each image, with the settings of the step that really runs in it."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl
from kfp.dsl import graph_component

from components.extract.options import ExtractOptions
from components.images import image_name
from components.probe.component import probe, probe_extract, probe_report, probe_suggest, probe_trial
from components.probe.options import ProbeOptions
from pipeline.definition.parameters import pipeline_function
from pipeline.definition.pipeline import ImageOf, Pipeline
from pipeline.definition.targets import Target

_PLAIN = ("prepare", "train", "evaluate", "publish")
# It collects the steps of a loop, as `choose` does, and needs no more than that.
_LIKE_REPORT = "choose"


def probe_pipeline(pipeline: Pipeline, image: ImageOf, target: Target) -> graph_component.GraphComponent:
    """Return the pipeline of the probe for one platform.

    Args:
        pipeline: the pipeline's record.
        image: function that returns the container image of a step.
        target: the platform to compile for.
    """

    def placed(component: Any, name: str, like: str = "") -> Callable[..., dsl.PipelineTask]:
        """Return a function that creates the task ``name``, in the image and with the settings of a step."""
        step = like or name
        component = copy.deepcopy(component)
        component.component_spec.name = name
        create = target.placed(component, image(image_name(step)), step)
        # What a machine can do is never a matter of an earlier run.
        return lambda **inputs: create(**inputs).set_caching_options(False)

    def wire(values: Mapping[str, Any]) -> None:
        given = ProbeOptions.select(values)
        extracted = placed(probe_extract, "extract")(
            **_expected(target, "extract"), **ExtractOptions.select(values)
        )
        others = {step: placed(probe, step)(**_expected(target, step), **given) for step in _PLAIN}
        # By name: a task of a custom job has further outputs.
        with dsl.ParallelFor(placed(probe_suggest, "suggest")().outputs["Output"]) as item:
            tried = placed(probe_trial, "trial")(item=item, **_expected(target, "trial"), **given)
        placed(probe_report, "report", _LIKE_REPORT)(
            trials=dsl.Collected(tried.outputs["Output"]),
            **{step: task.outputs["findings"] for step, task in {"extract": extracted, **others}.items()},
        )

    return dsl.pipeline(name=pipeline.name, description=pipeline.summary)(
        pipeline_function(pipeline.summary, pipeline.parameters, wire)
    )


def _expected(target: Target, step: str) -> dict[str, Any]:
    """Return what a step should have, as its settings say; 0 cores and bytes if a machine type decides."""
    settings = target.steps[step]
    by_machine = settings.custom_job is not None and target.custom_job is not None
    return {
        "step": step,
        "cores": 0.0 if by_machine else settings.cores,
        "memory_bytes": 0 if by_machine else settings.memory_bytes,
        "accelerators": settings.accelerators,
    }
