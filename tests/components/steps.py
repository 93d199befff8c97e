"""The steps as components call them: with options by name and artifacts as paths."""

import inspect
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from components.evaluate.options import EvaluateOptions
from components.evaluate.step import evaluate as evaluate_step
from components.extract.options import ExtractOptions
from components.extract.step import extract as extract_step
from components.prepare.options import PrepareOptions
from components.prepare.step import prepare as prepare_step
from components.publish.options import PublishOptions
from components.publish.step import publish as publish_step
from trainer.options import Options


def _call(step: Any, options: type[Options], /, **arguments: Any) -> Any:
    others = {name: arguments.pop(name) for name in inspect.signature(step).parameters if name in arguments}
    return step(options(**arguments), **others)


def extract(*, output: Path, **options: Any) -> Any:
    """Extract interactions to the folder ``output``, and return their metadata."""
    with tempfile.TemporaryDirectory() as scratch:
        catalogue = Path(scratch, "catalogue")
        metadata = extract_step(ExtractOptions(**options), interactions=output, catalogue=catalogue)
    return metadata["interactions"]


prepare = partial(_call, prepare_step, PrepareOptions)
evaluate = partial(_call, evaluate_step, EvaluateOptions)
publish = partial(_call, publish_step, PublishOptions)
