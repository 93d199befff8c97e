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
    split: str,
    holdout_fraction: float,
    holdout_last: int,
    holdout_from: str,
    duplicates: str,
    min_user_interactions: int,
    min_item_interactions: int,
    max_user_interactions: int,
    half_life_days: float,
    previous_profile: str,
    on_drift: str,
    max_volume_drop: float,
    max_density_change: float,
    max_psi: float,
    seed: int,
) -> None:
    """Number the ids, split off the holdout and write the training matrix by rows and by columns."""
    from pathlib import Path

    from components.prepare.step import prepare as step
    from components.runtime import run_step

    metadata = run_step(
        step,
        interactions=Path(interactions.path),
        training=Path(training.path),
        holdout=Path(holdout.path),
        vocabulary=Path(vocabulary.path),
        profile=Path(profile.path),
        profile_report=Path(profile_report.path),
        split=split,
        holdout_fraction=holdout_fraction,
        holdout_last=holdout_last,
        holdout_from=holdout_from,
        duplicates=duplicates,
        min_user_interactions=min_user_interactions,
        min_item_interactions=min_item_interactions,
        max_user_interactions=max_user_interactions,
        half_life_days=half_life_days,
        previous_profile=previous_profile,
        on_drift=on_drift,
        max_volume_drop=max_volume_drop,
        max_density_change=max_density_change,
        max_psi=max_psi,
        seed=seed,
    )
    training.metadata.update(metadata["training"])
    holdout.metadata.update(metadata["holdout"])
    vocabulary.metadata.update(metadata["vocabulary"])
