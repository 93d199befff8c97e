"""Finds the columns of a source: of users, items, ratings and times, or of ids, titles and categories."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from trainer.errors import CombinedInputError, InputError, collected

USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "user_column": (
        *("user_id", "user", "uid", "customer_id", "visitor_id", "customer", "buyer_id", "buyer"),
        *("shopper_id", "client_id", "member_id", "account_id", "subscriber_id", "profile_id", "reviewer_id"),
        *("customer_email", "user_email", "email", "*_email", "full_visitor_id", "user_pseudo_id", "visitor"),
        *("anonymous_id", "device_id", "cookie_id", "session_id", "user_session", "session"),
    ),
    "item_column": (
        *("item_id", "item", "iid", "movie_id", "product_id", "content_id", "article_id", "book_id"),
        *("sku", "asin", "isbn", "parent_asin", "product_sku", "item_sku", "lineitem_sku", "product"),
        *("product_code", "stock_code", "variant_id", "ean", "gtin", "track_id", "song_id", "artist_id"),
        *("video_id", "show_id", "anime_id", "game_id", "app_id", "recipe_id", "news_id", "document_id"),
        *("page_id", "course_id", "job_id", "listing_id", "business_id", "venue_id", "place_id"),
    ),
    "rating_column": (
        *("rating", "ratings", "score", "stars", "overall", "user_rating", "review_rating", "review_score"),
        *("book_rating", "star_rating", "quantity", "qty", "qty_ordered", "lineitem_quantity"),
        *("play_count", "plays", "listen_count", "click_count", "clicks", "view_count", "views", "count"),
    ),
    "timestamp_column": (
        *("timestamp", "ts", "event_time", "event_timestamp", "time", "date", "datetime"),
        *("event_date", "order_date", "purchase_date", "invoice_date", "transaction_date", "t_dat"),
        *("unix_review_time", "review_time", "review_date", "utc_timestamp", "utc_time", "date_added"),
        *("ordered_at", "purchased_at", "created_at", "*_at"),
    ),
    "item_title_column": (
        *("title", "item_title", "product_title", "movie_title", "book_title", "name", "item_name"),
        *("product_name", "prod_name", "headline"),
    ),
    "item_category_column": (
        *("category", "item_category", "product_category", "category_name", "main_category", "categories"),
        *("genre", "genres", "product_type", "product_type_name", "department"),
    ),
}
"""Usual names of columns by role, in order of precedence: those of public datasets and of shops' exports.

