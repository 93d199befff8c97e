"""The query for the interactions of a source, for any engine."""

import contextlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from components.engines.sql import Checked, Condition, checked_filter, quoted, render
from components.extract.columns import Columns, find_columns
from components.extract.options import ExtractOptions
from components.times import parse_time, timestamp
from trainer.errors import InputError, counted

logger = logging.getLogger(__name__)

SQL = Path(__file__).parent / "sql"

_USERS_OF_EVENTS = {"web_views": "fullVisitorId", "ga4": "user_pseudo_id"}
_RATINGS = ("ratings", "user_ratings", "query")

_ABSENT = dict.fromkeys(("day_suffix", "numbered", "timestamp", "stored_as", "ingested"), "")
_DIGITS_OF_A_DAY = 8

_STORED_TIMES = ("TIMESTAMP", "DATE", "DATETIME")
"""BigQuery types of columns of times by which tables can be partitioned."""

_PSEUDO_COLUMNS = ("_PARTITIONTIME", "_PARTITIONDATE")


@dataclass(frozen=True)
class Query:
    """A query for interactions.

    Attributes:
        sql: BigQuery SQL that yields user_id, item_id, rating and, if there are times, event_time.
        parameters: parameters of the SQL; some may be unused.
        timestamp: the source's column of times; "" if it has none, or holds events.
        windowed: whether the interactions are limited to a window of time.
        without_user: SQL for the number of events that have no user and are left out; "" for ratings.
    """

    sql: str
    parameters: dict[str, Any]
    timestamp: str
    windowed: bool
    without_user: str

    def check_users(self, events: int) -> dict[str, int]:
        """Log the number of events that have no user and are left out, and return it for the manifest."""
        if events:
            logger.warning("left out: %s without a user", counted(events, "event"))
        return {"events_without_user": events}

    def check_times(self, rows: int, timeless: int, first: str = "") -> None:
        """Raise InputError if times that are required cannot be read, and log how many others cannot.

        Args:
            rows: number of rows that the query returned.
            timeless: number of those without a time.
            first: where the first of them is and what it has, in words; "" if that is not known.
        """
        remedy = "give ISO 8601 such as 2026-01-31T08:00Z, timestamps, or numbers since 1970"
        if timeless and self.windowed:
            raise InputError(
                "timestamp_column",
                self.timestamp,
                f"has {counted(timeless, 'row')} without a readable time, to which no window can be applied",
                f"{remedy}, or exclude such rows with --row-filter",
            )
        if not (timeless and self.timestamp):
            return
        found = f" ({first})" if first else ""
        if timeless == rows:
            raise InputError(
                "timestamp_column",
                self.timestamp,
                f"none of its times can be read{found}",
                f"{remedy}, or leave the column out with --data-type query",
            )
        logger.warning(
            "%s: %s of %s times are missing or cannot be read%s; their rows are kept without a time",
            self.timestamp,
            f"{timeless:,}",
            f"{rows:,}",
            found,
        )


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
            rated=self.options.feedback == "explicit",
        )
        if self._windowed and not columns.timestamp:
            ingested = "_PARTITIONTIME" in schema
            raise InputError(
                "window_start, window_end",
                f"{self.options.window_start}, {self.options.window_end}",
                "require times",
                f"map them with --timestamp-column {'_PARTITIONTIME' if ingested else 'NAME'}",
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
        stored_time: str = "",
        ingested_by: str = "",
    ) -> Query:
        """Return the query for a source of ratings.

        Args:
            columns: columns of the ratings.
            schema: all columns that the row filter may name.
            table: table to select from.
            snapshot: whether to read the table as of ``@snapshot``.
            ordered: whether to sort the rows.
            numbered: whether to yield the table's ``source_row`` as well.
            stored_time: type in BigQuery of the column of times; "" elsewhere.
            ingested_by: see `Source.ingested_by`.
        """
        return self._query(
            "ratings.sql",
            schema,
            columns.timestamp,
            self._first_partition(ingested_by),
            source=table,
            snapshot=snapshot,
            ordered=ordered,
            numbered=numbered,
            stored_as=Checked(stored_time) if stored_time in _STORED_TIMES else "",
            ingested=ingested_by and columns.timestamp not in _PSEUDO_COLUMNS,
            user=quoted("user_column", columns.user),
            item=quoted("item_column", columns.item),
            rating=quoted("rating_column", columns.rating) if columns.rating else "",
            timestamp=quoted("timestamp_column", columns.timestamp) if columns.timestamp else "",
            user_type=columns.types[columns.user],
            item_type=columns.types[columns.item],
            rating_type=columns.types.get(columns.rating, ""),
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
        ingested_by: str = "",
    ) -> Query:
        """Return the query for a source of events.

        Args:
            schema: all columns that the row filter may name.
            table: table to select from.
            wildcard: the table's name if it is a wildcard over daily tables, such as ``events_*``.
            snapshot: whether to read the table as of ``@snapshot``.
            ordered: whether to sort the rows.
            ingested_by: see `Source.ingested_by`.
        """
        return self._query(
            f"{self.options.data_type}.sql",
            schema,
            "",
            {**self._first_partition(ingested_by), **self._suffixes(wildcard)},
            source=table,
            snapshot=snapshot,
            ordered=ordered,
            day_suffix=bool(wildcard),
            ingested=ingested_by,
            user=quoted("user_column", self.options.user_column or _USERS_OF_EVENTS[self.options.data_type]),
            event_rating=self.options.event_rating,
        )

    def _suffixes(self, wildcard: str) -> dict[str, str]:
        """Return the parameters for the daily tables to read.

        They are read from one day before the window to one day after it, because their days are those of the
        property's time zone. Without a window the bounds still leave out tables that are not of a whole day:
        BigQuery scans every table that constant bounds admit, whatever a regular expression says.

        Args:
            wildcard: see `events`.
        """
        # The digits of a day before the asterisk, as in events_2020*.
        prefix = re.sub(r".*?([0-9]*)\*", r"\1", wildcard)
        start, end = parse_time(self.options.window_start), parse_time(self.options.window_end)
        rest = max(_DIGITS_OF_A_DAY - len(prefix), 0)
        first = max(_day(start, -1) if start else "", prefix + "0" * rest)
        last = min(_day(end, 1) if end else "9" * _DIGITS_OF_A_DAY, prefix + "9" * rest)
        if first > last:
            first, last = prefix + "9" * rest, prefix + "0" * rest
        return {
            "day_suffix": f"^[0-9]{{{rest}}}$",
            "first_suffix": first.removeprefix(prefix),
            "last_suffix": last.removeprefix(prefix),
        }

    def _first_partition(self, unit: str) -> dict[str, str]:
        """Return the parameter for the first partition to read, by time of ingestion.

        Rows are ingested after the time that they bear, or up to a day before it if that is of a fast clock
        or of another time zone.

        Args:
            unit: see `Source.ingested_by`.
        """
        start = parse_time(self.options.window_start)
        if not (unit and start):
            return {}
        with contextlib.suppress(OverflowError):
            start = start.astimezone(UTC) - timedelta(days=1)
        firsts = {"MONTH": start.replace(day=1), "YEAR": start.replace(month=1, day=1)}
        return {"first_partition": timestamp(firsts.get(unit, start).date().isoformat())}

    def _query(
        self,
        kind: str,
        schema: Mapping[str, str],
        time_column: str,
        values: Mapping[str, str],
        **context: object,
    ) -> Query:
        condition = self.condition(schema)

        def sql(*, count_without_user: bool) -> str:
            return render(
                SQL,
                "interactions.sql",
                kind=kind,
                row_filter=condition.sql if condition else "",
                window_start=self.options.window_start,
                window_end=self.options.window_end,
                count_without_user=count_without_user,
                **{**_ABSENT, **context},
            )

        literals = condition.parameters if condition else {}
        return Query(
            sql(count_without_user=False),
            {**self._values(), **values, **literals},
            time_column,
            self._windowed,
            "" if self.is_ratings else sql(count_without_user=True),
        )

    def _values(self) -> dict[str, str]:
        """Return the values of the query's parameters."""
        return {
            "window_start": timestamp(self.options.window_start),
            "window_end": timestamp(self.options.window_end),
            "item_key": self.options.item_key,
            "event_name": self.options.event_name,
        }


def logged(columns: Columns) -> dict[str, str]:
    """Log the columns that were chosen, and return them for the manifest's ``source``."""
    logger.info("columns: %s", columns)
    return {"column_roles": str(columns)}


def _day(time: datetime, days: int) -> str:
    """Return the suffix of the daily table some days after a time, clipped to the calendar."""
    with contextlib.suppress(OverflowError):
        time += timedelta(days=days)
    return f"{time.year:04}{time:%m%d}"
