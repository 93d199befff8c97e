"""Checked SQL: a user's input cannot become SQL."""

import pytest

from components.engines.sql import checked_filter, checked_query, quoted, render, to_duckdb
from trainer.errors import InputError

COLUMNS = ("rating", "country", "user")


@pytest.mark.parametrize("name", ["", "a`; DROP TABLE b; --", "a\\", "a\nb", "x" * 301])
def test_names_that_cannot_be_quoted_are_refused(name):
    with pytest.raises(InputError, match="user_column"):
        quoted("user_column", name)


@pytest.mark.parametrize("name", ["user", 'who\'s "that"?', "a; DROP TABLE b", "ключ"])
def test_other_names_stay_names(name):
    sql = f"SELECT {quoted('user_column', name)} FROM t"
    assert to_duckdb(sql) == 'SELECT "{}" FROM t'.format(name.replace('"', '""'))


@pytest.mark.parametrize(
    "condition",
    [
        "rating > 3",
        "country IN ('DE', 'FR') AND NOT rating IS NULL",
        "LOWER(country) LIKE 'd%' OR rating BETWEEN 1 AND 2 + 3",
    ],
)
def test_conditions_pass(condition):
    assert checked_filter("row_filter", condition, COLUMNS).sql.startswith("(")


def test_values_leave_the_condition():
    text = r"user > -3 AND country IN ('D\'E', 'FR') OR rating < 4.5"
    condition = checked_filter("row_filter", text, COLUMNS)
    ids = "`user` > -@row_filter_0 AND `country` IN (@row_filter_1, @row_filter_2)"
    assert condition.sql == f"({ids} OR `rating` < @row_filter_3)"
    assert list(condition.parameters.values()) == [3, "D'E", "FR", 4.5]
    assert [type(value) for value in condition.parameters.values()] == [int, str, str, float]
    assert condition.columns == {"user", "country", "rating"}
    assert checked_filter("row_filter", "1", ()).sql == "(@row_filter_0)"


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "rating >",
        "1 = 1; DROP TABLE ratings",
        "1 = 1) OR (1 = 1",
        "rating IN (SELECT 1)",
        "EXISTS (SELECT 1)",
        "rating = 1 UNION ALL SELECT 2",
        "country = read_text('/etc/passwd')",
        "other.rating = 1",
        "password = 'x'",
        "rating = @seed",
        "rating = (SELECT MAX(rating) FROM ratings)",
    ],
)
def test_anything_else_is_refused_as_a_condition(condition):
    with pytest.raises(InputError, match="row_filter"):
        checked_filter("row_filter", condition, COLUMNS)


def test_comments_do_not_survive():
    assert "x" not in checked_filter("row_filter", "rating = 1 -- x", COLUMNS).sql


@pytest.mark.parametrize("translated", [False, True])
@pytest.mark.parametrize(
    "query", ["", "DROP TABLE a", "SELECT 1; DELETE FROM a WHERE TRUE", "UPDATE a SET b = 1 WHERE TRUE"]
)
def test_a_query_is_one_select(query, translated):
    with pytest.raises(InputError, match="query"):
        checked_query("query", query, translated=translated)


def test_a_template_prints_checked_text_only(tmp_path):
    (tmp_path / "a.sql").write_text("SELECT {{ column }}")
    with pytest.raises(TypeError):
        render(tmp_path, "a.sql", column="1; DROP TABLE b")
    assert render(tmp_path, "a.sql", column=quoted("column", "b")) == "SELECT `b`"
