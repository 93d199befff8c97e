"""The KFP wrappers of the training step and of the refit."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("train"), packages_to_install=[], install_kfp_package=False)
def train(
    matrix: dsl.Input[dsl.Dataset],
    vocabulary: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    latent_factors: str = "auto",
    regularization: str = "auto",
    unobs_weight: str = "auto",
    alpha: str = "auto",
    num_iters: int = 16,
    regularization_exponent: float = 1.0,
    feedback: str = "implicit",
    wt_type: int = 0,
    feature_wt_factor: float = 130.0,
    feature_wt_exp: float = 0.08,
    init_stddev: float = 0.1,
    seed: int = 42,
    solver: str = "auto",
    cg_steps: int = 2,
    block_size: int = 64,
    min_rel_progress: float = 0.0,
    num_threads: int = 0,
    checkpoint_every: str = "auto",
    checkpoint_dir: str = "",
    registry: str = "",
    warm_start: str = "",
) -> None:
    """Factorise the interaction matrix by weighted alternating least squares."""
    arguments = dict(locals())
    from components.runtime import run_step
    from components.train.options import TrainStepOptions
    from components.train.step import assist_training
    from components.train.step import train as step

    model.metadata.update(run_step(step, TrainStepOptions, arguments, assistant=assist_training))


@dsl.component(base_image=image("train"), packages_to_install=[], install_kfp_package=False)
def refit(
    judged: dsl.Input[dsl.Model],
    training: dsl.Input[dsl.Dataset],
    holdout: dsl.Input[dsl.Dataset],
    vocabulary: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    saved_model: dsl.Output[dsl.Model],
    checkpoint_every: str = "auto",
    checkpoint_dir: str = "",
    refit_iters: int = 4,
    export_saved_model: bool = False,
) -> None:
    """Train the evaluated model on everything, the holdout included."""
    arguments = dict(locals())
    from components.runtime import run_step
    from components.train.options import RefitOptions
    from components.train.refit import assist_refit
    from components.train.refit import refit as step

    metadata = run_step(step, RefitOptions, arguments, assistant=assist_refit)
    model.metadata.update(metadata["model"])
    saved_model.metadata.update(metadata["saved_model"])
