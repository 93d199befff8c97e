"""The relational work of preparation: ids that cannot be numbered or held."""

import numpy as np
import pyarrow as pa
import pytest

from components.engines.duckdb import DuckDB
from components.engines.sql import quoted
from components.prepare import relations
from components.prepare.relations import number
from trainer.errors import InputError


class FakeEngine:
    """An engine that reports a number of ids, and has none of them."""

    def __init__(self, ids, text=0):
        self._sizes = pa.Table.from_pylist([{"ids": ids, "text": text}])

    def table(self, name):
        return quoted("table", name)

    def create(self, name, sql, parameters=None):
        pass

    def fetch(self, sql, parameters=None):
        if "AS ids" in sql:
            return self._sizes
        raise LookupError("the ids themselves")


@pytest.mark.parametrize(
    ("ids", "text", "message"),
    [
        (2**31, 0, "user_id '2,147,483,648 users': are more than 2,147,483,647"),
        (10**12, 0, "1,000,000,000,000 users"),
        (10**8, 2**31, "2,147,483,648 bytes in total.*integers or shorter ids"),
    ],
)
def test_too_many_ids_are_refused_before_any_is_fetched(ids, text, message):
    with pytest.raises(InputError, match=message):
        number(FakeEngine(ids, text), "filtered", "user", is_text=bool(text), seed=1)


@pytest.mark.parametrize(("ids", "text"), [(2 * 10**9, 0), (10**8, 2**31 - 1)])
def test_two_billion_users_are_fetched(ids, text):
    with pytest.raises(LookupError):
        number(FakeEngine(ids, text), "filtered", "user", is_text=bool(text), seed=1)


@pytest.mark.parametrize(("limit", "is_refused"), [(10, False), (9, True)])
@pytest.mark.parametrize(
    ("bound", "ids"),
    [("_MAX_TEXT_BYTES", ["é", "😀", "ab", "ab", "xy"]), ("_MAX_IDS", [*range(10), 3])],
)
def test_ids_and_the_bytes_of_their_text_are_counted_once_each(monkeypatch, bound, ids, limit, is_refused):
    monkeypatch.setattr(relations, bound, limit)
    with DuckDB.open(ordered=False) as engine:
        engine.connection.from_arrow(pa.table({"user_id": ids})).create("filtered")
        is_text = isinstance(ids[0], str)
        if is_refused:
            with pytest.raises(InputError, match="more than 9"):
                number(engine, "filtered", "user", is_text=is_text, seed=1)
        else:
            users, _ = number(engine, "filtered", "user", is_text=is_text, seed=1)
            assert users.ids.to_pylist() == sorted(set(ids))


RANDOM = np.random.default_rng(5)
HEX = [f"{number:x}" for number in RANDOM.permutation(1 << 40 | np.arange(20_000))]


@pytest.mark.parametrize(
    "ids",
    [
        [f"auth0|{number}" if index % 4 else f"google-oauth2|{number}" for index, number in enumerate(HEX)],
        ["z" * 40 + number for number in HEX] + ["a", "é", "😀"],
        [*range(20_000), 2**62, -(2**62)],
        [*range(-20_000, 0, 2), *range(2**40, 2**40 + 10_000)],
        ["b", "a"],
    ],
    ids=["few prefixes", "outliers of text", "outliers of integers", "two clusters", "two ids"],
)
def test_ids_are_numbered_in_order_within_ranges_of_similar_size(monkeypatch, ids):
    monkeypatch.setattr(relations, "_SAMPLED", 10)
    monkeypatch.setattr(relations, "_SPACING", 50)
    with DuckDB.open(ordered=False) as engine:
        engine.connection.from_arrow(pa.table({"user_id": ids})).create("filtered")
        users, counts = number(engine, "filtered", "user", is_text=isinstance(ids[0], str), seed=1)
        sizes = engine.connection.execute(
            "SELECT count(*) FROM users JOIN ranges_users "
            "ON id >= lowest AND (id < beyond OR beyond IS NULL) GROUP BY id_range"
        ).fetchall()
    # Text is in the order of its bytes, which is that of Python's characters.
    assert users.ids.to_pylist() == sorted(ids)
    assert counts.tolist() == [1] * len(ids)
    assert sum(size for (size,) in sizes) == len(ids)
    assert max(size for (size,) in sizes) < 1_000
    assert len(sizes) > len(ids) / 1_000
