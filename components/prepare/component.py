"""The KFP wrapper of the preparation step."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("prepare"), packages_to_install=[], install_kfp_package=False)
def prepare(
    interactions: dsl.Input[dsl.Dataset],
    training: dsl.Output[dsl.Dataset],
    holdout: dsl.Output[dsl.Dataset],
    vocabulary: dsl.Output[dsl.Dataset],
    profile: dsl.Output[dsl.Dataset],
    profile_report: dsl.Output[dsl.HTML],
    previous_profile: str = "",
    on_drift: str = "warn",
    max_volume_drop: float = 0.5,
    max_density_change: float = 2.0,
    max_psi: float = 0.25,
    split: str = "random",
    holdout_fraction: float = 0.1,
    holdout_last: int = 1,
    holdout_from: str = "",
    duplicates: str = "mean",
    min_user_interactions: int = 1,
    min_item_interactions: int = 1,
    max_user_interactions: int = 0,
    half_life_days: float = 0.0,
    seed: int = 42,
) -> None:
    """Number the ids, split off the holdout and write the training matrix by rows and by columns."""
    arguments = dict(locals())
    from components.prepare.options import PrepareOptions
    from components.prepare.step import prepare as step
    from components.runtime import run_step

    metadata = run_step(step, PrepareOptions, arguments)
    for output in (training, holdout, vocabulary):
        output.metadata.update(metadata[output.name])
