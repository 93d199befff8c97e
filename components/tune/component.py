"""The KFP wrappers of tuning: suggest candidates, try one, and choose the best.

Trials are passed on as parameters, lists of JSON objects: they are small, and every platform can collect the
parameters that parallel tasks return. Each round has its own list, because kfp cannot concatenate lists.
"""

from typing import NamedTuple

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("tune"), packages_to_install=[], install_kfp_package=False)
def suggest(
    first: list,
    second: list,
    eval_k: int = 20,
    width: int = 4,
    max_latent_factors: int = 128,
    latent_factors: str = "auto",
    regularization: str = "auto",
    regularization_exponent: float = 1.0,
    unobs_weight: str = "auto",
    alpha: str = "auto",
    feature_wt_factor: float = 130.0,
    feature_wt_exp: float = 0.08,
    feedback: str = "implicit",
    wt_type: int = 0,
    seed: int = 42,
) -> list[dict]:
    """Suggest the next round's candidates from the trials of the rounds before."""
    arguments = dict(locals())
    from components.runtime import run_step
    from components.tune.options import SuggestOptions
    from components.tune.study import suggest as step

    return run_step(step, SuggestOptions, arguments)


@dsl.component(base_image=image("tune"), packages_to_install=[], install_kfp_package=False)
def trial(
    matrix: dsl.Input[dsl.Dataset],
    candidate: dict,
    eval_k: int = 20,
    num_iters: int = 16,
    feedback: str = "implicit",
    wt_type: int = 0,
    init_stddev: float = 0.1,
    seed: int = 42,
    solver: str = "auto",
    cg_steps: int = 2,
    block_size: int = 64,
    min_rel_progress: float = 0.0,
    num_threads: int = 0,
) -> dict:
    """Train one candidate, judge it on a validation set, and stop early when others are better."""
    arguments = dict(locals())
    from components.runtime import run_step
    from components.tune.options import TrialOptions
    from components.tune.trial import run_trial as step

    return run_step(step, TrialOptions, arguments)


@dsl.component(base_image=image("tune"), packages_to_install=[], install_kfp_package=False)
def choose(
    first: list,
    second: list,
    third: list,
    study: dsl.Output[dsl.HTML],
    eval_k: int = 20,
    feedback: str = "implicit",
    wt_type: int = 0,
) -> NamedTuple(
    "Chosen",
    [
        ("latent_factors", str),
        ("regularization", str),
        ("regularization_exponent", float),
        ("unobs_weight", str),
        ("alpha", str),
        ("feature_wt_factor", float),
        ("feature_wt_exp", float),
    ],
):
    """Choose the best trial's parameters, with a report of the study."""
    arguments = dict(locals())
    from components.runtime import run_step
    from components.tune.choose import choose as step
    from components.tune.options import TUNED, ChooseOptions
    from trainer.config import TrainOptions

    chosen, study.metadata["validation_ndcg"] = run_step(step, ChooseOptions, arguments)
    found = TrainOptions(**chosen.model_dump())
    return tuple(getattr(found, name) for name in TUNED)
