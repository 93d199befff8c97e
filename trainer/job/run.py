"""The stand-alone training job: read, split, train, write, report."""

import argparse
import contextlib
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer import extras
from trainer.auto import choose
from trainer.checkpoint import Checkpoints
from trainer.config import TrainOptions
from trainer.distributed.training import assist
from trainer.distributed.workers import Workers, workers_of_environment
from trainer.errors import InputError, translated
from trainer.files import held, make_writable
from trainer.history import Iteration
from trainer.job import flags
from trainer.job.output import METRICS_FILE, metrics_of, scalars_of, write_output
from trainer.job.reading import Interactions, read_interactions
from trainer.matrix import InteractionMatrix
from trainer.model import Model
from trainer.scratch import scratch_folder
from trainer.splitting import Split
from trainer.storage import deliver, is_remote, local_copy
from trainer.training import fit

logger = logging.getLogger(__name__)


def run(given: argparse.Namespace) -> None:
    """Run the job that the flags describe.

    Args:
        given: the parsed flags.

    Raises:
        InputError: a flag or the data cannot be used.
        WalsError: Cloud Storage or a disk failed.
    """
    flags.check(given)
    with workers_of_environment() as workers:
        if workers is None or workers.is_chief:
            _lead(given, workers)
        else:
            split = _split(_read(given), given.test_fraction, flags.options_of(given).seed)
            assist(workers, InteractionMatrix.from_scipy(split.train))


def _lead(given: argparse.Namespace, workers: Workers | None) -> None:
    options, output = flags.options_of(given), flags.output_of(given)
    tuner = _tuner() if given.hypertune else None
    if not extras.tensorflow_is_installed():
        logger.warning("TensorFlow is not installed; no SavedModel will be written")
    data = _read(given)
    split = _split(data, given.test_fraction, options.seed)
    logger.info(
        "%d users, %d items, %d entries to train on and %d held out",
        *(len(data.users), len(data.items), split.train.nnz, split.test.nnz),
    )
    checkpoints = flags.checkpoints_of(given)
    with contextlib.ExitStack() as stack:
        if not is_remote(output):
            make_writable(Path(output))
            stack.enter_context(held(Path(output)))
        scratch = stack.enter_context(scratch_folder())
        scalars = scalars_of(given, scratch)
        model = _train(split, data, options, given.warm_start, checkpoints, scalars, workers)
        metrics = metrics_of(model, split)
        with_json = given.data_type == flags.USER_RATINGS
        write_output(scratch, model, data, metrics, with_json=with_json)
        deliver(scratch, "--job-dir", output, METRICS_FILE)
        if checkpoints:
            shutil.rmtree(flags.checkpoint_folder(given), ignore_errors=True)
    if tuner:
        tuner.report_hyperparameter_tuning_metric(
            flags.HYPERPARAMETER_METRIC_TAG, metrics["test_rmse"], global_step=len(model.history)
        )
    for name in ("train", "test"):
        value = metrics[f"{name}_rmse"]
        print(f"{name} RMSE = {'none' if value is None else format(value, '.4f')}")


def _read(given: argparse.Namespace) -> Interactions:
    with local_copy(flags.FIELD, flags.source_of(given)) as path:
        return read_interactions(path, delimiter=flags.delimiter_of(given), headers=flags.has_headers(given))


def _split(data: Interactions, fraction: float, seed: int) -> Split:
    split = Split.exact(data.matrix, fraction, seed)
    if fraction > 0 and not split.test.nnz:
        raise InputError(
            "--test_fraction",
            fraction,
            f"holds out none of {data.matrix.nnz} entries",
            "raise it, or set it to 0",
        )
    return split


def _train(
    split: Split,
    data: Interactions,
    options: TrainOptions,
    warm_start: str | None,
    checkpoints: Checkpoints | None,
    on_iteration: Callable[[Iteration], None],
    workers: Workers | None,
) -> Model:
    with contextlib.ExitStack() as stack:
        earlier = None
        if warm_start:
            earlier = Model.load(stack.enter_context(local_copy("--warm_start", warm_start)))
        matrix = InteractionMatrix.from_scipy(split.train)
        config, choice = choose(matrix, options, warm_start=earlier)
        model = fit(
            matrix,
            config,
            users=data.users,
            items=data.items,
            warm_start=earlier,
            checkpoints=checkpoints,
            on_iteration=on_iteration,
            workers=workers,
            has_holdout=split.test.nnz > 0,
        )
        return replace(model, choice=choice)


def _tuner() -> Any:
    """Return the client that reports the metric to Vertex AI's hyperparameter tuning.

    Raises:
        InputError: it is not installed, or its file cannot be written, which would else be noticed only after
            the training.
    """
    missing = InputError("--hypertune", True, "requires cloudml-hypertune", "pip install cloudml-hypertune")

    def unwritable(error: OSError) -> InputError:
        problem = f"cannot report its metric as user {os.geteuid()} ({error.strerror}: {error.filename})"
        return InputError("--hypertune", True, problem, "build the train image with RUN_AS=0:0")

    with translated((ImportError, lambda _: missing), (OSError, unwritable)):
        import hypertune

        tuner = hypertune.HyperTune()
        with Path(tuner.metric_path).open("a"):
            return tuner
