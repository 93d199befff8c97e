"""Flags of the stand-alone training job, and the values derived from them.

The flags and their defaults are those of the TensorFlow 1 job that this one replaces; docs/trainer-task.md
describes them all.
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.config import LINEAR, LOG, TrainOptions
from trainer.errors import InputError, has_credentials
from trainer.options import choices_of, value_type
from trainer.storage import is_remote, joined

if TYPE_CHECKING:
    from trainer.checkpoint import Checkpoints

FIELD = "--train-file"
"""Option that names the file; errors begin with it."""

HYPERPARAMETER_METRIC_TAG = "training/hptuning/metric"
"""Tag under which the RMSE of the held-out entries is reported, as by the old job."""

RATINGS, USER_RATINGS, WEB_VIEWS = "ratings", "user_ratings", "web_views"

_DEFAULTS: dict[str, Any] = {
    "latent_factors": 5,
    "num_iters": 20,
    "regularization": 0.07,
    "regularization_exponent": 0.0,
    "unobs_weight": 0.01,
    "alpha": 0.0,
    "wt_type": LINEAR,
    "feature_wt_factor": 130.0,
    "feature_wt_exp": 0.08,
    "feedback": "explicit",
}
_DEFAULTS_BY_TYPE: dict[str, dict[str, Any]] = {WEB_VIEWS: {"wt_type": LOG}}
# Found by benchmarks/optimize_task.py on the sample; recorded in docs/trainer-task.md.
_OPTIMIZED_RATINGS = {
    "latent_factors": 6,
    "regularization": 0.00186,
    "unobs_weight": 0.00469,
    "feature_wt_factor": 119.0,
}
_OPTIMIZED_BY_TYPE: dict[str, dict[str, Any]] = {
    RATINGS: _OPTIMIZED_RATINGS,
    USER_RATINGS: _OPTIMIZED_RATINGS,
    # From the old job, which was tuned on data of this type; the sample has none.
    WEB_VIEWS: {
        "latent_factors": 30,
        "regularization": 7.27,
        "unobs_weight": 0.01,
        "feature_wt_exp": 5.05,
    },
}


def make_parser(kind: type[argparse.ArgumentParser] = argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Return the parser of the job's flags.

    Args:
        kind: class of the parser; a subclass may report errors in its own way.
    """
    parser = kind(
        prog="python -m trainer.task",
        description="Factorise the interactions of one file by weighted alternating least squares.",
    )
    _add_files(parser)
    _add_parameters(parser)
    return parser


def check(given: argparse.Namespace) -> None:
    """Refuse unusable flags before anything is read or, for a remote job, sent.

    Raises:
        InputError: naming the first such flag.
    """
    options_of(given)
    source_of(given)
    for name in ("train_file", "gcs_bucket", "job_dir", "output_dir", "warm_start"):
        if has_credentials(getattr(given, name) or ""):
            flag = f"--{name}" if name == "warm_start" else f"--{name.replace('_', '-')}"
            raise InputError(flag, getattr(given, name), "contains credentials", "omit them")
    checkpoints_of(given)
    if not 0 <= given.test_fraction < 1:
        raise InputError(
            "--test_fraction", given.test_fraction, "is out of range", "give a number from 0 to below 1"
        )
    if given.hypertune and given.test_fraction == 0:
        raise InputError(
            "--hypertune", True, "has no metric without held-out entries", "raise --test_fraction"
        )


def options_of(given: argparse.Namespace) -> TrainOptions:
    """Return the training parameters that the flags set.

    A flag takes precedence over ``--use-optimized``, then come the defaults of the data type, then those of
    the old job.

    Raises:
        InputError: a parameter cannot be used.
    """
    values = _DEFAULTS | _DEFAULTS_BY_TYPE.get(given.data_type, {})
    if given.use_optimized:
        values |= _OPTIMIZED_BY_TYPE[given.data_type]
    flags = {name: getattr(given, name) for name in TrainOptions.model_fields}
    return TrainOptions(**values | {name: value for name, value in flags.items() if value is not None})


