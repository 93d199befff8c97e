"""The KFP wrapper of the extraction step."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("extract"), packages_to_install=[], install_kfp_package=False)
def extract(
    source: str,
    interactions: dsl.Output[dsl.Dataset],
    data_type: str,
    user_column: str,
    item_column: str,
    rating_column: str,
    timestamp_column: str,
    delimiter: str,
    has_header: bool,
    window_start: str,
    window_end: str,
    window_days: int,
    row_filter: str,
    query: str,
    item_key: str,
    event_name: str,
    event_rating: str,
    project: str,
    location: str,
    snapshot: str,
    maximum_bytes_billed: int,
    staging_dataset: str,
) -> None:
    """Read the interactions of a source into Parquet shards."""
    from pathlib import Path

    from components.extract.step import extract as step
    from components.runtime import run_step

    interactions.metadata.update(
        run_step(
            step,
            source=source,
            output=Path(interactions.path),
            data_type=data_type,
            user_column=user_column,
            item_column=item_column,
            rating_column=rating_column,
            timestamp_column=timestamp_column,
            delimiter=delimiter,
            has_header=has_header,
            window_start=window_start,
            window_end=window_end,
            window_days=window_days,
            row_filter=row_filter,
            query=query,
            item_key=item_key,
            event_name=event_name,
            event_rating=event_rating,
            project=project,
            location=location,
            snapshot=snapshot,
            maximum_bytes_billed=maximum_bytes_billed,
            staging_dataset=staging_dataset,
        )
    )
