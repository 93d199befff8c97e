"""SQL files as templates that accept only checked text.

The files are BigQuery SQL with Jinja placeholders for names and ``@name`` query parameters for values. A
placeholder prints only `Checked` text, so that a user's text cannot become SQL by accident.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import jinja2
import sqlglot
from sqlglot import Token, TokenType, exp

from trainer.errors import InputError, translated

_FORBIDDEN = "`\\"
_MAX_NAME_LENGTH = 300

_FILTER_NODES = (
    exp.Column,
    exp.Identifier,
    exp.Literal,
    exp.Boolean,
    exp.Null,
    exp.Paren,
    exp.Tuple,
    exp.And,
    exp.Or,
    exp.Not,
    exp.Neg,
    exp.EQ,
    exp.NEQ,
    exp.GT,
    exp.GTE,
    exp.LT,
    exp.LTE,
    exp.Is,
    exp.In,
    exp.Between,
    exp.Like,
    exp.Add,
    exp.Sub,
    exp.Mul,
    exp.Div,
    exp.Lower,
    exp.Upper,
)


class Checked(str):
    """SQL that has been checked and quoted; the only type that a template prints."""

    __slots__ = ()


def quoted(field: str, name: str) -> Checked:
    """Quote an identifier for BigQuery.

    Args:
        field: the parameter that the name came from, for the error.
        name: name of a column, or of a table with its parts separated by dots.

    Raises:
        InputError: the name is empty or too long, or contains a backtick, a backslash or a control character.
    """
    if not name or len(name) > _MAX_NAME_LENGTH:
        raise InputError(field, name, f"is not 1 to {_MAX_NAME_LENGTH} characters long", "give a valid name")
    if any(character in _FORBIDDEN or not character.isprintable() for character in name):
        raise InputError(
            field,
            name,
            "contains a backtick, a backslash or a control character",
            "rename it, or select it under another name",
        )
    return Checked(f"`{name}`")


@dataclass(frozen=True)
class Condition:
    """A condition on the rows of a source, with its literals replaced by parameters.

    Attributes:
        sql: BigQuery SQL with an ``@name`` parameter for each literal.
        columns: names of the columns in it.
        parameters: value of each literal, by the parameter's name.
    """

    sql: Checked
    columns: frozenset[str]
    parameters: Mapping[str, str | int | float]


def checked_filter(field: str, condition: str, columns: Collection[str]) -> Condition:
    """Check a condition on the rows of a source.

    Comparisons, ``AND``, ``OR``, ``NOT``, ``IN``, ``BETWEEN``, ``LIKE``, ``IS NULL``, arithmetic, ``LOWER``
    and ``UPPER`` over columns and literals are allowed; queries and other functions are not. A division by
    zero is NULL, as `SAFE_DIVIDE` has it: BigQuery would refuse the whole query, and DuckDB would not.

    Args:
        field: the parameter that the condition came from, for the error.
        condition: a BigQuery SQL expression.
        columns: names of the columns that may be used.

    Raises:
        InputError: it is not such a condition.
    """
    with _syntax_errors(field, condition, "is not one SQL condition"):
        tree = sqlglot.parse_one(condition, read="bigquery")
    for node in tree.walk():
        if not isinstance(node, _FILTER_NODES):
            kind = type(node).__name__.lower()
            raise InputError(field, condition, f"may not contain a {kind}", "compare columns with values")
        if isinstance(node, exp.Column) and (node.name not in columns or node.table):
            raise InputError(
                field,
                condition,
                f"{node.sql()} is not one of the columns {', '.join(columns)}",
                "use one of them",
            )
        if isinstance(node, exp.Like) and _ends_with_escape(node.expression):
            raise InputError(
                field,
                condition,
                "has a LIKE pattern that ends with a backslash",
                "double the backslash",
            )
    named = frozenset(node.name for node in tree.find_all(exp.Column))
    literals = {
        f"{field}_{number}": node for number, node in enumerate(tree.find_all(exp.Literal, bfs=False))
    }
    # Wrapped, because the condition may itself be a literal, which is then replaced.
    wrapper = exp.Paren(this=tree)
    for division in list(wrapper.find_all(exp.Div)):
        division.set("expression", exp.Nullif(this=division.expression, expression=exp.Literal.number(0)))
    for name, literal in literals.items():
        literal.replace(exp.Parameter(this=exp.Var(this=name)))
    return Condition(
        Checked(wrapper.sql("bigquery", identify=True, comments=False)),
        named,
        {name: _value(literal) for name, literal in literals.items()},
    )


def _ends_with_escape(pattern: exp.Expression) -> bool:
    """Return whether a pattern ends with a backslash that escapes nothing."""
    return isinstance(pattern, exp.Literal) and bool(re.search(r"(?<!\\)(\\\\)*\\\Z", pattern.name))


def _value(literal: exp.Literal) -> str | int | float:
    if literal.is_string:
        return literal.name
    return int(literal.name) if literal.is_int else float(literal.name)


def unique_columns(field: str, value: str, columns: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the types of columns by name, after checking that no two names are equal, ignoring case.

    Args:
        field: the parameter that the columns come from, for the error.
        value: value of that parameter.
        columns: name and type of each column.

    Raises:
        InputError: two columns have the same name; only the user knows which one is meant.
    """
    columns = list(columns)
    occurrences = Counter(name.lower() for name, _ in columns)
    for name, _ in columns:
        if occurrences[name.lower()] > 1:
            raise InputError(field, value, f"has several columns {name!r}", "rename or drop one")
    return dict(columns)


