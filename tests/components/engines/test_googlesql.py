"""The same SQL in DuckDB, translated, and in BigQuery's own reference implementation."""

import contextlib
import datetime

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from components.engines.duckdb import DuckDB
from components.engines.sql import checked_filter, quoted, used_parameters
from components.extract.options import ExtractOptions
from components.extract.query import Request
from trainer.errors import InputError

seeded = settings(
    max_examples=5,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def both(googlesql):
    """Run SQL over a table ``source``; return the rows of DuckDB and of GoogleSQL, each None if it failed."""
    from tests.components.googlesql.reference import Source
    from tests.components.googlesql.values import scalar
    from tests.components.googlesql.wasm import SqlError

    types = {str: "STRING", int: "INT64", float: "FLOAT64"}

    def run(sql, table, parameters=None):
        used = used_parameters(sql, parameters)
        typed = {name: (scalar(types[type(value)]), value) for name, value in used.items()}
        local = remote = None
        with DuckDB.open(ordered=True) as database:
            database.connection.from_arrow(table).create_view("source")
            with contextlib.suppress(duckdb.Error):
                local = database.fetch(sql, parameters)
        with contextlib.suppress(SqlError):
            remote = googlesql.execute(sql, {"source": Source(table)}, typed, "UTC")
        return tuple(rows and comparable(rows) for rows in (local, remote))

    return run


def comparable(table):
    """Rows in order; times without a zone, which DuckDB returns for some, are UTC."""

    def value(cell):
        return cell.replace(tzinfo=datetime.UTC) if isinstance(cell, datetime.datetime) else repr(cell)

    return [tuple(map(value, row.values())) for row in table.to_pylist()]


def of(name, values, kind):
    """A table of ratings with the ``values`` in a column."""
    rows = len(values)
    columns = {"user": range(rows), "item": [1] * rows, "rating": [1.0] * rows}
    return pa.table({**columns, name: pa.array(values, kind)})


def ratings_of(table):
    """The query and its parameters for a table of ratings in BigQuery."""
    kinds = {pa.int64(): "INTEGER", pa.float64(): "FLOAT", pa.string(): "STRING"}
    schema = {field.name: kinds[field.type] for field in table.schema}
    request = Request(ExtractOptions(source="bq://project.dataset.source"))
    query = request.ratings(request.columns(schema), schema, quoted("source", "source"))
    return query.sql, table, query.parameters


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-31", "2026-01-31T00:00"),
        ("2026-01-31T08:00Z", "2026-01-31T08:00"),
        ("2026-01-31 08:00", "2026-01-31T08:00"),
        ("2026-01-31 8:00+05:30", "2026-01-31T02:30"),
        ("2026-01-31T08:00:09.5-0530", "2026-01-31T13:30:09.5"),
        ("2026-01-31 08:00:09.123456789+00", "2026-01-31T08:00:09.123456"),
        ("2026-01-31 08:00:09 UTC", "2026-01-31T08:00:09"),
        *((text, None) for text in ("infinity", "epoch", "2026-01-31 24:00:00", "2026-01-31 (BC)", "")),
        *((text, None) for text in (" 2026-01-31", "2026/01/31", "31.1.2026", "2026-01-31 08:00:00+15:00")),
        *((text, None) for text in ("0000-01-01", "0001-01-01T00:00+01:00", "9999-12-31T23:59:59-05:00")),
    ],
)
def test_a_time_as_text(both, text, time):
    local, remote = both(*ratings_of(of("time", [text], pa.string())))
    expected = time and datetime.datetime.fromisoformat(time).replace(tzinfo=datetime.UTC)
    assert [row[3] for row in local] == [expected if time else "None"]
    assert remote == local


_TIMES = st.one_of(
    st.text("0123456789-+:. TZtz/", max_size=30),
    st.tuples(
        st.sampled_from(["2026", "2020", "0001", "0000", "9999", "10000", "26", "-2026"]),
        st.sampled_from(["-", "/", ""]),
        st.sampled_from(["01", "1", "12", "13", "02", "0"]),
        st.sampled_from(["-", "/"]),
        st.sampled_from(["31", "1", "30", "29", "01", "00"]),
        st.sampled_from(["", " ", "T", "t", "  ", "\n"]),
        st.sampled_from(["", "08", "8:00", "08:00", "08:00:00", "23:59:60", "24:00:00", "8:0:0", "23:59:59"]),
        st.sampled_from(["", ".", ".5", ".123456", ".1234567", ",5"]),
        st.sampled_from(
            ["", "Z", "z", " UTC", "+00", "-0530", "+5", "+14:00", "+14:01", "+05:60", " +01:00"]
        ),
    ).map("".join),
)


@given(st.lists(_TIMES, min_size=100, max_size=200))
@seeded
def test_times_as_text(both, texts):
    local, remote = both(*ratings_of(of("time", texts, pa.string())))
    assert local == remote
    assert local


