"""The KFP wrapper of the training step."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("train"), packages_to_install=[], install_kfp_package=False)
def train(
    matrix: dsl.Input[dsl.Dataset],
    vocabulary: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    latent_factors: int,
    num_iters: int,
    regularization: float,
    regularization_exponent: float,
    unobs_weight: float,
    feedback: str,
    alpha: float,
    wt_type: int,
    feature_wt_factor: float,
    feature_wt_exp: float,
    min_rel_progress: float,
    solver: str,
    seed: int,
) -> None:
    """Factorise the interaction matrix by weighted alternating least squares."""
    from pathlib import Path

    from components.runtime import run_step
    from components.train.step import train as step

    model.metadata.update(
        run_step(
            step,
            matrix=Path(matrix.path),
            vocabulary=Path(vocabulary.path),
            model=Path(model.path),
            config={
                "latent_factors": latent_factors,
                "num_iters": num_iters,
                "regularization": regularization,
                "regularization_exponent": regularization_exponent,
                "unobs_weight": unobs_weight,
                "feedback": feedback,
                "alpha": alpha,
                "wt_type": wt_type,
                "feature_wt_factor": feature_wt_factor,
                "feature_wt_exp": feature_wt_exp,
                "min_rel_progress": min_rel_progress,
                "solver": solver,
                "seed": seed,
            },
        )
    )