def source_of(given: argparse.Namespace) -> str:
    """Return the path of the train file.

    Raises:
        InputError: the flags do not give it, or give its bucket twice.
    """
    if not given.train_file:
        raise InputError(FIELD, given.train_file, "is missing", "name the file to train on")
    if not given.gcs_bucket:
        return str(given.train_file)
    if is_remote(given.train_file):
        raise InputError(
            "--gcs-bucket", given.gcs_bucket, f"cannot be combined with {FIELD} gs://…", "give one of them"
        )
    return joined(f"gs://{given.gcs_bucket.removeprefix('gs://')}", given.train_file.lstrip("/"))


def output_of(given: argparse.Namespace) -> str:
    """Return the folder of the output; a tuning trial has its own folder in it."""
    folder = given.output_dir or given.job_dir
    trial = os.environ.get("CLOUD_ML_TRIAL_ID", "") if given.hypertune else ""
    return joined(folder, trial) if trial else str(folder)


def delimiter_of(given: argparse.Namespace) -> str:
    """Return the delimiter of a CSV train file."""
    return given.delimiter or ("\t" if given.data_type == RATINGS else ",")


def has_headers(given: argparse.Namespace) -> bool:
    """Return whether a CSV train file starts with the names of its columns."""
    return bool(given.headers) or given.data_type != RATINGS


def checkpoint_folder(given: argparse.Namespace) -> Path:
    """Return the folder of the checkpoints in a local output."""
    return Path(output_of(given)) / "checkpoints"


def checkpoints_of(given: argparse.Namespace) -> "Checkpoints | None":
    """Return the writer of checkpoints; None without checkpoints.

    Raises:
        InputError: the output is not on a file system, or the flag's value cannot be used.
    """
    if given.checkpoint_every == 0:
        return None
    if is_remote(output_of(given)):
        raise InputError(
            "--checkpoint_every",
            given.checkpoint_every,
            "cannot write to gs://",
            "mount the bucket (/gcs/BUCKET on Vertex AI) and give the mounted folder as --job-dir",
        )
    # Imports Numba, which whoever only reads the flags does without.
    from trainer.checkpoint import Checkpoints

    return Checkpoints(checkpoint_folder(given), given.checkpoint_every)


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--job-dir", required=True, help="output folder; local or gs://")
    parser.add_argument("--output-dir", help="output folder; overrides --job-dir")
    parser.add_argument("--train-file", help="CSV or Parquet; local or gs://, or in --gcs-bucket")
    parser.add_argument("--gcs-bucket", help="bucket of the train file, with or without gs://")
    parser.add_argument(
        "--data-type",
        choices=(RATINGS, USER_RATINGS, WEB_VIEWS),
        default=RATINGS,
        help="MovieLens-like ratings, ratings with a header, or time on pages",
    )
    parser.add_argument("--delimiter", help="CSV delimiter; default: tab for ratings, else comma")
    parser.add_argument("--headers", action="store_true", help="the first line of a ratings file is a header")
    parser.add_argument("--hypertune", action="store_true", help="run as a trial of Vertex AI's tuning")
    parser.add_argument("--verbose-logging", action="store_true", help="also log the messages of libraries")
    parser.add_argument(
        "--test_fraction", type=float, default=0.1, help="share of entries to hold out (default: 0.1)"
    )
    parser.add_argument(
        "--checkpoint_every",
        type=int,
        default=0,
        help="iterations between checkpoints; 0 writes none (default: 0)",
    )
    parser.add_argument("--warm_start", help="model to start from, such as wals_model/ of an earlier job")
    parser.add_argument(
        "--use-optimized", action="store_true", help="use the parameters tuned for the data type"
    )


def _add_parameters(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each training parameter."""
    for name, field in TrainOptions.model_fields.items():
        default = _DEFAULTS.get(name, field.default)
        parser.add_argument(
            f"--{name}",
            type=value_type(field),
            choices=choices_of(field.annotation) or None,
            help=f"{field.description} (default: {default})",
        )
