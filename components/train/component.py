"""The KFP wrapper of the training step."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("train"), packages_to_install=[], install_kfp_package=False)
def train(
    matrix: dsl.Input[dsl.Dataset],
    vocabulary: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    latent_factors: int = 64,
    num_iters: int = 16,
    regularization: float = 0.003,
    regularization_exponent: float = 1.0,
    unobs_weight: float = 0.1,
    feedback: str = "implicit",
    alpha: float = 0.0,
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
) -> None:
    """Factorise the interaction matrix by weighted alternating least squares."""
    arguments = dict(locals())
    from components.runtime import run_step
    from components.train.step import train as step
    from trainer.config import TrainConfig

    model.metadata.update(run_step(step, TrainConfig, arguments))
