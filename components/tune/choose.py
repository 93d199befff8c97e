"""The choice of the best trial, with a report of the study."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import optuna
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from optuna.visualization.matplotlib import plot_parallel_coordinate

from components.options import RankingOptions
from components.pictures import svg
from components.tune.options import training_config
from components.tune.study import Trial, as_optuna, best, last_value, parameters_of
from trainer.config import TrainConfig
from trainer.files import replacing

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
    environment = Environment(
        loader=PackageLoader("components.tune", "."), autoescape=True, undefined=StrictUndefined
    )
    html = environment.get_template("report.html").render(
        trials=sorted(trials, key=lambda trial: (trial["pruned"], -last_value(trial))),
        names=list(trials[0]["parameters"]),
        last_value=last_value,
        eval_k=eval_k,
        picture=svg(_parallel_coordinates(trials, config)),
    )
    with replacing(path) as temporary:
        temporary.write_text(html, "utf-8")


def _parallel_coordinates(trials: Sequence[Trial], config: TrainConfig) -> Figure:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        axes = plot_parallel_coordinate(as_optuna(trials, config))
    axes.set_title("")
    figure = cast(Figure, axes.get_figure())
    figure.set_size_inches(10, 4.5)
    return figure
