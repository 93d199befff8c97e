"""What to extract, as a query for any engine."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from components.engines.sql import Checked, checked_filter, checked_query, quoted, render
from components.extract.columns import Columns, find_columns
from trainer.errors import InputError, problems_of

SQL = Path(__file__).parent / "sql"

_USERS_OF_EVENTS = {"web_views": "fullVisitorId", "ga4": "user_pseudo_id"}
_RATINGS = ("ratings", "user_ratings", "query")
DATA_TYPES = (*_RATINGS, *_USERS_OF_EVENTS)


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
        if (self.window_start or self.window_end) and not columns.timestamp:
            raise InputError(
                "window_start, window_end",
                f"{self.window_start}, {self.window_end}",
                "need times",
                "map them with --timestamp-column NAME",
            )
        return columns

    def ratings_sql(
        self, columns: Columns, schema: Mapping[str, str], table: Checked, *, snapshot: bool
    ) -> str:
        """Return the query for a source of ratings.

        Args:
            columns: of ratings.
            schema: all columns, which the row filter may name.
            table: to select from.
            snapshot: whether to read the table as of ``@snapshot``.
        """
        return self._sql(
            "ratings.sql",
            schema,
            source=table,
            snapshot=snapshot,
            suffixes=False,
            user=quoted("user_column", columns.user),
            item=quoted("item_column", columns.item),
            rating=quoted("rating_column", columns.rating),
            timestamp=quoted("timestamp_column", columns.timestamp) if columns.timestamp else "",
            user_type=columns.types[columns.user],
            item_type=columns.types[columns.item],
            timestamp_type=columns.types.get(columns.timestamp, ""),
        )

    def events_sql(self, schema: Mapping[str, str], table: Checked, *, snapshot: bool, suffixes: bool) -> str:
        """Return the query for a source of events.

        Args:
            schema: all columns, which the row filter may name.
            table: to select from.
            snapshot: whether to read the table as of ``@snapshot``.
            suffixes: whether it is a wildcard over tables of days.
        """
        return self._sql(
            f"{self.data_type}.sql",
            schema,
            source=table,
            snapshot=snapshot,
            suffixes=suffixes,
            user=quoted("user_column", self.user_column or _USERS_OF_EVENTS[self.data_type]),
            event_rating=self.event_rating,
        )

    def _sql(self, kind: str, schema: Mapping[str, str], *, suffixes: bool, **context: object) -> str:
        return render(
            SQL,
            "interactions.sql",
            kind=kind,
            row_filter=checked_filter("row_filter", self.row_filter, schema) if self.row_filter else "",
            window_start=self.window_start,
            window_end=self.window_end,
            first_suffix=suffixes and self.window_start,
            last_suffix=suffixes and self.window_end,
            **context,
        )

    def parameters(self) -> dict[str, str]:
        """Return the values of the query's parameters.

        The tables of a day are read from one day before the window to one day after it, as they go by the
        property's time zone.
        """
        start, end = _time("window_start", self.window_start), _time("window_end", self.window_end)
        day = timedelta(days=1)
        return {
            "window_start": timestamp("window_start", self.window_start),
            "window_end": timestamp("window_end", self.window_end),
            "first_suffix": f"{start - day:%Y%m%d}" if start else "",
            "last_suffix": f"{end + day:%Y%m%d}" if end else "",
            "item_key": self.item_key,
            "event_name": self.event_name,
        }


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
