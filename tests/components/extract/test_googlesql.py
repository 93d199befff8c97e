"""Every statement of extraction in BigQuery's own SQL, over the real exports, yields the rows of DuckDB."""

import datetime
import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.components.steps import extract
from trainer.errors import InputError
from trainer.files import MANIFEST

UTC = datetime.UTC


def interactions(folder):
    """The rows of an interactions artifact, sorted."""
    table = pq.read_table(sorted(folder.glob("part-*.parquet")))
    return sorted(tuple(row.values()) for row in table.to_pylist())


@pytest.fixture
def both(reference, tmp_path):
    """Extract a table with both engines; return the rows of each."""

    def run(table, *, name="source", source=None, **arguments):
        pq.write_table(table, tmp_path / "source.parquet")
        loaded = source or reference.load(name, table)
        local = dict(arguments)
        query = local.pop("query", "")
        if query:
            local["query"] = query.replace("TABLE", "source")
            arguments["query"] = query.replace("TABLE", f"`{loaded.removeprefix('bq://')}`")
            loaded = f"bq://{reference.project}"
        local.pop("snapshot", None)
        extract(source=str(tmp_path / "source.parquet"), output=tmp_path / "local", **local)
        extract(source=loaded, output=tmp_path / "remote", **arguments)
        return [interactions(tmp_path / place) for place in ("local", "remote")]

    return run


def micros(text):
    return round(datetime.datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1e6)


@pytest.fixture(scope="module")
def ga4():
    from tests.components.googlesql.exports import GA4, export

    def event(user, item, time, name="page_view", engagement=None):
        value = {"int_value": item} if isinstance(item, int) else {"string_value": item}
        parameters = [{"key": "page", "value": value}, {"key": "ga_session_id", "value": {"int_value": 5}}]
        if engagement is not None:
            parameters.append({"key": "engagement_time_msec", "value": {"int_value": engagement}})
        return {
            "event_name": name,
            "event_timestamp": micros(time),
            "event_params": parameters,
            "user_pseudo_id": user,
            "user_id": f"login {user}",
            "geo": {"country": "DE"},
            "platform": "WEB",
        }

    return export(
        GA4,
        [
            event("ann", "a", "2026-01-30 23:59:59.5", engagement=1500),
            event("ann", "a", "2026-01-31 08:00", engagement=1),
            event("bob", "a", "2026-01-31 08:00:01.000001"),
            event("bob", 7, "2026-02-01", engagement=250),
            event("bob", None, "2026-02-01"),
            event("eve", "b", "2026-02-01", name="scroll"),
        ],
    )


@pytest.fixture(scope="module")
def ga360():
    from tests.components.googlesql.exports import GA360, export

    def session(user, visit, *hits):
        return {
            "fullVisitorId": user,
            "clientId": f"client {user}",
            "visitId": visit,
            "visitStartTime": visit,
            "channelGrouping": "Direct",
            "hits": [
                {
                    "hitNumber": number,
                    "time": time,
                    "type": kind,
                    "customDimensions": [{"index": 3, "value": item}] if item else [],
                }
                for number, (time, item, kind) in enumerate(hits, 1)
            ],
        }

    return export(
        GA360,
        [
            session("1", 1_769_846_400, (0, "a", "PAGE"), (4_500, "b", "PAGE"), (9_000, "a", "EVENT")),
            session("1", 1_769_900_000, (0, "b", "PAGE"), (250, None, "PAGE"), (999, "a", "PAGE")),
            session("2", 1_769_950_000, (0, "a", "PAGE"), (61_001, "c", "PAGE")),
        ],
    )


