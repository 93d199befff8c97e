"""The training step in a process of its own."""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from components.runtime import run_step
from components.train import checkpoints, step
from components.train.options import RefitOptions, TrainStepOptions
from components.train.refit import assist_refit, refit

_STEPS: Mapping[str, Any] = {
    "train": (step.train, TrainStepOptions, step.assist_training),
    "refit": (refit, RefitOptions, assist_refit),
}


def run_on_machine(name: str, options: Mapping[str, Any], paths: Mapping[str, Path]) -> None:
    """Run a step as one machine of a Vertex AI custom job, and print its metadata; needs CLUSTER_SPEC.

    Args:
        name: ``train`` or ``refit``.
        options: options of the step.
        paths: its artifacts.
    """
    run, model, assistant = _STEPS[name]
    artifacts = {artifact: SimpleNamespace(path=str(path)) for artifact, path in paths.items()}
    print(json.dumps(run_step(run, model, {**options, **artifacts}, assistant=assistant)))


def train_and_die(
    folder: Path, model: Path, options: Mapping[str, Any], iteration: int, is_mounted: bool
) -> None:
    """Train, and be killed once the checkpoint of an iteration is complete.

    Args:
        folder: folder of the artifacts ``matrix`` and ``vocabulary``.
        model: folder of the model.
        options: options of the step.
        iteration: number of the iteration.
        is_mounted: whether all folders are of a mounted bucket.
    """
    checkpoints._SECONDS = 0.0
    if is_mounted:
        checkpoints.is_mounted_bucket = lambda _: True
    save = checkpoints.StepCheckpoints.save

    def save_and_die(self: checkpoints.StepCheckpoints, state: Any, *arguments: Any) -> None:
        save(self, state, *arguments)
        if len(state.history) == iteration:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoints.StepCheckpoints.save = save_and_die  # type: ignore[method-assign]
    inputs = {name: folder / name for name in ("matrix", "vocabulary")}
    step.train(TrainStepOptions(**options), **inputs, model=model)
