"""``python -m trainer.task``: train on one file, as a job of its own.

The flags, their defaults and the files of the result are those of the TensorFlow 1 job that this replaces;
docs/trainer-task.md describes them all.
"""

import argparse
import contextlib
import dataclasses
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from trainer.checkpoint import Checkpoints
from trainer.config import LINEAR, LOG, Feedback, SolverName, TrainConfig
from trainer.errors import InputError, WalsError
from trainer.extras import tensorflow_is_installed
from trainer.files import make_writable, write_json
from trainer.fit import fit
from trainer.matrix import InteractionMatrix
from trainer.metrics import rmse
from trainer.model import Iteration, Model
from trainer.reading import FIELD, Interactions, read_interactions
from trainer.storage import deliver, is_remote, joined, local_copy
from trainer.tensorboard import Scalars
from trainer.vocabulary import Vocabulary

METRICS_FILE = "metrics.json"
"""Written last: a job's output is whole when it is there."""

LOGS_FOLDER = "logs"
"""Of the progress, for TensorBoard."""

METRICS_SCHEMA = "wals.job_metrics"
METRICS_SCHEMA_VERSION = 1

HYPERPARAMETER_METRIC_TAG = "training/hptuning/metric"
"""The tag under which the RMSE of the held-out entries is reported; the one of the old job."""

RATINGS, USER_RATINGS, WEB_VIEWS = "ratings", "user_ratings", "web_views"

_DEFAULTS: dict[str, Any] = {
    "latent_factors": 5,
    "num_iters": 20,
    "regularization": 0.07,
    "regularization_exponent": 0.0,
    "unobs_weight": 0.01,
    "wt_type": LINEAR,
    "feature_wt_factor": 130.0,
    "feature_wt_exp": 0.08,
    "feedback": "explicit",
}
_DEFAULTS_BY_TYPE: dict[str, dict[str, Any]] = {WEB_VIEWS: {"wt_type": LOG}}
# Found by benchmarks/optimize_task.py on the sample; the record is in docs/trainer-task.md.
_OPTIMIZED_RATINGS = {
    "latent_factors": 6,
    "regularization": 0.00186,
    "unobs_weight": 0.00469,
    "feature_wt_factor": 119.0,
}
_OPTIMIZED_BY_TYPE: dict[str, dict[str, Any]] = {
    RATINGS: _OPTIMIZED_RATINGS,
    USER_RATINGS: _OPTIMIZED_RATINGS,
    # The old job's, which had data of this type to tune on; the sample has none.
    WEB_VIEWS: {
        "latent_factors": 30,
        "regularization": 7.27,
        "unobs_weight": 0.01,
        "feature_wt_exp": 5.05,
    },
}

