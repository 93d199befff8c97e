"""Choosing the best trial, with a report of the study."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import optuna
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from optuna.visualization.matplotlib import plot_parallel_coordinate

from components.pictures import svg
from components.tune.study import as_optuna, best, last_value, parameters_of
from trainer.config import TrainConfig
from trainer.files import replacing

logger = logging.getLogger(__name__)


def choose(
    *, trials: Sequence[Mapping[str, Any]], config: Mapping[str, Any], eval_k: int, report: Path
) -> dict[str, Any]:
    """Return the configuration with the best trial's parameters, and write the study's report.

    Args:
        trials: of the whole study; see `components.tune.study`.
        config: the parameters of :class:`trainer.config.TrainConfig` that were not tuned.
        eval_k: length of the list that the validation metric judged.
        report: HTML file to write.

    Returns:
        All parameters of the training, and under ``validation`` the best trial's metric.

    Raises:
        InputError: no trial ran to its end.
    """
    winner = best(trials)
    chosen = TrainConfig.from_dict({**config, **parameters_of(winner)})
    _write_report(trials, chosen, eval_k, report)
    logger.info(
        "best of %d trials: number %d, NDCG@%d %.4f",
        len(trials),
        int(winner["number"]),
        eval_k,
        last_value(winner),
    )
    return {**chosen.to_dict(), "validation": last_value(winner)}


def _write_report(trials: Sequence[Mapping[str, Any]], config: TrainConfig, eval_k: int, path: Path) -> None:
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


def _parallel_coordinates(trials: Sequence[Mapping[str, Any]], config: TrainConfig) -> Figure:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        axes = plot_parallel_coordinate(as_optuna(trials, config))
    axes.set_title("")
    figure = cast(Figure, axes.get_figure())
    figure.set_size_inches(10, 4.5)
    return figure
