"""The KFP wrappers of tuning: suggesting candidates, trying one, and choosing the best.

Trials travel as parameters, lists of JSON objects: they are small, and every platform can gather the
parameters that parallel tasks return. A list for each round, as kfp cannot concatenate them.
"""

from typing import NamedTuple

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("tune"), packages_to_install=[], install_kfp_package=False)
def suggest(
    first: list,
    second: list,
    width: int,
    max_latent_factors: int,
    latent_factors: int,
    regularization: float,
    regularization_exponent: float,
    unobs_weight: float,
    feedback: str,
    alpha: float,
    wt_type: int,
    feature_wt_factor: float,
    feature_wt_exp: float,
    seed: int,
) -> list:
    """Suggest the next round's candidates from the trials of the rounds before."""
    from components.runtime import run_step
    from components.tune.study import suggest as step

    return run_step(
        step,
        trials=first + second,
        width=width,
        max_latent_factors=max_latent_factors,
        config={
            "latent_factors": latent_factors,
            "regularization": regularization,
            "regularization_exponent": regularization_exponent,
            "unobs_weight": unobs_weight,
            "feedback": feedback,
            "alpha": alpha,
            "wt_type": wt_type,
            "feature_wt_factor": feature_wt_factor,
            "feature_wt_exp": feature_wt_exp,
            "seed": seed,
        },
    )


@dsl.component(base_image=image("tune"), packages_to_install=[], install_kfp_package=False)
def trial(
    matrix: dsl.Input[dsl.Dataset],
    candidate: dict,
    num_iters: int,
    feedback: str,
    wt_type: int,
    solver: str,
    seed: int,
    eval_k: int,
) -> dict:
    """Train one candidate, judge it on a validation set, and stop early when others are better."""
    from pathlib import Path

    from components.runtime import run_step
    from components.tune.trial import run_trial as step

    return run_step(
        step,
        matrix=Path(matrix.path),
        candidate=candidate,
        eval_k=eval_k,
        config={
            "num_iters": num_iters,
            "feedback": feedback,
            "wt_type": wt_type,
            "solver": solver,
            "seed": seed,
        },
    )


@dsl.component(base_image=image("tune"), packages_to_install=[], install_kfp_package=False)
def choose(
    first: list,
    second: list,
    third: list,
    study: dsl.Output[dsl.HTML],
    feedback: str,
    wt_type: int,
    eval_k: int,
) -> NamedTuple(
    "Chosen",
    [
        ("latent_factors", int),
        ("regularization", float),
        ("regularization_exponent", float),
        ("unobs_weight", float),
        ("alpha", float),
        ("feature_wt_factor", float),
        ("feature_wt_exp", float),
    ],
):
    """Choose the best trial's parameters, with a report of the study."""
    from pathlib import Path

    from components.runtime import run_step
    from components.tune.choose import choose as step

    chosen = run_step(
        step,
        trials=first + second + third,
        config={"feedback": feedback, "wt_type": wt_type},
        eval_k=eval_k,
        report=Path(study.path),
    )
    study.metadata["validation_ndcg"] = chosen["validation"]
    return (
        chosen["latent_factors"],
        chosen["regularization"],
        chosen["regularization_exponent"],
        chosen["unobs_weight"],
        chosen["alpha"],
        chosen["feature_wt_factor"],
        chosen["feature_wt_exp"],
    )
