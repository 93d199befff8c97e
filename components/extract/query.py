"""The query for the interactions of a source, for any engine."""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from components.engines.sql import Checked, Condition, checked_filter, quoted, render
from components.extract.columns import Columns, find_columns
from components.extract.options import ExtractOptions
from components.times import parse_time, timestamp
from trainer.errors import InputError

SQL = Path(__file__).parent / "sql"

_USERS_OF_EVENTS = {"web_views": "fullVisitorId", "ga4": "user_pseudo_id"}
_RATINGS = ("ratings", "user_ratings", "query")

_ABSENT = dict.fromkeys(("day_suffix", "first_suffix", "last_suffix", "numbered", "timestamp"), "")
_DIGITS_OF_A_DAY = 8


@dataclass(frozen=True)
class Query:
    """A query for interactions.

    Attributes:
        sql: BigQuery SQL that yields user_id, item_id, rating and, if there are times, event_time.
        parameters: parameters of the SQL; some may be unused.
        timestamp: the source's column of times; "" if it has none, or holds events.
        windowed: whether the interactions are limited to a window of time.
    """

    sql: str
    parameters: dict[str, Any]
    timestamp: str
    windowed: bool

    def check_times(self, rows: int, timeless: int) -> None:
        """Raise InputError if times that are required cannot be read.

        Args:
            rows: number of rows that the query returned.
            timeless: number of those without a time.
        """
        remedy = "give ISO 8601 such as 2026-01-31T08:00Z, timestamps, or numbers since 1970"
        if timeless and self.windowed:
            raise InputError(
                "timestamp_column",
                self.timestamp,
                f"{timeless:,} rows have no readable time, so the window cannot be applied to them",
                f"{remedy}, or exclude such rows with --row-filter",
            )
        if timeless == rows and self.timestamp:
            raise InputError("timestamp_column", self.timestamp, "none of its times can be read", remedy)


@dataclass(frozen=True)
class Request:
    """Builds the query for a source's options.

    Attributes:
        options: options with the window as a start and an end; see `ExtractOptions.with_window`.
    """

    options: ExtractOptions

    @property
    def is_ratings(self) -> bool:
        """Whether a row of the source is one rating, not an event to be summed with others."""
        return self.options.data_type in _RATINGS

    def columns(self, schema: Mapping[str, str], *, guessed: bool = False) -> Columns:
        """Find the columns of ratings; see `find_columns`."""
        columns = find_columns(
            schema,
            user_column=self.options.user_column,
            item_column=self.options.item_column,
            rating_column=self.options.rating_column,
            timestamp_column=self.options.timestamp_column,
            guessed=guessed,
        )
        if self._windowed and not columns.timestamp:
            raise InputError(
                "window_start, window_end",
                f"{self.options.window_start}, {self.options.window_end}",
                "require times",
                "map them with --timestamp-column NAME",
            )
        return columns

    @property
    def _windowed(self) -> bool:
        return bool(self.options.window_start or self.options.window_end)

    def condition(self, schema: Mapping[str, str]) -> Condition | None:
        """Return the row filter, if any, over the columns of a schema; see `checked_filter`."""
        return (
            checked_filter("row_filter", self.options.row_filter, schema) if self.options.row_filter else None
        )

    def ratings(
        self,
        columns: Columns,
        schema: Mapping[str, str],
        table: Checked,
        *,
        snapshot: bool = False,
        ordered: bool = False,
        numbered: bool = False,
    ) -> Query:
        """Return the query for a source of ratings.

        Args:
            columns: columns of the ratings.
            schema: all columns that the row filter may name.
            table: table to select from.
            snapshot: whether to read the table as of ``@snapshot``.
            ordered: whether to sort the rows.
            numbered: whether to yield the table's ``source_row`` as well.
        """
        return self._query(
            "ratings.sql",
            schema,
            columns.timestamp,
            {},
            source=table,
            snapshot=snapshot,
            ordered=ordered,
            numbered=numbered,
            user=quoted("user_column", columns.user),
            item=quoted("item_column", columns.item),
            rating=quoted("rating_column", columns.rating),
            timestamp=quoted("timestamp_column", columns.timestamp) if columns.timestamp else "",
            user_type=columns.types[columns.user],
            item_type=columns.types[columns.item],
            rating_type=columns.types[columns.rating],
            in_bigquery=self.options.source.startswith("bq://"),
            timestamp_type=columns.types.get(columns.timestamp, ""),
        )

    def events(
        self,
        schema: Mapping[str, str],
        table: Checked,
        *,
        wildcard: str = "",
        snapshot: bool = False,
        ordered: bool = False,
    ) -> Query:
        """Return the query for a source of events.

        Args:
            schema: all columns that the row filter may name.
            table: table to select from.
            wildcard: the table's name if it is a wildcard over daily tables, such as ``events_*``.
            snapshot: whether to read the table as of ``@snapshot``.
            ordered: whether to sort the rows.
        """
        digits = len(re.sub(r".*?([0-9]*)\*", r"\1", wildcard))
        by_day = bool(wildcard) and not digits
        return self._query(
            f"{self.options.data_type}.sql",
            schema,
            "",
            {"day_suffix": f"^[0-9]{{{max(_DIGITS_OF_A_DAY - digits, 0)}}}$"},
            source=table,
            snapshot=snapshot,
            ordered=ordered,
            day_suffix=bool(wildcard),
            first_suffix=by_day and self.options.window_start,
            last_suffix=by_day and self.options.window_end,
            user=quoted("user_column", self.options.user_column or _USERS_OF_EVENTS[self.options.data_type]),
            event_rating=self.options.event_rating,
        )

    def _query(
        self,
        kind: str,
        schema: Mapping[str, str],
        time_column: str,
        values: Mapping[str, str],
        **context: object,
    ) -> Query:
        condition = self.condition(schema)
        sql = render(
            SQL,
            "interactions.sql",
            kind=kind,
            row_filter=condition.sql if condition else "",
            window_start=self.options.window_start,
            window_end=self.options.window_end,
            **{**_ABSENT, **context},
        )
        literals = condition.parameters if condition else {}
        return Query(sql, {**self._values(), **values, **literals}, time_column, self._windowed)

    def _values(self) -> dict[str, str]:
        """Return the values of the query's parameters.

        Daily tables are read from one day before the window to one day after it, because their days are those
        of the property's time zone.
        """
        start, end = parse_time(self.options.window_start), parse_time(self.options.window_end)
        return {
            "window_start": timestamp(self.options.window_start),
            "window_end": timestamp(self.options.window_end),
            "first_suffix": _suffix(start, -1) if start else "",
            "last_suffix": _suffix(end, 1) if end else "",
            "item_key": self.options.item_key,
            "event_name": self.options.event_name,
        }


def _suffix(time: datetime, days: int) -> str:
    """Return the suffix of the daily table some days after a time, clipped to the calendar."""
    with contextlib.suppress(OverflowError):
        time += timedelta(days=days)
    return f"{time.year:04}{time:%m%d}"
