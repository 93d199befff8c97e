"""The choice of the best trial, with a report of the study."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import optuna
from matplotlib.figure import Figure
from optuna.visualization.matplotlib import plot_parallel_coordinate

from components.options import RankingOptions
from components.reports.page import Cell, Table, write_page
from components.reports.pictures import svg
from components.tune.options import training_config
from components.tune.study import Trial, as_optuna, best, last_value, log_best, parameters_of
from trainer.config import TrainConfig

logger = logging.getLogger(__name__)


def choose(
    options: RankingOptions,
    *,
    first: Sequence[Trial],
    second: Sequence[Trial],
    third: Sequence[Trial],
    study: Path,
) -> tuple[TrainConfig, float]:
    """Return the configuration with the best trial's parameters, and write a report of the study.

    Args:
        options: `components.tune.options.ChooseOptions`.
        first: trials of the first round; see `components.tune.study`.
        second: trials of the second round.
        third: trials of the third round.
        study: HTML file to write.

    Returns:
        The configuration, and the best trial's validation metric.

    Raises:
        InputError: no trial ran to its end.
    """
    log_best((first, second, third), options.eval_k)
    trials = [*first, *second, *third]
    winner = best(trials)
    chosen = training_config(options, **parameters_of(winner))
    _write_report(trials, chosen, options.eval_k, study)
    logger.info(
        "best of %d trials: number %d, NDCG@%d %.4f",
        len(trials),
        int(winner["number"]),
        options.eval_k,
        last_value(winner),
    )
    return chosen, last_value(winner)


def _write_report(trials: Sequence[Trial], config: TrainConfig, eval_k: int, path: Path) -> None:
    """Write the study as a self-contained HTML file: a table, best first, and parallel coordinates."""
    ranked = sorted(trials, key=lambda trial: (trial["pruned"], -last_value(trial)))
    names = list(trials[0]["parameters"])
    write_page(
        "components.tune",
        path,
        trials=len(trials),
        best=ranked[0],
        value=last_value(ranked[0]),
        eval_k=eval_k,
        study=Table(
            "Trials, the best one first",
            ("trial", f"NDCG@{eval_k}", "iterations", *names),
            tuple(_row(trial, names) for trial in ranked),
        ),
        picture=svg(
            _parallel_coordinates(trials, config),
            f"Parallel coordinates of {len(trials)} trials; the table has the figures.",
        ),
    )


def _row(trial: Trial, names: Sequence[str]) -> tuple[Cell, ...]:
    return (
        Cell(str(int(trial["number"])), "stopped early" if trial["pruned"] else ""),
        Cell(f"{last_value(trial):.4f}"),
        Cell(str(max(map(int, trial["values"])))),
        *(Cell(f"{trial['parameters'][name]:.4g}") for name in names),
    )


def _parallel_coordinates(trials: Sequence[Trial], config: TrainConfig) -> Figure:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        axes = plot_parallel_coordinate(as_optuna(trials, config))
    axes.set_title("")
    figure = cast(Figure, axes.get_figure())
    figure.set_size_inches(10, 4.5)
    return figure
