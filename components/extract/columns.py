"""Finds the user, item, rating and timestamp columns of a source."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from trainer.errors import InputError

_SPELLINGS = {
    "user_column": ("userid", "user", "uid", "customerid", "visitorid"),
    "item_column": ("itemid", "item", "iid", "movieid", "productid", "contentid", "articleid", "bookid"),
    "rating_column": ("rating", "ratings", "score", "stars"),
    "timestamp_column": ("timestamp", "ts", "eventtime", "eventtimestamp", "time", "date", "datetime"),
}

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
        rating: column of the ratings.
        timestamp: column of the times; "" if there is none.
        types: BigQuery types of these columns.
    """

    user: str
    item: str
    rating: str
    timestamp: str
    types: Mapping[str, str]

    def with_text(self, columns: Iterable[str]) -> Self:
        """Return a copy in which the named columns are read as text."""
        return replace(self, types={**self.types, **dict.fromkeys(columns, "STRING")})


def by_position(schema: Mapping[str, str]) -> dict[str, str]:
    """Return the columns of a file without a header: user, item, rating and, if present, timestamp.

    Raises:
        InputError: there are fewer than three columns.
    """
    if len(schema) < 3:
        raise InputError(
            "source",
            ", ".join(schema),
            "has fewer than three columns",
            "give user, item and rating, delimited",
        )
    return dict(zip(_SPELLINGS, schema, strict=False))


def find_columns(
    schema: Mapping[str, str],
    *,
    user_column: str = "",
    item_column: str = "",
    rating_column: str = "",
    timestamp_column: str = "",
    guessed: bool = False,
) -> Columns:
    """Match the columns that the user named, and find the others by their usual names.

    Args:
        schema: the source's columns and their types (DuckDB's or BigQuery's names).
        user_column: name of the column of user ids; "" to find it.
        item_column: name of the column of item ids; "" to find it.
        rating_column: name of the column of ratings; "" to find it.
        timestamp_column: name of the column of times; "" to find it. Only this one may be absent.
        guessed: whether the types are guesses from the first rows of text. Only the rows then say whether a
            column holds ratings, and ids that are not integers are text.

    Raises:
        InputError: a column is missing, ambiguous, given two roles, or of a type that does not fit its role.
    """
    named = {
        "user_column": user_column,
        "item_column": item_column,
        "rating_column": rating_column,
        "timestamp_column": timestamp_column,
    }
    columns = {field: _find(field, name, list(schema)) for field, name in named.items()}
    _refuse_two_roles(columns)
    user, item, rating, timestamp = columns.values()
    types = {
        user: _id_type("user_column", user, schema, guessed=guessed),
        item: _id_type("item_column", item, schema, guessed=guessed),
        rating: _rating_type(rating, schema, guessed=guessed),
    }
    if timestamp:
        types[timestamp] = _time_type(timestamp, schema)
    return Columns(user, item, rating, timestamp, types)


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
    option = "--" + field.replace("_", "-")
    listed = ", ".join(columns)
    if name:
        if name not in columns:
            raise InputError(
                field, name, f"is not among the columns {listed}", f"name one with {option} NAME"
            )
        return name
    for spelling in _SPELLINGS[field]:
        matches = [column for column in columns if _plain(column) == spelling]
        if len(matches) > 1:
            raise InputError(field, ", ".join(matches), "are ambiguous", f"choose one with {option} NAME")
        if matches:
            return matches[0]
    if field == "timestamp_column":
        return ""
    raise InputError(
        field, "", f"none of the columns {listed} has a usual name for it", f"map one with {option} NAME"
    )


def _plain(column: str) -> str:
    return "".join(character for character in column.lower() if character.isalnum())


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