Case, spaces, dashes and underscores do not matter. ``*_at`` are all names whose last word is ``at``.
"""

_CATALOGUE_IDS = (*USUAL_NAMES["item_column"], "id")
_ROLES = ("user_column", "item_column", "rating_column", "timestamp_column")
_HELD = {"user_column": "user ids", "item_column": "item ids", "rating_column": "ratings"}

_INTEGERS = {
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "INT64",
    "INT32",
}
_TEXTS = {"VARCHAR", "STRING", "UUID", "UBIGINT", "HUGEINT", "UHUGEINT"}
"""Types of ids that are read as text. Integers that INT64 cannot hold keep their digits that way."""
_TIMES = ("TIMESTAMP", "DATE")
_FRACTIONS = ("FLOAT", "DOUBLE", "DECIMAL", "NUMERIC", "BIGNUMERIC", "REAL")
_LARGE_INTEGERS = ("UBIGINT", "HUGEINT", "UHUGEINT")


@dataclass(frozen=True)
class Columns:
    """The columns of a source by their role.

    Attributes:
        user: column of the user ids.
        item: column of the item ids.
        rating: column of the ratings; "" if each interaction counts as 1.
        timestamp: column of the times; "" if there is none.
        types: BigQuery types of these columns.
    """

    user: str
    item: str
    rating: str
    timestamp: str
    types: Mapping[str, str]

    def __str__(self) -> str:
        return (
            f"user={self.user} item={self.item} rating={self.rating or '1 (no column)'} "
            f"time={self.timestamp or 'none (no column)'}"
        )

    def with_text(self, columns: Iterable[str]) -> Self:
        """Return a copy in which the named columns are read as text."""
        return replace(self, types={**self.types, **dict.fromkeys(columns, "STRING")})


def by_position(schema: Mapping[str, str]) -> dict[str, str]:
    """Return the columns of a file without a header: user, item and, if present, rating and timestamp.

    Raises:
        InputError: there is only one column.
    """
    if len(schema) < 2:
        raise InputError(
            "source",
            ", ".join(schema),
            "has only one column",
            "give user and item, and optionally rating and time, delimited",
        )
    return dict(zip(_ROLES, schema, strict=False))


def find_columns(
    schema: Mapping[str, str],
    *,
    user_column: str = "",
    item_column: str = "",
    rating_column: str = "",
    timestamp_column: str = "",
    guessed: bool = False,
    rated: bool = False,
) -> Columns:
    """Match the columns that the user named, and find the others by their usual names.

    Args:
        schema: the source's columns and their types (DuckDB's or BigQuery's names).
        user_column: name of the column of user ids; "" to find it.
        item_column: name of the column of item ids; "" to find it.
        rating_column: name of the column of ratings; "" to find it, if there is one.
        timestamp_column: name of the column of times; "" to find it, if there is one.
        guessed: whether the types are guesses from the first rows of text. Only the rows then say whether a
            column holds ratings, and ids that are not integers are text.
        rated: whether there must be a column of ratings.

    Raises:
        InputError: naming every column that is missing, ambiguous, given two roles, or of a type that does
            not fit its role.
    """
    named = {
        "user_column": user_column,
        "item_column": item_column,
        "rating_column": rating_column,
        "timestamp_column": timestamp_column,
    }
    problems: list[InputError] = []
    columns = dict.fromkeys(named, "")
    for field, name in named.items():
        with collected(problems):
            columns[field] = _find(field, name, list(schema))
    required = ("user_column", "item_column", *(("rating_column",) if rated else ()))
    refused = {problem.field for problem in problems}
    missing = [field for field in required if not columns[field] and field not in refused]
    if missing:
        problems.append(_missing(missing, schema))
    with collected(problems):
        _refuse_two_roles(columns)
    types: dict[str, str] = {}
    for field, column in columns.items():
        if column:
            with collected(problems):
                types[column] = _type_of(field, column, schema, guessed=guessed)
    if problems:
        raise CombinedInputError.of(problems)
    user, item, rating, timestamp = columns.values()
    return Columns(user, item, rating, timestamp, types)


def _missing(fields: Sequence[str], schema: Iterable[str]) -> InputError:
    held = " or ".join(_HELD[field] for field in fields)
    options = " ".join(f"--{field.replace('_', '-')} NAME" for field in fields)
    problem = f"none of the columns {', '.join(schema)} has a usual name for {held}"
    return InputError(", ".join(fields), "", problem, f"map them with {options}")


@dataclass(frozen=True)
class ItemColumns:
    """The columns of a source of items.

    Attributes:
        item: column of the ids.
        title: column of the titles; "" if there is none.
        category: column of the categories; "" if there is none.
    """

    item: str
    title: str = ""
    category: str = ""


def find_id_column(source: str, schema: Mapping[str, str], *, item_column: str = "") -> str:
    """Find the column of the ids in a source of items, or of a list of them.

    Args:
        source: the source, for the error.
        schema: the source's columns and their types (DuckDB's or BigQuery's names).
        item_column: column of the items in the interactions, which may have another name here.

    Raises:
        InputError: there is none, there are several, or it does not hold ids.
    """
    column = item_column if item_column in schema else _usual("item_column", schema, *_CATALOGUE_IDS)
    if not column:
        raise InputError(
            "source",
            source,
            f"none of its columns {', '.join(schema)} has a usual name for ids",
            "give it a header with a name such as item_id, or name the column with --item-column NAME",
        )
    _id_type("item_column", column, schema, guessed=False)
    return column


def find_item_columns(
    source: str,
    schema: Mapping[str, str],
    *,
    item_column: str = "",
    item_title_column: str = "",
    item_category_column: str = "",
) -> ItemColumns:
    """Match the columns that the user named, and find the others by their usual names.

    Args:
        source: the source, for the error.
        schema: the source's columns and their types (DuckDB's or BigQuery's names).
        item_column: see `find_id_column`.
        item_title_column: name of the column of titles; "" to find it, if there is one.
        item_category_column: name of the column of categories; "" to find it, if there is one.

    Raises:
        InputError: a column is missing, ambiguous, or of a type that does not fit its role; or there is
            neither a title nor a category.
    """
    if len(schema) == 1:
        problem = f"its rows have only the column {', '.join(schema)}"
        raise InputError(
            "source", source, problem, "give ids with titles or categories, in rows of the same length"
        )
    item = find_id_column(source, schema, item_column=item_column)
    named = {"item_title_column": item_title_column, "item_category_column": item_category_column}
    title, category = (_text_column(field, name, schema) for field, name in named.items())
    if not (title or category):
        raise InputError(
            "source",
            source,
            f"none of its columns {', '.join(schema)} has a usual name for titles or categories",
            "name one with --item-title-column NAME or --item-category-column NAME",
        )
    return ItemColumns(item, title, category)


def _text_column(field: str, name: str, schema: Mapping[str, str]) -> str:
    column = _find(field, name, list(schema))
    kind = schema[column].upper() if column else "STRING"
    if kind not in (*_TEXTS, *_INTEGERS):
        raise InputError(field, column, f"holds {kind.lower()}, not text", "convert it to text")
    return column


def _refuse_two_roles(columns: Mapping[str, str]) -> None:
    roles: dict[str, str] = {}
    for field, column in columns.items():
        if column and column in roles:
            raise InputError(
                field,
                column,
                f"is already the {roles[column]}",
                f"name another with --{field.replace('_', '-')} NAME",
            )
        roles[column] = field


def _find(field: str, name: str, columns: list[str]) -> str:
    """Return the column that the user named, or else the one with a usual name; "" if there is none."""
    if name and name not in columns:
        remedy = f"name one with --{field.replace('_', '-')} NAME"
        raise InputError(field, name, f"is not among the columns {', '.join(columns)}", remedy)
    return name or _usual(field, columns, *USUAL_NAMES[field])


def _usual(field: str, columns: Iterable[str], *names: str) -> str:
    """Return the column with the first of some usual names that one has; "" if none has any."""
    for name in names:
        matches = [column for column in columns if _is_named(column, name)]
        if len(matches) > 1:
            remedy = f"choose one with --{field.replace('_', '-')} NAME"
            raise InputError(field, ", ".join(matches), "are ambiguous", remedy)
        if matches:
            return matches[0]
    return ""


def _is_named(column: str, name: str) -> bool:
    """Return whether a column has a usual name."""
    if not name.startswith("*_"):
        return _plain(column) == _plain(name)
    last = name.removeprefix("*_")
    words = rf"[^\W_](?:[\W_]+{last}|(?-i:(?<=[a-z0-9]){last.capitalize()}))"
    return bool(re.search(rf"{words}$", column, re.IGNORECASE))


def _plain(column: str) -> str:
    return "".join(character for character in column.lower() if character.isalnum())


def _type_of(field: str, column: str, schema: Mapping[str, str], *, guessed: bool) -> str:
    """Return the BigQuery type to read a column as.

    Raises:
        InputError: it does not fit the column's role.
    """
    if field == "rating_column":
        return _rating_type(column, schema, guessed=guessed)
    if field == "timestamp_column":
        return _time_type(column, schema)
    return _id_type(field, column, schema, guessed=guessed)


def _id_type(field: str, column: str, schema: Mapping[str, str], *, guessed: bool) -> str:
    kind = schema[column].upper()
    if kind in _INTEGERS:
        return "INT64"
    if kind in _TEXTS or guessed:
        return "STRING"
    if kind.startswith(_FRACTIONS):
        raise InputError(
            field, column, f"holds fractions ({kind.lower()}), not ids", "convert it to integers or strings"
        )
    raise InputError(field, column, f"holds {kind.lower()}, not ids", "convert it to integers or strings")


def _rating_type(column: str, schema: Mapping[str, str], *, guessed: bool) -> str:
    kind = schema[column].upper()
    if kind in _INTEGERS or kind.startswith((*_LARGE_INTEGERS, *_FRACTIONS)):
        return "FLOAT64"
    if kind in _TEXTS or guessed:
        return "STRING"
    raise InputError("rating_column", column, f"holds {kind.lower()}, not numbers", "convert it to numbers")


def _time_type(column: str, schema: Mapping[str, str]) -> str:
    kind = schema[column].upper()
    if kind in _INTEGERS:
        return "INT64"
    if kind.startswith(_TIMES):
        return "TIMESTAMP"
    if kind.startswith(("VARCHAR", "STRING")):
        return "STRING"
    raise InputError(
        "timestamp_column", column, f"holds {kind.lower()}, not times", "convert it to timestamps or seconds"
    )


def kind_of(kind: str) -> str:
    """Return the family of a DuckDB type; one type can be widened to another of its family."""
    kind = kind.upper()
    if kind in _INTEGERS:
        return "integers"
    for prefixes, name in ((_FRACTIONS, "fractions"), (_TIMES, "times"), (("VARCHAR",), "text")):
        if kind.startswith(prefixes):
            return name
    return kind.lower()
