"""Compiling pipelines into the specs that platforms accept."""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from components.images import image
from pipeline.definition.pipeline import ImageOf, Pipeline
from pipeline.definition.targets import Target
from trainer.files import make_writable, replacing


def compile_pipeline(pipeline: Pipeline, target: Target, folder: Path, image: ImageOf = image) -> Path:
    """Write ``folder/NAME.TARGET.yaml`` and return its path. The same arguments give the same bytes.

    Args:
        pipeline: the pipeline to compile.
        target: the platform to compile for.
        folder: folder for the spec; created if missing.
        image: function that returns the container image of a step; by default the one built on this machine.

    Raises:
        InputError: the folder cannot be written.
    """
    import_kfp()
    from kfp import compiler  # slow to import

    built = pipeline.build(pipeline, image, target)
    path = folder / f"{pipeline.name}.{target.name}.yaml"
    make_writable(folder)
    with tempfile.TemporaryDirectory() as scratch, replacing(path) as temporary:
        # kfp derives the format from the suffix, which a temporary file next to the spec does not have.
        compiled = Path(scratch) / path.name
        compiler.Compiler().compile(built, str(compiled))
        shutil.copyfile(compiled, temporary)
    return path


# The variable by which kfp knows that it runs in a step.
_KFP_RUNTIME = "_KFP_RUNTIME"


def import_kfp() -> None:
    """Import kfp without its client, if this is the first to import it. Worth it with kfp 2.17.0.

    The client imports Kubernetes' and Google's libraries, which takes most of a second, and neither compiling
    nor running on this machine uses it. ``kfp.client`` can still be imported by its name.
    """
    if "kfp" in sys.modules:
        return
    before = os.environ.get(_KFP_RUNTIME)
    os.environ[_KFP_RUNTIME] = "true"
    try:
        import kfp  # noqa: F401
    finally:
        del os.environ[_KFP_RUNTIME]
        if before is not None:
            os.environ[_KFP_RUNTIME] = before


def read_spec(path: Path) -> list[dict[str, Any]]:
    """Return the documents of a compiled spec: the pipeline's, and the platform's if there is one."""
    # libyaml, which PyYAML's wheels have, parses a spec ten times faster than PyYAML itself.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return list(yaml.load_all(path.read_text("utf-8"), loader))
