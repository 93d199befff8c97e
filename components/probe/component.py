"""The KFP wrappers of the probe, which run in the images and with the settings of other steps."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("train"), packages_to_install=[], install_kfp_package=False)
def probe(
    step: str,
    cores: float,
    memory_bytes: int,
    accelerators: int,
    findings: dsl.Output[dsl.Artifact],
    source: str,
    staging_dataset: str = "",
    solver: str = "auto",
    checkpoint_dir: str = "",
    registry: str = "",
    warm_start: str = "",
) -> None:
    """Find out what a step can do where it runs."""
    arguments = dict(locals())
    from components.probe.options import ProbeOptions
    from components.probe.step import probe as look
    from components.runtime import run_step

    run_step(look, ProbeOptions, arguments)


@dsl.component(base_image=image("extract"), packages_to_install=[], install_kfp_package=False)
def probe_extract(
    step: str,
    cores: float,
    memory_bytes: int,
    accelerators: int,
    findings: dsl.Output[dsl.Artifact],
    source: str,
    data_type: str = "ratings",
    user_column: str = "",
    item_column: str = "",
    rating_column: str = "",
    timestamp_column: str = "",
    delimiter: str = "",
    has_header: bool = True,
    window_start: str = "",
    window_end: str = "",
    window_days: int = 0,
    row_filter: str = "",
    query: str = "",
    item_key: str = "",
    event_name: str = "page_view",
    event_rating: str = "count",
    project: str = "",
    location: str = "",
    snapshot: str = "",
    maximum_bytes_billed: int = 0,
    staging_dataset: str = "",
    items: str = "",
    blocked_items: str = "",
    available_items: str = "",
    item_title_column: str = "",
    item_category_column: str = "",
    feedback: str = "implicit",
) -> None:
    """Find out what the extraction can do where it runs, and whether it may read the source."""
    arguments = dict(locals())
    from components.extract.options import ExtractOptions
    from components.probe.step import probe as look
    from components.runtime import run_step

    run_step(look, ExtractOptions, arguments)


@dsl.component(base_image=image("tune"), packages_to_install=[], install_kfp_package=False)
def probe_suggest() -> list[dict]:
    """Return the items of a loop, in the way that tuning suggests candidates."""
    from components.probe.step import ITEM

    return [ITEM]


@dsl.component(base_image=image("tune"), packages_to_install=[], install_kfp_package=False)
def probe_trial(
    step: str,
    cores: float,
    memory_bytes: int,
    accelerators: int,
    item: dict,
    findings: dsl.Output[dsl.Artifact],
    source: str,
    staging_dataset: str = "",
    solver: str = "auto",
    checkpoint_dir: str = "",
    registry: str = "",
    warm_start: str = "",
) -> dict:
    """Find out what a trial can do where it runs, and as what it gets its candidate."""
    arguments = dict(locals())
    from components.probe.options import ProbeOptions
    from components.probe.step import probe as look
    from components.runtime import run_step

    return run_step(look, ProbeOptions, arguments)


@dsl.component(base_image=image("tune"), packages_to_install=[], install_kfp_package=False)
def probe_report(
    extract: dsl.Input[dsl.Artifact],
    prepare: dsl.Input[dsl.Artifact],
    train: dsl.Input[dsl.Artifact],
    evaluate: dsl.Input[dsl.Artifact],
    publish: dsl.Input[dsl.Artifact],
    trials: list,
    findings: dsl.Output[dsl.Artifact],
    table: dsl.Output[dsl.HTML],
) -> None:
    """Collect what all steps found into one table."""
    arguments = dict(locals())
    from components.probe.report import report
    from components.runtime import run_step
    from trainer.options import Options

    findings.metadata.update(run_step(report, Options, arguments))
