"""Search for the parameters that `python -m trainer.task --use-optimized` trains ratings with.

    python benchmarks/optimize_task.py [--trials 500] [--seed 42]

The tenth of the sample's ratings that trainer.task holds out by default is the test set. Trials train on nine
tenths of the others and are judged by their error on the rest. Prints the table for docs/trainer-task.md. On
one machine, the same seed and number of trials give the same table.
"""

import argparse
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import optuna

from pipeline.platforms.vertex.training_jobs import SEARCH_SPACES
from trainer.config import DEFAULT_SEED, TrainConfig
from trainer.job import flags
from trainer.job.reading import read_interactions
from trainer.matrix import InteractionMatrix
from trainer.metrics import rmse
from trainer.splitting import Split
from trainer.training import fit

SAMPLE = Path(__file__).parents[1] / "data" / "ml-latest-small" / "ratings.csv"
SPACE = SEARCH_SPACES[flags.RATINGS]
# The optimum of the TensorFlow 1 job for its own solver and weights, for comparison.
OLD = {"latent_factors": 34, "regularization": 9.83, "unobs_weight": 0.001, "feature_wt_factor": 189.8}


def main() -> None:
    """Run the study and print its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=500, help="number of trials")
    parser.add_argument("--seed", type=int, default=42, help="seed of the study and of the validation split")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Otherwise every trial logs the items that have all their ratings held out.
    logging.getLogger("trainer.training").setLevel(logging.ERROR)
    data = read_interactions(SAMPLE, delimiter=",", headers=True)
    outer = Split.exact(data.matrix, 0.1, DEFAULT_SEED)
    inner = Split.exact(outer.train, 0.1, given.seed)

    began = time.perf_counter()
    study = optuna.create_study(direction="minimize", sampler=sampler(given.seed))
    study.enqueue_trial({name: getattr(defaults(), name) for name in SPACE})
    study.optimize(lambda trial: error(inner, suggested(trial)), n_trials=given.trials)
    print(f"{given.trials} trials in {time.perf_counter() - began:.0f} s\n")

    candidates = {
        "defaults": defaults(),
        "the old job's optimised": defaults().replace(**OLD),
        "found": defaults().replace(**rounded(study.best_params)),
    }
    print(f"| | {' | '.join(SPACE)} | validation RMSE | test RMSE |")
    print("|---|" + "---:|" * (len(SPACE) + 2))
    print(f"| range | {' | '.join(f'{low:g} to {high:g}' for _, low, high, _ in SPACE.values())} | | |")
    for name, config in candidates.items():
        values = " | ".join(f"{getattr(config, parameter):g}" for parameter in SPACE)
        print(f"| {name} | {values} | {error(inner, config):.4f} | {error(outer, config):.4f} |")


def defaults() -> TrainConfig:
    """Return the default configuration of trainer.task for ratings."""
    return flags.options_of(flags.make_parser().parse_args(["--job-dir", "unused"]))


def sampler(seed: int) -> optuna.samplers.BaseSampler:
    """Return a tree-structured Parzen estimator, after twenty random trials."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=20)


def suggested(trial: optuna.Trial) -> TrainConfig:
    """Return a trial's parameters; all ranges are searched on a logarithmic scale."""
    values: dict[str, Any] = {}
    for name, (kind, low, high, _) in SPACE.items():
        if kind == "integer":
            values[name] = trial.suggest_int(name, int(low), int(high), log=True)
        else:
            values[name] = trial.suggest_float(name, low, high, log=True)
    return defaults().replace(**values)


def rounded(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return parameters rounded to three digits, as in trainer.task."""
    return {name: type(value)(f"{value:.3g}") for name, value in parameters.items()}


def error(split: Split, config: TrainConfig) -> float:
    """Return the root mean squared error on the held-out entries."""
    model = fit(InteractionMatrix.from_scipy(split.train), config)
    held_out = split.test.tocoo()
    return rmse(held_out.data, model.predict(*held_out.coords))


if __name__ == "__main__":
    main()