@given(
    st.lists(
        st.one_of(
            st.integers(-(2**63), 2**63 - 1),
            *(st.integers(-63_000 * size, 63_000 * size) for size in (10**6, 10**9, 10**12)),
        ),
        min_size=100,
        max_size=200,
    )
)
@example([-62_135_596_801, -62_135_596_800, -(10**14) + 1, -(10**17) + 1, -(2**63)])
@seeded
def test_times_as_numbers(both, numbers):
    local, remote = both(*ratings_of(of("time", numbers, pa.int64())))
    assert local == remote
    assert local


_RATINGS = st.one_of(
    st.text("0123456789-+._eExXinfaINFA \t\n", max_size=12),
    st.from_regex(r"\A[ ]?[+-]?[0-9]{0,3}[_.]?[0-9]{0,3}([eE][+-]?[0-9]{1,3})?[ ]?\Z"),
    st.one_of(st.floats(), st.integers()).map(str),
    st.floats().map(float.hex),
)


@given(st.lists(_RATINGS, min_size=100, max_size=200))
@example(["1_000", "0x10", "1", " 2.5\n", "1e400", "nan"])
@seeded
def test_ratings_as_text(both, texts):
    table = of("text", texts, pa.string()).drop(["rating"]).rename_columns(["user", "item", "rating"])
    local, remote = both(*ratings_of(table))
    assert local == remote
    assert local


ROWS = pa.table(
    {
        "n": pa.array([0, 1, -1, 7, None, 40]),
        "rating": [0.0, 1.5, -2.0, None, 4.0, 1e30],
        "text": ["a%b", "a\\b", None, "", "ÀB_c é", "aXb"],
        "other": ["a%b", "A_B", "x", "", None, "é"],
    }
)


def kept(both, condition):
    """The rows of both engines that meet a condition."""
    checked = checked_filter("row_filter", condition, ROWS.column_names)
    return both(f"SELECT n, text FROM `source` WHERE {checked.sql} ORDER BY n", ROWS, checked.parameters)


@pytest.mark.parametrize(
    ("condition", "texts"),
    [
        (r"text LIKE 'a\\%b'", ["a%b"]),
        (r"text LIKE '%\\\\%'", [r"a\b"]),
        (r"NOT text LIKE '%\\%%' AND text NOT LIKE '%\\_%'", [r"a\b", "", "aXb"]),
        (r"LOWER(text) LIKE '\\a_B' OR n = 1", [r"a\b"]),
        ("1 / n > 0.5", [r"a\b"]),
        ("(1 / n) IS NULL AND n IS NOT NULL", ["a%b"]),
    ],
)
def test_a_filter(both, condition, texts):
    local, remote = kept(both, condition)
    assert [text for _, text in local] == [repr(text) for text in texts]
    assert remote == local


def test_a_pattern_that_ends_with_an_escape_is_refused_before_either_engine():
    with pytest.raises(InputError, match="ends with a backslash"):
        checked_filter("row_filter", r"text LIKE 'a\\'", ROWS.column_names)
    assert checked_filter("row_filter", r"text LIKE 'a\\\\'", ROWS.column_names)


def _operations(operators, operands):
    return st.builds("({} {} {})".format, operands, st.sampled_from(operators), operands)


_NUMBERS = st.recursive(
    st.sampled_from(["n", "rating", "0", "1", "-3", "2.5", "0.0", "1e3", "2000000"]),
    lambda numbers: st.one_of(_operations("+-*/", numbers), numbers.map("-({})".format)),
    max_leaves=4,
)
_LITERALS = st.text("ab%_AÀé'x", max_size=5).map(lambda text: "'" + text.replace("'", r"\'") + "'")
_TEXTS = st.recursive(
    st.one_of(st.sampled_from(["text", "other"]), _LITERALS, st.just(r"'a\\%\\\\'")),
    lambda texts: st.builds("{}({})".format, st.sampled_from(["LOWER", "UPPER"]), texts),
    max_leaves=2,
)
_COMPARISONS = ["=", "!=", "<", "<=", ">", ">="]
_CONDITIONS = st.recursive(
    st.one_of(
        _operations(_COMPARISONS, _NUMBERS),
        _operations([*_COMPARISONS, "LIKE", "NOT LIKE"], _TEXTS),
        st.builds("{} IS NULL".format, st.one_of(_NUMBERS, _TEXTS)),
        st.builds("{} NOT BETWEEN {} AND {}".format, _NUMBERS, _NUMBERS, _NUMBERS),
        st.builds("{} IN ({}, {}, NULL)".format, _NUMBERS, _NUMBERS, _NUMBERS),
        st.builds("{} NOT IN ({}, {})".format, _TEXTS, _TEXTS, _TEXTS),
    ),
    lambda conditions: st.one_of(
        _operations(["AND", "OR"], conditions),
        st.builds("NOT ({})".format, conditions),
        st.builds("({}) IS {}".format, conditions, st.sampled_from(["TRUE", "NOT TRUE", "NULL"])),
    ),
    max_leaves=3,
)


@given(_CONDITIONS)
@settings(seeded, max_examples=40)
def test_filters(both, condition):
    local, remote = kept(both, condition)
    assert local == remote
    assert local is not None