def checked_query(field: str, query: str, *, translated: bool) -> Checked:
    """Return the text of a query as it is, except for semicolons at its end.

    Args:
        field: the parameter that the query came from, for the error.
        query: the text.
        translated: whether it will be translated, so that sqlglot must be able to parse it. Otherwise it may
            be in syntax that only BigQuery knows, and `BigQuery.describe_query` has the last word.

    Raises:
        InputError: it is not a single SELECT, or has parameters.
    """
    with _syntax_errors(field, query, "is not one SQL query"):
        tokens = sqlglot.tokenize(query, read="bigquery")
    end = len(query)
    while tokens and tokens[-1].token_type is TokenType.SEMICOLON:
        end = tokens.pop().start
    if _parameters_in(tokens):
        raise InputError(field, query, "has parameters", "write their values into it")
    text = query[:end]
    with _syntax_errors(field, query, "is not one SQL query"):
        try:
            statements = [tree for tree in sqlglot.parse(text, read="bigquery") if tree]
        except sqlglot.errors.ParseError:
            if translated:
                raise
            return Checked(text)
    if len(statements) != 1:
        raise InputError(field, query, "is not one SQL query", "fix it")
    if not isinstance(statements[0], exp.Query):
        raise InputError(field, query, "is not a SELECT", "give a query that yields the interactions")
    return Checked(text)


def subquery(query: Checked) -> Checked:
    """Return a query in parentheses, to select from."""
    # A comment in its last line ends with the line.
    return Checked(f"(\n{query}\n)")


def _syntax_errors(field: str, text: str, problem: str) -> contextlib.AbstractContextManager[None]:
    """Return a context that turns sqlglot's errors into one line about a text."""
    return translated((sqlglot.errors.SqlglotError, lambda _: InputError(field, text, problem, "fix it")))


def _only_checked(value: object) -> object:
    if not isinstance(value, Checked):
        raise TypeError(f"a template can print only checked SQL, not {value!r}")
    return value


def render(folder: Path, template: str, **context: Any) -> str:
    """Return the BigQuery SQL of the file ``template`` in ``folder``.

    Args:
        folder: folder of the SQL files, which may include each other.
        template: file name.
        context: `Checked` text to print, and values of any type for conditions.
    """
    environment = jinja2.Environment(  # noqa: S701 - escaping is for HTML; `finalize` guards SQL
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        finalize=_only_checked,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**context)


def to_duckdb(sql: str) -> str:
    """Translate BigQuery SQL to DuckDB's; ``@name`` becomes ``$name``."""
    tree = sqlglot.parse_one(sql, read="bigquery")
    for like in list(tree.find_all(exp.Like)):
        _escape(like)
    return tree.transform(_for_duckdb).sql("duckdb")


def _escape(like: exp.Like) -> None:
    """Let a backslash escape in the pattern, as in BigQuery; in DuckDB nothing does unless told."""
    escaped = exp.Escape(expression=exp.Literal.string("\\"))
    like.replace(escaped)
    escaped.set("this", like)


def _for_duckdb(node: exp.Expression) -> exp.Expression:
    # sqlglot would translate it to octet_length, which in DuckDB takes bytes but not text.
    if isinstance(node, exp.ByteLength):
        return exp.Anonymous(this="strlen", expressions=[node.this])
    # DuckDB takes isnan(x) for false if the statistics of a Parquet file, which leave NaN out, are finite.
    if isinstance(node, exp.IsNan):
        finite, infinite = (
            exp.Anonymous(this=name, expressions=[node.this.copy()]) for name in ("isfinite", "isinf")
        )
        return exp.paren(exp.not_(exp.or_(finite, infinite)))
    return node


def used_parameters(sql: str, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the ``parameters`` that the BigQuery SQL refers to."""
    names = _parameters_in(sqlglot.tokenize(sql, read="bigquery"))
    return {name: value for name, value in (parameters or {}).items() if name in names}


def _parameters_in(tokens: Sequence[Token]) -> set[str]:
    """Return the names of the parameters among tokens; "?" for one without a name."""
    kinds = [None, *(token.token_type for token in tokens)]
    names = {"?"} if TokenType.PLACEHOLDER in kinds else set()
    for before, (sign, name) in zip(kinds, pairwise(tokens), strict=False):
        # Two signs begin a system variable.
        if sign.token_type is TokenType.PARAMETER and TokenType.PARAMETER not in (before, name.token_type):
            names.add(name.text)
    return names