WINDOW = {"window_start": "2026-01-31", "window_end": "2026-02-01T00:00Z"}
GA4_OPTIONS = {"data_type": "ga4", "item_key": "page"}
GA360_OPTIONS = {"data_type": "web_views", "item_key": "3"}


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({}, 3),
        ({"event_rating": "engagement"}, 3),
        ({"event_name": "scroll", "user_column": "user_id"}, 1),
        (WINDOW, 2),
        ({"row_filter": "platform = 'WEB' AND NOT user_id LIKE '%bob'", "snapshot": "2026-02-02"}, 1),
    ],
)
def test_ga4(both, ga4, options, rows):
    local, remote = both(ga4, **GA4_OPTIONS, **options)
    assert local == remote
    assert len(local) == rows


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({}, 3),
        ({"user_column": "clientId"}, 3),
        ({"window_start": "2026-02-01"}, 1),
        ({"row_filter": "channelGrouping IN ('Direct') AND visitId > 1769900000"}, 1),
    ],
)
def test_web_views(both, ga360, options, rows):
    local, remote = both(ga360, **GA360_OPTIONS, **options)
    assert local == remote
    assert len(local) == rows


@pytest.mark.parametrize(
    ("export", "wildcard", "options"),
    [
        ("ga4", "*", WINDOW),
        ("ga360", "2026*", WINDOW),
        ("ga360", "*", {}),
        pytest.param("ga4", "*", {}, marks=pytest.mark.slow),
        pytest.param("ga4", "2026*", {}, marks=pytest.mark.slow),
        pytest.param("ga4", "2026*", WINDOW, marks=pytest.mark.slow),
        pytest.param("ga360", "*", WINDOW, marks=pytest.mark.slow),
        pytest.param("ga360", "2026*", {}, marks=pytest.mark.slow),
    ],
)
def test_wildcards(reference, tmp_path, request, export, wildcard, options):
    table = request.getfixturevalue(export)
    name, of_export = {"ga4": ("events", GA4_OPTIONS), "ga360": ("ga_sessions", GA360_OPTIONS)}[export]
    for suffix in ("20260131", "20260201", "intraday_20260201"):
        reference.load(f"{name}_{suffix}", table.slice(0, 0 if suffix == "20260201" else None))
    arguments = {**of_export, **options}
    extract(source=f"bq://{reference.dataset}.{name}_{wildcard}", output=tmp_path / "all", **arguments)
    extract(source=f"bq://{reference.dataset}.{name}_20260131", output=tmp_path / "day", **arguments)
    assert interactions(tmp_path / "all") == interactions(tmp_path / "day")


MOMENTS = [datetime.datetime(2026, 1, day, 23, 59, 59, 999_999, UTC) for day in (29, 30, 31)]


def ratings(**columns):
    table = {"user_id": ["a", "b", "c"], "item_id": [1, 2, 3], "rating": [1.0, 2.5, -3.0], "time": MOMENTS}
    return pa.table({**table, **columns})


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"user_id": [7, -8, 9], "item_id": ["x", "y\u00e9", "z"]},
        {"rating": [1, 2, -3]},
        {"rating": pa.array([Decimal("1.25"), Decimal(2), Decimal(-3)], pa.decimal128(38, 9))},
        {"rating": ["1", " 2.5", "-3e1"]},
        {"time": pa.array([time.date() for time in MOMENTS])},
        {"time": pa.array([time.replace(tzinfo=None) for time in MOMENTS], pa.timestamp("us"))},
        {"time": [int(time.timestamp()) for time in MOMENTS]},
        {"time": ["2026-01-29", "2026-01-30 12:00", "2026-01-31T08:00:00.5Z"]},
    ],
)
def test_ratings(both, columns):
    """A project's default time zone, which is not UTC here, changes nothing."""
    options = {"row_filter": "item_id IS NOT NULL", "window_start": "2026-01-29", "snapshot": "2026-02-01"}
    local, remote = both(ratings(**columns), **options)
    assert local == remote
    assert sorted(time.day for *_, time in local) == [29, 30, 31]


def test_staged_ratings(reference, tmp_path):
    arguments = {"source": reference.load("source", ratings(rating=["1", "2.5", "-3"])), **WINDOW}
    extract(output=tmp_path / "out", staging_dataset=reference.dataset, **arguments)
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert (manifest["rows"], manifest["rows_without_time"]) == (1, 0)