logger = logging.getLogger("trainer.task")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job that the command line asks for and return its exit code."""
    given = make_parser().parse_args(arguments)
    _log(given.verbose_logging)
    try:
        run(given)
    except WalsError as error:
        print(f"trainer.task: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def run(given: argparse.Namespace) -> None:
    """Read, split, train, write and tell.

    Args:
        given: the parsed flags.

    Raises:
        InputError: a flag or the data cannot be used.
        WalsError: Cloud Storage or a disk failed.
    """
    check(given)
    config, output = config_of(given), _output(given)
    tuner = _tuner() if given.hypertune else None
    if not tensorflow_is_installed():
        logger.warning("no SavedModel will be written: TensorFlow is not installed")
    with local_copy(FIELD, source_of(given)) as path:
        data = read_interactions(path, delimiter=_delimiter(given), headers=_has_headers(given))
    split = Split.of(data.matrix, given.test_fraction, given.seed)
    logger.info(
        "%d users, %d items, %d entries to train on and %d held out",
        *(len(data.users), len(data.items), split.train.nnz, split.test.nnz),
    )
    if not is_remote(output):
        make_writable(Path(output))
    checkpoints = _checkpoints(given.checkpoint_every, output)
    with tempfile.TemporaryDirectory() as scratch:
        scalars = _scalars(output, Path(scratch))
        model = _train(split, data, config, given.warm_start, checkpoints, scalars)
        metrics = _metrics(model, split)
        _write(Path(scratch), model, data, metrics, with_json=given.data_type == USER_RATINGS)
        deliver(Path(scratch), "--job-dir", output, METRICS_FILE)
    if checkpoints:
        shutil.rmtree(_checkpoint_folder(output), ignore_errors=True)
    if tuner:
        tuner.report_hyperparameter_tuning_metric(
            HYPERPARAMETER_METRIC_TAG, metrics["test_rmse"], global_step=len(model.history)
        )
    for name in ("train", "test"):
        value = metrics[f"{name}_rmse"]
        print(f"{name} RMSE = {'none' if value is None else format(value, '.4f')}")


def check(given: argparse.Namespace) -> None:
    """Refuse flags that cannot be used, before anything is read or, for a job elsewhere, sent.

    Raises:
        InputError: naming the first such flag.
    """
    config_of(given)
    source_of(given)
    _checkpoints(given.checkpoint_every, _output(given))
    if not 0 <= given.test_fraction < 1:
        raise InputError(
            "--test_fraction", given.test_fraction, "is out of range", "give a number from 0 to below 1"
        )
    if given.hypertune and given.test_fraction == 0:
        raise InputError(
            "--hypertune", True, "has no metric without held-out entries", "raise --test_fraction"
        )


def config_of(given: argparse.Namespace) -> TrainConfig:
    """Return the training parameters of the flags.

    A flag that is given counts most, then ``--use-optimized``, then the defaults of the data type, then
    those of the old job.

    Raises:
        InputError: a parameter cannot be used.
    """
    values = _DEFAULTS | _DEFAULTS_BY_TYPE.get(given.data_type, {})
    if given.use_optimized:
        values |= _OPTIMIZED_BY_TYPE[given.data_type]
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    flags = {name: value for name, value in vars(given).items() if name in known and value is not None}
    return TrainConfig(**values | flags)


@dataclass(frozen=True)
class Split:
    """Entries to train on and entries held out, as (users, items) matrices."""

    train: sparse.csr_array[np.float32]
    test: sparse.csr_array[np.float32]

    @classmethod
    def of(cls, matrix: sparse.csr_array[np.float32], fraction: float, seed: int) -> "Split":
        """Hold out a share of the entries, rounded down, each as likely as any other.

        Args:
            matrix: of all entries.
            fraction: from 0, for none, up to but not 1.
            seed: of the choice; the same seed chooses the same entries.

        Raises:
            InputError: the fraction holds out nothing.
        """
        held_out = int(matrix.nnz * fraction)
        if fraction > 0 and held_out == 0:
            raise InputError(
                "--test_fraction", fraction, f"holds out none of {matrix.nnz} entries", "raise it, or give 0"
            )
        test = np.zeros(matrix.nnz, bool)
        test[np.random.default_rng(seed).choice(matrix.nnz, held_out, replace=False)] = True
        return cls(_entries(matrix, ~test), _entries(matrix, test))


def _entries(matrix: sparse.csr_array[np.float32], kept: NDArray[np.bool_]) -> sparse.csr_array[np.float32]:
    indptr = np.concatenate([[0], np.cumsum(kept)])[matrix.indptr]
    return sparse.csr_array((matrix.data[kept], matrix.indices[kept], indptr), shape=matrix.shape)


def _train(
    split: Split,
    data: Interactions,
    config: TrainConfig,
    warm_start: str | None,
    checkpoints: Checkpoints | None,
    on_iteration: Callable[[Iteration], None],
) -> Model:
    with contextlib.ExitStack() as stack:
        earlier = None
        if warm_start:
            earlier = Model.load(stack.enter_context(local_copy("--warm_start", warm_start)))
        return fit(
            InteractionMatrix.from_scipy(split.train),
            config,
            users=data.users,
            items=data.items,
            warm_start=earlier,
            checkpoints=checkpoints,
            on_iteration=on_iteration,
        )


def _metrics(model: Model, split: Split) -> dict[str, Any]:
    return {
        "schema": METRICS_SCHEMA,
        "schema_version": METRICS_SCHEMA_VERSION,
        "train_rmse": _rmse(model, split.train),
        "test_rmse": _rmse(model, split.test) if split.test.nnz else None,
        "objective": [iteration.objective for iteration in model.history],
        "iteration_seconds": [iteration.seconds for iteration in model.history],
        "users": len(model.users),
        "items": len(model.items),
        "train_entries": split.train.nnz,
        "test_entries": split.test.nnz,
        "config": model.config.to_dict(),
    }


def _rmse(model: Model, entries: sparse.csr_array[np.float32]) -> float:
    """Return the root mean squared error of the predicted targets."""
    users = np.repeat(np.arange(entries.shape[0]), np.diff(entries.indptr))
    targets = entries.data > 0 if model.config.feedback == "implicit" else entries.data
    return rmse(targets.astype(np.float32), model.predict(users, entries.indices))


def _write(
    folder: Path, model: Model, data: Interactions, metrics: dict[str, Any], *, with_json: bool
) -> None:
    """Write the output of a job to an empty folder."""
    sides = {
        "user": _ids(model.users),
        "item": _ids(model.items),
        "row": model.user_factors,
        "col": model.item_factors,
    }
    files = folder / "model"
    files.mkdir()
    for name, array in sides.items():
        np.save(files / f"{name}.npy", array, allow_pickle=False)
        if with_json:
            _write_array(files / f"{name}.json", (element.tolist() for element in array))
    if with_json:
        _write_array(files / "user_item_w.json", _histories(data))
    model.save(folder / "wals_model")
    if tensorflow_is_installed():
        from trainer.saved_model import export

        export(model, folder / "saved_model")
    write_json(folder / METRICS_FILE, metrics)


def _ids(vocabulary: Vocabulary) -> NDArray[Any]:
    """Return ids as int64 or fixed-width text, which need no pickle."""
    return np.array(vocabulary.ids.to_pylist())


def _histories(data: Interactions) -> Iterable[dict[str, Any]]:
    items = data.items.ids.to_pylist()
    indptr, indices = data.matrix.indptr, data.matrix.indices
    for number, user in enumerate(data.users.ids.to_pylist()):
        yield {"userId": user, "items": [items[i] for i in indices[indptr[number] : indptr[number + 1]]]}


def _write_array(path: Path, elements: Iterable[Any]) -> None:
    """Write a JSON array an element at a time."""
    with path.open("w", encoding="utf-8") as file:
        separator = "["
        for element in elements:
            file.write(separator + json.dumps(element, ensure_ascii=False))
            separator = ",\n"
        file.write("]\n")


def source_of(given: argparse.Namespace) -> str:
    """Return where the train file is.

    Raises:
        InputError: the flags do not say, or say it twice.
    """
    if not given.train_file:
        raise InputError(FIELD, given.train_file, "is missing", "name the file to train on")
    if not given.gcs_bucket:
        return str(given.train_file)
    if is_remote(given.train_file):
        raise InputError(
            "--gcs-bucket", given.gcs_bucket, f"does not go with {FIELD} gs://…", "give one of them"
        )
    return joined(f"gs://{given.gcs_bucket.removeprefix('gs://')}", given.train_file.lstrip("/"))


def _output(given: argparse.Namespace) -> str:
    folder = given.output_dir or given.job_dir
    trial = os.environ.get("CLOUD_ML_TRIAL_ID", "") if given.hypertune else ""
    return joined(folder, trial) if trial else str(folder)


def _delimiter(given: argparse.Namespace) -> str:
    return given.delimiter or ("\t" if given.data_type == RATINGS else ",")


def _has_headers(given: argparse.Namespace) -> bool:
    return bool(given.headers) or given.data_type != RATINGS


def _checkpoint_folder(output: str) -> Path:
    return Path(output) / "checkpoints"


def _scalars(output: str, scratch: Path) -> Scalars:
    """Return the writer of the progress, which can be watched in a local output and is delivered to another.

    What an earlier job left is removed, unless this one goes on from its checkpoint.
    """
    if is_remote(output):
        return Scalars(scratch / LOGS_FOLDER)
    if not _checkpoint_folder(output).exists():
        shutil.rmtree(Path(output) / LOGS_FOLDER, ignore_errors=True)
    return Scalars(Path(output) / LOGS_FOLDER)


def _checkpoints(every: int, output: str) -> Checkpoints | None:
    if every == 0:
        return None
    if is_remote(output):
        raise InputError(
            "--checkpoint_every",
            every,
            "cannot write to gs://",
            "mount the bucket (/gcs/BUCKET on Vertex AI) and give that folder as --job-dir",
        )
    return Checkpoints(_checkpoint_folder(output), every)


def _tuner() -> Any:
    """Return the reporter of the metric to Vertex AI's hyperparameter tuning."""
    try:
        import hypertune
    except ImportError as error:
        raise InputError(
            "--hypertune", True, "needs cloudml-hypertune", "pip install cloudml-hypertune"
        ) from error
    return hypertune.HyperTune()


