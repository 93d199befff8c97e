"""Finds the columns of a source: of users, items, ratings and times, or of ids, titles and categories."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from trainer.errors import InputError

_SPELLINGS = {
    "user_column": ("userid", "user", "uid", "customerid", "visitorid"),
    "item_column": (
        *("itemid", "item", "iid", "movieid", "productid", "contentid", "articleid", "bookid"),
        *("sku", "asin", "isbn"),
    ),
    "rating_column": ("rating", "ratings", "score", "stars"),
    "timestamp_column": ("timestamp", "ts", "eventtime", "eventtimestamp", "time", "date", "datetime"),
    "item_title_column": (
        *("title", "itemtitle", "producttitle", "movietitle", "booktitle", "name", "itemname", "productname"),
        *("prodname", "headline"),
    ),
    "item_category_column": (
        *("category", "itemcategory", "productcategory", "categoryname", "maincategory", "categories"),
        *("genre", "genres", "producttype", "producttypename", "department"),
    ),
}
_OPTIONAL = ("timestamp_column", "item_title_column", "item_category_column")
_CATALOGUE_IDS = (*_SPELLINGS["item_column"], "id")
_ROLES = ("user_column", "item_column", "rating_column", "timestamp_column")

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
    return dict(zip(_ROLES, schema, strict=False))


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
    option = "--" + field.replace("_", "-")
    listed = ", ".join(columns)
    if name:
        if name not in columns:
            raise InputError(
                field, name, f"is not among the columns {listed}", f"name one with {option} NAME"
            )
        return name
    column = _usual(field, columns, *_SPELLINGS[field])
    if column or field in _OPTIONAL:
        return column
    raise InputError(
        field, "", f"none of the columns {listed} has a usual name for it", f"map one with {option} NAME"
    )


def _usual(field: str, columns: Iterable[str], *spellings: str) -> str:
    """Return the column with the first of some spellings that one has; "" if none has any."""
    for spelling in spellings:
        matches = [column for column in columns if _plain(column) == spelling]
        if len(matches) > 1:
            remedy = f"choose one with --{field.replace('_', '-')} NAME"
            raise InputError(field, ", ".join(matches), "are ambiguous", remedy)
        if matches:
            return matches[0]
    return ""


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
