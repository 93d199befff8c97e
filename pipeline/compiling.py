"""Compiling pipelines into the specs that platforms take."""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from kfp import compiler
from kfp.dsl import graph_component
from kfp.dsl.structures import InputSpec

from components.images import image
from pipeline.targets import VERTEX, Target
from pipeline.training import training_pipeline
from pipeline.tuning import tuning_pipeline
from trainer.errors import InputError
from trainer.files import make_writable, replacing

PIPELINES: Mapping[str, Callable[[Callable[[str], str], Target], graph_component.GraphComponent]] = {
    "wals-train": training_pipeline,
    "wals-tune": tuning_pipeline,
}


def compile_pipeline(name: str, target: Target, folder: Path, image: Callable[[str], str] = image) -> Path:
    """Write ``folder/NAME.TARGET.yaml`` and return its path. The same arguments give the same bytes.

    Args:
        name: a pipeline's name, a key of :data:`PIPELINES`.
        target: the platform.
        folder: made when missing.
        image: gives the container image of a step; the one built on this machine unless told otherwise.

    Raises:
        InputError: there is no such pipeline, or the folder cannot be written.
    """
    if name not in PIPELINES:
        raise InputError("pipeline", name, "is not a pipeline", f"give one of {', '.join(PIPELINES)}")
    pipeline = PIPELINES[name](image, target)
    path = folder / f"{name}.{target.name}.yaml"
    make_writable(folder)
    with tempfile.TemporaryDirectory() as scratch, replacing(path) as temporary:
        # kfp takes the format from the suffix, which a temporary file beside the spec has not.
        compiled = Path(scratch) / path.name
        compiler.Compiler().compile(pipeline, str(compiled))
        shutil.copyfile(compiled, temporary)
    return path


def pipeline_inputs(name: str) -> Mapping[str, InputSpec]:
    """Return the parameters of a pipeline by name, with type, default and description, in its order."""
    inputs: Mapping[str, InputSpec] = PIPELINES[name](image, VERTEX).component_spec.inputs
    return inputs
