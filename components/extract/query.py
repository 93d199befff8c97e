"""What to extract, as a query for any engine."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self

from components.engines.sql import Checked, Condition, checked_filter, checked_query, quoted, render
from components.extract.columns import Columns, find_columns
from trainer.errors import InputError, problems_of

SQL = Path(__file__).parent / "sql"

_USERS_OF_EVENTS = {"web_views": "fullVisitorId", "ga4": "user_pseudo_id"}
_RATINGS = ("ratings", "user_ratings", "query")
DATA_TYPES = (*_RATINGS, *_USERS_OF_EVENTS)


_ABSENT = dict.fromkeys(("day_suffix", "first_suffix", "last_suffix", "numbered", "timestamp"), "")
_DIGITS_OF_A_DAY = 8


@dataclass(frozen=True)
class Query:
    """A query for interactions.

    Attributes:
        sql: BigQuery SQL that yields user_id, item_id, rating and, where there are times, event_time.
        parameters: of the SQL, and perhaps others.
        timestamp: the source's column of the times; "" if there is none, or they are those of events.
        windowed: whether only interactions of a window of time are wanted.
    """

    sql: str
    parameters: dict[str, Any]
    timestamp: str
    windowed: bool

    def check_times(self, rows: int, timeless: int) -> None:
        """Raise InputError where times cannot be read and have to be.

        Args:
            rows: that the query gave.
            timeless: those of them without a time.
        """
        remedy = "give ISO 8601 such as 2026-01-31T08:00Z, timestamps, or numbers since 1970"
        if timeless and self.windowed:
            raise InputError(
                "timestamp_column",
                self.timestamp,
                f"{timeless:,} rows have no time that can be read, and may be of the window or not",
                f"{remedy}, or leave such rows out with --row-filter",
            )
        if timeless == rows and self.timestamp:
            raise InputError("timestamp_column", self.timestamp, "none of its times can be read", remedy)


@dataclass(frozen=True)
class Request:
    """What the user wants extracted; the fields are documented at `components.extract.step.extract`."""

    data_type: str
    user_column: str
    item_column: str
    rating_column: str
    timestamp_column: str
    window_start: str
    window_end: str
    window_days: int
    row_filter: str
    query: str
    item_key: str
    event_name: str
    event_rating: str

    def problems(self) -> Iterator[InputError]:
        """Yield the problems of fields that are unknown, unreadable or do not go together."""
        for field, known in (("data_type", DATA_TYPES), ("event_rating", ("count", "engagement"))):
            if getattr(self, field) not in known:
                yield InputError(
                    field, getattr(self, field), "is not known", f"choose one of {', '.join(known)}"
                )
        if (self.data_type == "query") != bool(self.query):
            yield InputError("query", self.query, "goes with data_type query, and only with it", "give both")
        elif self.query:
            yield from problems_of(partial(checked_query, "query", self.query))
        if self.data_type == "ga4" and not self.item_key:
            yield InputError("item_key", "", "is missing", "name the event parameter that holds the item id")
        if self.data_type == "web_views" and not self.item_key.isdecimal():
            yield InputError(
                "item_key", self.item_key, "is no number", "give the custom dimension that holds the item id"
            )
        if self.window_days < 0:
            yield InputError("window_days", self.window_days, "is negative", "give a number of days, or 0")
        if self.window_days and self.window_start:
            yield InputError(
                "window_days", self.window_days, "does not go with window_start", "give one of the two"
            )
        yield from self._window_problems()

    def _window_problems(self) -> Iterator[InputError]:
        bounds = ("window_start", "window_end")
        unreadable = [
            problem for name in bounds for problem in problems_of(partial(_time, name, getattr(self, name)))
        ]
        yield from unreadable
        if not unreadable:
            start, end = (_time(name, getattr(self, name)) for name in bounds)
            if start and end and start >= end:
                yield InputError(
                    "window_end", self.window_end, "is not after window_start", "give a later one"
                )

    def with_window(self, end: str) -> Self:
        """Return the same request, the days of its window (if it has them) counted back from its end.

        Args:
            end: of the window where the request has none (ISO 8601); "" for now.

        Raises:
            InputError: there are more days than the calendar has.
        """
        if not self.window_days:
            return self
        last = _time("window_end", self.window_end) or _time("snapshot", end) or datetime.now(UTC)
        try:
            first = last - timedelta(days=self.window_days)
        except OverflowError as error:
            raise InputError(
                "window_days", self.window_days, "goes back before the calendar", "give fewer"
            ) from error
        return replace(self, window_start=first.isoformat(), window_end=last.isoformat())

    @property
    def is_ratings(self) -> bool:
        """Whether a row of the source is one rating, and not an event to be summed with others."""
        return self.data_type in _RATINGS

    def table(self, table: Checked) -> Checked:
        """Return what to select from: ``table``, or the user's own query."""
        return checked_query("query", self.query) if self.query else table

    def columns(self, schema: Mapping[str, str]) -> Columns:
        """Find the columns of ratings; see `find_columns`."""
        columns = find_columns(
            schema,
            user_column=self.user_column,
            item_column=self.item_column,
            rating_column=self.rating_column,
            timestamp_column=self.timestamp_column,
        )
        if self._windowed and not columns.timestamp:
            raise InputError(
                "window_start, window_end",
                f"{self.window_start}, {self.window_end}",
                "need times",
                "map them with --timestamp-column NAME",
            )
        return columns

    @property
    def _windowed(self) -> bool:
        return bool(self.window_start or self.window_end)

    def condition(self, schema: Mapping[str, str]) -> Condition | None:
        """Return the row filter, if there is one, over columns of the schema; see `checked_filter`."""
        return checked_filter("row_filter", self.row_filter, schema) if self.row_filter else None

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
            columns: of ratings.
            schema: all columns, which the row filter may name.
            table: to select from.
            snapshot: whether to read the table as of ``@snapshot``.
            ordered: whether to sort what comes in no order.
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
            schema: all columns, which the row filter may name.
            table: to select from.
            wildcard: the table's name where it is one over tables of days, such as ``events_*``.
            snapshot: whether to read the table as of ``@snapshot``.
            ordered: whether to sort what comes in no order.
        """
        given = len(re.sub(r".*?([0-9]*)\*", r"\1", wildcard))
        by_day = bool(wildcard) and not given
        return self._query(
            f"{self.data_type}.sql",
            schema,
            "",
            {"day_suffix": f"^[0-9]{{{max(_DIGITS_OF_A_DAY - given, 0)}}}$"},
            source=table,
            snapshot=snapshot,
            ordered=ordered,
            day_suffix=bool(wildcard),
            first_suffix=by_day and self.window_start,
            last_suffix=by_day and self.window_end,
            user=quoted("user_column", self.user_column or _USERS_OF_EVENTS[self.data_type]),
            event_rating=self.event_rating,
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
            window_start=self.window_start,
            window_end=self.window_end,
            **{**_ABSENT, **context},
        )
        literals = condition.parameters if condition else {}
        return Query(sql, {**self._values(), **values, **literals}, time_column, self._windowed)

    def _values(self) -> dict[str, str]:
        """Return the values of the query's parameters.

        The tables of a day are read from one day before the window to one day after it, as they go by the
        property's time zone.
        """
        start, end = _time("window_start", self.window_start), _time("window_end", self.window_end)
        return {
            "window_start": timestamp("window_start", self.window_start),
            "window_end": timestamp("window_end", self.window_end),
            "first_suffix": _suffix(start, -1) if start else "",
            "last_suffix": _suffix(end, 1) if end else "",
            "item_key": self.item_key,
            "event_name": self.event_name,
        }


def _suffix(time: datetime, days: int) -> str:
    """Return the end of the name of a day's table, so many days from a time (unless the calendar ends)."""
    with contextlib.suppress(OverflowError):
        time += timedelta(days=days)
    return f"{time.year:04}{time:%m%d}"


def timestamp(field: str, text: str) -> str:
    """Return an ISO 8601 time as every engine reads it; "" stays "".

    Raises:
        InputError: the text is no time.
    """
    time = _time(field, text)
    return time.isoformat(" ", "microseconds") if time else ""


def _time(field: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(
            field, text, "is no time", "give one such as 2026-01-31 or 2026-01-31T08:00Z"
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)
