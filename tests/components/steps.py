"""The steps as components call them: with options by name and artifacts as paths."""

from functools import partial
from pathlib import Path
from typing import Any

from components.evaluate.step import evaluate as evaluate_step
from components.extract.options import ExtractOptions
from components.extract.step import extract as extract_step
from components.options import RankingOptions
from components.prepare.options import PrepareOptions
from components.prepare.step import prepare as prepare_step
from components.publish.options import PublishOptions
from components.publish.step import publish as publish_step
from trainer.options import Options


def _call(step: Any, options: type[Options], /, **arguments: Any) -> Any:
    values = {name: value for name, value in arguments.items() if not isinstance(value, Path)}
    return step(options(**values), **{name: arguments[name] for name in arguments if name not in values})


def extract(*, output: Path, **options: Any) -> Any:
    return extract_step(ExtractOptions(**options), interactions=output)


prepare = partial(_call, prepare_step, PrepareOptions)
evaluate = partial(_call, evaluate_step, RankingOptions)
publish = partial(_call, publish_step, PublishOptions)