def _log(everything: bool) -> None:
    logging.basicConfig(
        format="%(levelname)s %(name)s: %(message)s", level=logging.INFO if everything else logging.WARNING
    )
    logging.getLogger("trainer").setLevel(logging.INFO)
    # It says where it wrote a SavedModel whatever the level of the root.
    logging.getLogger("tensorflow").setLevel(logging.INFO if everything else logging.WARNING)


def make_parser(kind: type[argparse.ArgumentParser] = argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Return the parser of the job's flags, of a class that may tell of errors in its own way."""
    parser = kind(
        prog="python -m trainer.task",
        description="Factorise the interactions of one file by weighted alternating least squares.",
    )
    _add_files(parser)
    _add_parameters(parser)
    return parser


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--job-dir", required=True, help="folder of the output; local or gs://")
    parser.add_argument("--output-dir", help="folder of the output, instead of the job's")
    parser.add_argument("--train-file", help="CSV or Parquet; local or gs://, or in --gcs-bucket")
    parser.add_argument("--gcs-bucket", help="bucket of the train file, with or without gs://")
    parser.add_argument(
        "--data-type",
        choices=(RATINGS, USER_RATINGS, WEB_VIEWS),
        default=RATINGS,
        help="what the file is: MovieLens-like ratings, ratings with a header, or time on pages",
    )
    parser.add_argument("--delimiter", help="of CSV; default: a tab for ratings, else a comma")
    parser.add_argument("--headers", action="store_true", help="a ratings file's first line is a header")
    parser.add_argument("--hypertune", action="store_true", help="report to Vertex AI's tuning as a trial")
    parser.add_argument("--verbose-logging", action="store_true", help="log what the libraries say, too")
    parser.add_argument("--test_fraction", type=float, default=0.1, help="share of entries held out (0.1)")
    parser.add_argument("--checkpoint_every", type=int, default=0, help="iterations; 0, the default: never")
    parser.add_argument("--warm_start", help="folder of a wals.model, such as wals_model/ of an earlier job")


def _add_parameters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--use-optimized", action="store_true", help="the parameters tuned for the data type")
    for name, kind in (
        ("latent_factors", int),
        ("num_iters", int),
        ("regularization", float),
        ("regularization_exponent", float),
        ("unobs_weight", float),
        ("feature_wt_factor", float),
        ("feature_wt_exp", float),
        ("alpha", float),
        ("num_threads", int),
    ):
        parser.add_argument(f"--{name}", type=kind, help=_default(name))
    parser.add_argument("--seed", type=int, default=TrainConfig.seed, help=f"default: {TrainConfig.seed}")
    parser.add_argument("--wt_type", type=int, choices=(LINEAR, LOG), help="0: linear, 1: log")
    parser.add_argument("--feedback", choices=get_args(Feedback), help=_default("feedback"))
    parser.add_argument("--solver", choices=get_args(SolverName), help=_default("solver"))


def _default(name: str) -> str:
    return f"default: {_DEFAULTS.get(name, getattr(TrainConfig, name))}"


if __name__ == "__main__":
    sys.exit(main())
