"""The steps as components call them: with options by name and artifacts as paths."""

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
    values = {name: value for name, value in arguments.items() if not isinstance(value, Path)}
    return step(options(**values), **{name: arguments[name] for name in arguments if name not in values})


def extract(*, output: Path, **options: Any) -> Any:
    """Extract interactions to the folder ``output``, and return their metadata."""
    with tempfile.TemporaryDirectory() as scratch:
        catalogue = Path(scratch, "catalogue")
        metadata = extract_step(ExtractOptions(**options), interactions=output, catalogue=catalogue)
    return metadata["interactions"]


prepare = partial(_call, prepare_step, PrepareOptions)
evaluate = partial(_call, evaluate_step, EvaluateOptions)
publish = partial(_call, publish_step, PublishOptions)