def test_user_ratings(reference, tmp_path):
    reference.load(f"{reference.project}.staging.recommendation_training", ratings())
    extract(source=f"bq://{reference.project}", data_type="user_ratings", output=tmp_path / "out")
    assert len(interactions(tmp_path / "out")) == 3


@pytest.mark.parametrize("values", [[True, False, True], [datetime.date(2026, 1, 31)] * 3])
def test_ratings_that_are_not_numbers(reference, tmp_path, values):
    table = ratings(rating=values)
    pq.write_table(table, tmp_path / "source.parquet")
    for source in (str(tmp_path / "source.parquet"), reference.load("source", table)):
        with pytest.raises(InputError, match=r"rating_column 'rating': holds (bool|date)"):
            extract(source=source, output=tmp_path / "out")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM TABLE",
        "SELECT user_id, item_id, CAST(rating * 1.001 AS NUMERIC(10, 2)) AS rating FROM TABLE",
        "SELECT * FROM TABLE WHERE user_id LIKE r'\\_' OR item_id = 1 -- the first;",
        "# Mine\nSELECT *, 'é);' AS note FROM TABLE ; -- done",
        "WITH few AS (SELECT * FROM TABLE LIMIT 2) SELECT * FROM few;;",
        "(SELECT * FROM TABLE) UNION ALL (SELECT * FROM TABLE)",
        "FROM TABLE |> WHERE rating > 0 |> SELECT user_id, item_id, rating",
    ],
)
def test_the_users_own_query(both, reference, query):
    local, remote = both(ratings(), data_type="query", query=query)
    assert local == remote
    table = f"`{reference.dataset}.source`"
    text = query.replace("TABLE", table).partition(" ;")[0].rstrip(";")
    sent = [sent.sql for sent in reference.queries if table in sent.sql]
    assert len(sent) > 2
    assert all(text in sql for sql in sent)


def test_a_query_that_only_bigquery_can_parse(reference, tmp_path):
    table = reference.load("source", ratings()).removeprefix("bq://")
    query = f"FROM `{table}` |> EXTEND rating * 2 AS double |> SET rating = double |> DROP double"
    arguments = {"data_type": "query", "query": query, "output": tmp_path / "out"}
    extract(source=f"bq://{reference.project}", **arguments)
    assert [row[2] for row in interactions(tmp_path / "out")] == [2, 5, -6]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT 1 AS x; DROP TABLE t", "is not one SQL query"),
        ("DROP TABLE t", "is not a SELECT"),
        ("SELECT @snapshot AS user_id", "has parameters"),
        ("SELECT ? AS user_id", "has parameters"),
        ("SELECT 1 AS user_id) WHERE FALSE; DROP TABLE t; SELECT * FROM (SELECT 1", "query"),
        ("SELECT 1 AS user_id) UNION ALL (SELECT 2", "query"),
        # sqlglot takes these for one comment, or for nothing it knows; BigQuery has the last word.
        ("SELECT 1 AS user_id /* /* */ ); DROP TABLE t -- */", "BigQuery 'query': .*Syntax error"),
        ("FROM t |> SELECT 1 AS a |> WHERE; DROP TABLE t", "BigQuery 'query': .*Syntax error"),
    ],
)
def test_what_is_not_a_query(reference, tmp_path, query, message):
    with pytest.raises(InputError, match=message):
        extract(source=f"bq://{reference.project}", data_type="query", query=query, output=tmp_path / "out")
    assert not [sent for sent in reference.queries if not sent.dry]


def test_a_script_is_refused_by_its_kind(reference):
    from components.engines.bigquery import BigQuery

    engine = BigQuery(project=reference.project, location="", dataset="", prefix="", maximum_bytes_billed=0)
    for text, kind in (("SELECT 1 AS a; DROP TABLE t", "SCRIPT"), ("DROP TABLE t", "DROP")):
        with pytest.raises(InputError, match=rf"is not a SELECT \({kind}"):
            engine.describe_query(text)
