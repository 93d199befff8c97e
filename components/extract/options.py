"""Options of the extraction step."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Literal, Self

from pydantic import Field

from components.extract.names import (
    check_dataset,
    check_location,
    check_place,
    check_project,
    check_scheme,
    table_of,
)
from components.times import Time, parse_time
from trainer.config import DEFAULT_FEEDBACK, MAX_EXACT, FeedbackOption
from trainer.errors import InputError, problems_of
from trainer.options import Options, group, no_credentials, valid_if

DataType = Literal["ratings", "user_ratings", "web_views", "ga4", "query"]

_DATA, _FILTERS, _BIGQUERY, _EVENTS, _ITEMS = (
    group(name) for name in ("Data", "Filters", "BigQuery", "Google Analytics", "Items")
)
_COMMON_DATA = group("Data", common=True)
LONGEST_WINDOW = 10_000_000
"""Days of the longest window, which is longer than all of time."""

_KEYS = "put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"

ItemSource = Annotated[str, valid_if(check_place), no_credentials(_KEYS)]
"""A source of items, or a list of them; "" for none."""


class ExtractOptions(Options):
    """What to extract and from where."""

    source: Annotated[
        str,
        valid_if(check_scheme),
        no_credentials(_KEYS),
    ] = Field(
        description="Source of the interactions: CSV or Parquet files (local, gs:// or s3://), or "
        "bq://project.dataset.table.",
        json_schema_extra=_COMMON_DATA,
    )
    data_type: DataType = Field(
        default="ratings",
        description="Type of the source: ratings, user_ratings, web_views (Analytics 360), ga4 or query.",
        json_schema_extra=_DATA,
    )
    user_column: str = Field(
        default="",
        description="Column with the user ids; auto-detected if omitted.",
        json_schema_extra=_COMMON_DATA,
    )
    item_column: str = Field(
        default="",
        description="Column with the item ids; auto-detected if omitted.",
        json_schema_extra=_COMMON_DATA,
    )
    rating_column: str = Field(
        default="",
        description="Column with the ratings; auto-detected if omitted; without one, each interaction "
        "counts as 1.",
        json_schema_extra=_COMMON_DATA,
    )
    timestamp_column: str = Field(
        default="",
        description="Column with the times, if there is one; auto-detected if omitted.",
        json_schema_extra=_COMMON_DATA,
    )
    delimiter: str = Field(
        default="",
        description="Delimiter of CSV files; auto-detected if omitted.",
        json_schema_extra=_DATA,
    )
    has_header: bool = Field(
        default=True,
        description="Whether CSV files have a header line.",
        json_schema_extra=_DATA,
    )
    window_start: Time = Field(
        default="",
        description="Exclude interactions before this time (ISO 8601, UTC); unbounded if omitted.",
        json_schema_extra=_FILTERS,
    )
    window_end: Time = Field(
        default="",
        description="Exclude interactions from this time on (ISO 8601, UTC); unbounded if omitted.",
        json_schema_extra=_FILTERS,
    )
    window_days: int = Field(
        default=0,
        ge=0,
        le=LONGEST_WINDOW,
        description="Use only the last days before window_end, or before the snapshot, or before now; "
        "0 is unbounded.",
        json_schema_extra=_FILTERS,
    )
    row_filter: str = Field(
        default="",
        description="SQL condition on the source's columns; rows that do not match are excluded.",
        json_schema_extra=_FILTERS,
    )
    query: str = Field(
        default="",
        description="SELECT in BigQuery SQL that yields the ratings, for data_type query.",
        json_schema_extra=_DATA,
    )
    item_key: str = Field(
        default="",
        description="Where an event has its item id: a ga4 event parameter, or the index of a custom "
        "dimension.",
        json_schema_extra=_EVENTS,
    )
    event_name: str = Field(
        default="page_view",
        description="Name of the events to count, for data_type ga4.",
        json_schema_extra=_EVENTS,
    )
    event_rating: Literal["count", "engagement"] = Field(
        default="count",
        description="Rating of a ga4 item: count of its events, or seconds of engagement.",
        json_schema_extra=_EVENTS,
    )
    project: Annotated[str, valid_if(check_project)] = Field(
        default="",
        description="Project that runs and pays for BigQuery jobs; if omitted, the environment's on "
        "Vertex AI, and elsewhere the source's own.",
        json_schema_extra=_BIGQUERY,
    )
    location: Annotated[str, valid_if(check_location)] = Field(
        default="",
        description="Location of the BigQuery data, such as EU; the source's if omitted.",
        json_schema_extra=_BIGQUERY,
    )
    snapshot: Time = Field(
        default="",
        description="Read the table as of this time (ISO 8601, UTC; at most 7 days ago); now if omitted.",
        json_schema_extra=_BIGQUERY,
    )
    maximum_bytes_billed: int = Field(
        default=0,
        ge=0,
        le=MAX_EXACT,
        description="Maximum number of bytes that a query may read; a larger one fails before it costs "
        "anything; 0 is unlimited.",
        json_schema_extra=_BIGQUERY,
    )
    staging_dataset: Annotated[str, valid_if(check_dataset)] = Field(
        default="",
        description="BigQuery dataset (project.dataset) to prepare the interactions in; if omitted, they are "
        "prepared in the step's own process.",
        json_schema_extra=_BIGQUERY,
    )

    items: ItemSource = Field(
        default="",
        description="Source of item titles and categories: CSV or Parquet files (local, gs:// or s3://), or "
        "bq://project.dataset.table; none if omitted.",
        json_schema_extra=group("Items", common=True),
    )
    blocked_items: ItemSource = Field(
        default="",
        description="Source with the ids of items that are never recommended; none if omitted.",
        json_schema_extra=_ITEMS,
    )
    available_items: ItemSource = Field(
        default="",
        description="Source with the ids of the only items that are recommended; all items if omitted.",
        json_schema_extra=_ITEMS,
    )
    item_title_column: str = Field(
        default="",
        description="Column with the titles in items; auto-detected if omitted.",
        json_schema_extra=_ITEMS,
    )
    item_category_column: str = Field(
        default="",
        description="Column with the categories in items; auto-detected if omitted.",
        json_schema_extra=_ITEMS,
    )
    # Explicit feedback requires a column of ratings.
    feedback: FeedbackOption = DEFAULT_FEEDBACK

    def conflicts(self) -> Iterator[InputError]:
        """See `Options.conflicts`."""
        yield from self._data_type_problems()
        yield from self._window_problems()
        yield from self._source_problems()
        for field in ("item_title_column", "item_category_column"):
            if getattr(self, field) and not self.items:
                yield InputError(field, getattr(self, field), "requires items", "give them, or omit it")

    def _data_type_problems(self) -> Iterator[InputError]:
        if (self.data_type == "query") != bool(self.query):
            yield InputError("query", self.query, "requires data_type query, and vice versa", "set both")
        if self.data_type == "ga4" and not self.item_key:
            yield InputError("item_key", "", "is missing", "name the event parameter that holds the item id")
        if self.data_type == "web_views" and not self.item_key.isdecimal():
            yield InputError(
                "item_key",
                self.item_key,
                "is not a number",
                "give the index of the custom dimension that holds the item id",
            )

    def _window_problems(self) -> Iterator[InputError]:
        if self.window_days and self.window_start:
            yield InputError(
                "window_days", self.window_days, "cannot be combined with window_start", "omit one of the two"
            )
        start, end = parse_time(self.window_start), parse_time(self.window_end)
        if start and end and start >= end:
            yield InputError("window_end", self.window_end, "is not after window_start", "give a later time")

    def _source_problems(self) -> Iterator[InputError]:
        in_bigquery = self.source.startswith("bq://")
        if self.query:
            # sqlglot is slow to import, and most sources are not queries.
            from components.engines.sql import checked_query

            yield from problems_of(partial(checked_query, "query", self.query, translated=not in_bigquery))
        if in_bigquery:
            yield from problems_of(partial(table_of, self.source, self.data_type))
            return
        for field, value in (("snapshot", self.snapshot), ("staging_dataset", self.staging_dataset)):
            if value:
                yield InputError(field, value, "requires a BigQuery source", "omit it")

    def with_window(self) -> Self:
        """Return a copy with ``window_days``, if set, turned into a start and an end.

        Raises:
            InputError: the window would begin before the year 1.
        """
        if not self.window_days:
            return self
        last = parse_time(self.window_end) or parse_time(self.snapshot) or datetime.now(UTC)
        try:
            first = last - timedelta(days=self.window_days)
        except OverflowError as error:
            raise InputError(
                "window_days", self.window_days, "begins before the year 1", "give fewer days"
            ) from error
        return self.replace(window_days=0, window_start=first.isoformat(), window_end=last.isoformat())

    def described_source(self) -> dict[str, str]:
        """Return what the options say of the source, by the fields of the artifact's ``source``."""
        names = ("data_type", "query", "row_filter", "window_start", "window_end")
        return {"uri": self.source, **{name: getattr(self, name) for name in names}}
