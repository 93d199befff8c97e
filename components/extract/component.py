"""The KFP wrapper of the extraction step."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("extract"), packages_to_install=[], install_kfp_package=False)
def extract(
    source: str,
    interactions: dsl.Output[dsl.Dataset],
    catalogue: dsl.Output[dsl.Dataset],
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
    """Read the interactions of a source, and what is known about the items, into Parquet files."""
    arguments = dict(locals())
    from components.extract.options import ExtractOptions
    from components.extract.step import extract as step
    from components.runtime import run_step

    metadata = run_step(step, ExtractOptions, arguments)
    interactions.metadata.update(metadata["interactions"])
    catalogue.metadata.update(metadata["catalogue"])
