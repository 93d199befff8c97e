"""A study: trials of hyper-parameters, the next candidates, and the best trial.

Optuna keeps a study in a database; here the steps of a pipeline pass it on as a list of trials, which are
JSON objects with

    number          number of the trial, from 0
    parameters      values of the tuned parameters of `trainer.config.TrainConfig`
    values          validation metric by number of iterations, as text
    pruned          whether the trial was stopped early
    rungs           values that Optuna's successive halving recorded at the trial's rungs
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.pruners import SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, QMCSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from components.tune.options import MIN_FACTORS, TUNED, StudyOptions, training_config
from trainer.config import LINEAR, TrainConfig
from trainer.errors import InputError

FIRST_RUNG = 2
"""Iterations after which a trial can first be stopped; each further rung is twice as far."""

Trial = Mapping[str, Any]

logger = logging.getLogger(__name__)


def search_space(config: TrainConfig, max_latent_factors: int) -> dict[str, BaseDistribution]:
    """Return the tuned parameters and their ranges; those of the weighting depend on the feedback.

    Args:
        config: parameters of the run; ``feedback`` and ``wt_type`` are not tuned.
        max_latent_factors: maximum number of factors to try; at least 8.
    """
    space: dict[str, BaseDistribution] = {
        "latent_factors": IntDistribution(MIN_FACTORS, max_latent_factors, log=True),
        "regularization": FloatDistribution(1e-4, 10.0, log=True),
        "regularization_exponent": FloatDistribution(0.0, 1.0),
        "unobs_weight": FloatDistribution(1e-3, 1.0, log=True),
    }
    if config.feedback == "implicit":
        space["alpha"] = FloatDistribution(0.0, 10.0)
    elif config.wt_type == LINEAR:
        space["feature_wt_factor"] = FloatDistribution(1.0, 500.0, log=True)
    else:
        space["feature_wt_exp"] = FloatDistribution(1e-2, 10.0, log=True)
    return space


def suggest(
    options: StudyOptions, *, first: Sequence[Trial], second: Sequence[Trial]
) -> list[dict[str, Any]]:
    """Return the next candidates, to be tried in parallel.

    The first round is the unchanged configuration and then points of a Sobol sequence, which cover the space
    evenly; later rounds come from a tree-structured Parzen estimator over the trials so far (Bergstra et
    al. 2011). The same trials and seed give the same candidates.

    Args:
        options: `components.tune.options.SuggestOptions`; the run's seed is the study's.
        first: trials of the first round; empty before it.
        second: trials of the second round; empty before it.

    Returns:
        Objects with ``number``, ``parameters`` and ``rungs_before``, which a trial's `Pruner` compares with.
    """
    trials = [*first, *second]
    if trials:
        log_best([*filter(None, (first, second))], options.eval_k)
    start = training_config(options)
    space = search_space(start, options.max_latent_factors)
    study = _study(trials, space, _sampler(len(trials), start.seed))
    if not trials:
        study.enqueue_trial(_within(start, space))
    candidates = [study.ask(space) for _ in range(options.width)]
    before = [trial["rungs"] for trial in trials]
    return [
        {"number": trial.number, "parameters": trial.params, "rungs_before": before} for trial in candidates
    ]


class Pruner:
    """Decides at each rung whether a trial continues: asynchronous successive halving (Li et al. 2020)."""

    def __init__(self, rungs_before: Sequence[Mapping[str, float]]) -> None:
        """Compare with other trials, whose pruners recorded ``rungs_before``."""
        self._study = _study(
            [{"pruned": True, "values": {"0": 0.0}, "rungs": rungs} for rungs in rungs_before], {}, None
        )
        self._trial = self._study.ask()

    def stops(self, iterations: int, value: float) -> bool:
        """Record the metric after a number of iterations, and return whether the trial should stop.

        A trial continues past a rung if its value is in the better half of all trials that have reached it.
        """
        self._trial.report(value, iterations)
        return self._trial.should_prune()

    def rungs(self) -> dict[str, float]:
        """Return what the pruners of later trials need to know about this one."""
        return dict(self._study.get_trials(deepcopy=False)[-1].system_attrs)


def best(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the highest last value among those that were not stopped early.

    Raises:
        InputError: all were stopped early.
    """
    complete = [trial for trial in trials if not trial["pruned"]]
    if not complete:
        raise InputError("trials", len(trials), "were all stopped early", "run more trials")
    return max(complete, key=last_value)


def log_best(rounds: Sequence[Sequence[Trial]], eval_k: int) -> None:
    """Log the best trial so far, after the last of some rounds.

    Raises:
        InputError: all were stopped early.
    """
    trial = best([trial for trials in rounds for trial in trials])
    parameters = parameters_of(trial)
    # The platforms do not keep the order of a JSON object.
    named = ", ".join(f"{name} {parameters[name]:.3g}" for name in TUNED if name in parameters)
    logger.info("round %d: NDCG@%d %.4f best so far (%s)", len(rounds), eval_k, last_value(trial), named)


def parameters_of(trial: Trial) -> dict[str, Any]:
    """Return the parameters of a trial or candidate, with integers that JSON turned into 32.0 restored."""
    parameters = dict(trial["parameters"])
    return {**parameters, "latent_factors": int(parameters["latent_factors"])}


def last_value(trial: Trial) -> float:
    """Return a trial's validation metric after its last iteration."""
    values: Mapping[str, float] = trial["values"]
    return values[max(values, key=int)]


def as_optuna(trials: Sequence[Trial], config: TrainConfig) -> optuna.Study:
    """Return the trials as an Optuna study, for its plots."""
    highest = max(parameters_of(trial)["latent_factors"] for trial in trials)
    return _study(trials, search_space(config, highest), None)


def _study(
    trials: Sequence[Trial],
    space: Mapping[str, BaseDistribution],
    sampler: BaseSampler | None,
) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = SuccessiveHalvingPruner(min_resource=FIRST_RUNG, reduction_factor=2)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    study.add_trials([_frozen(trial, space) for trial in trials])
    return study


def _frozen(trial: Trial, space: Mapping[str, BaseDistribution]) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=TrialState.PRUNED if trial["pruned"] else TrialState.COMPLETE,
        value=last_value(trial),
        params=parameters_of(trial) if space else {},
        distributions=dict(space),
        intermediate_values={int(step): value for step, value in trial["values"].items()},
        system_attrs=dict(trial["rungs"]),
    )


def _sampler(past: int, seed: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if not past:
            return QMCSampler(scramble=True, seed=seed)
        # The constant liar keeps the candidates of a round apart. Each round has a different seed.
        return TPESampler(n_startup_trials=0, multivariate=True, constant_liar=True, seed=seed + past)


def _within(config: TrainConfig, space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Return the values of the configuration, clipped to the space."""
    values = config.model_dump()
    return {
        name: min(max(values[name], distribution.low), distribution.high)
        for name, distribution in space.items()
        if isinstance(distribution, IntDistribution | FloatDistribution)
    }
