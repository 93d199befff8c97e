"""The same SQL over the same rows in DuckDB and in BigQuery, an emulator behind the real clients."""

import datetime
import json
import os
import subprocess
import sys

import grpc
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.arrow import ArrowFile
from google.api_core import exceptions
from google.cloud import bigquery

from components.engines.sql import quoted
from components.extract import bigquery as extract_bigquery
from components.extract.options import ExtractOptions
from components.extract.query import Request
from tests.components.read_relay import ROWS_PER_MESSAGE
from tests.components.steps import extract
from tests.pipeline.serving import serving
from trainer.errors import InputError, WalsError
from trainer.files import MANIFEST

UTC = datetime.UTC
# Of tests of what SQL means, which those in GoogleSQL itself show in less time, and of variants of others.
slow = pytest.mark.slow


def interactions(folder):
    """The rows of an interactions artifact, sorted."""
    table = pq.read_table(sorted(folder.glob("part-*.parquet")))
    return sorted(tuple(row.values()) for row in table.to_pylist())


@pytest.fixture
def both(warehouse, tmp_path):
    """Extract a table with both engines; return the rows of each."""

    def run(table, *, name="source", source=None, **arguments):
        pq.write_table(table, tmp_path / "source.parquet")
        extract(source=str(tmp_path / "source.parquet"), output=tmp_path / "local", **arguments)
        loaded = warehouse.load(name, table)
        extract(source=source or loaded, output=tmp_path / "remote", **arguments)
        return interactions(tmp_path / "local"), interactions(tmp_path / "remote")

    return run


def ratings(rows=3_000):
    rng = np.random.default_rng(0)
    seconds = rng.integers(1_500_000_000, 1_600_000_000, rows)
    return pa.table(
        {
            "userId": rng.integers(-50, 50, rows),
            "itemId": [f"item {number}" for number in rng.integers(0, 30, rows)],
            "rating": rng.integers(1, 6, rows).astype(float),
            "timestamp": pa.array(seconds, pa.int64()),
            "country": rng.choice(["DE", "FR", "US"], rows).tolist(),
        }
    )


def test_ratings(both):
    local, remote = both(
        ratings(),
        row_filter="country IN ('DE', 'FR') AND rating > 1",
        window_start="2018-01-01",
        window_end="2019-06-30T12:00Z",
    )
    assert local == remote
    expected = ratings().to_pandas()
    start, end = (pd.Timestamp(text).timestamp() for text in ("2018-01-01T00:00Z", "2019-06-30T12:00Z"))
    expected = expected[
        (expected["country"] != "US")
        & (expected["rating"] > 1)
        & expected["timestamp"].between(start, end - 1)
    ]
    assert len(local) == len(expected) > 100


@slow
def test_units_of_time(both):
    moment = datetime.datetime(2020, 2, 29, 12, 30, 15, tzinfo=UTC)
    seconds = int(moment.timestamp())
    times = [seconds * 1000**power for power in range(4)]
    table = pa.table(
        {
            "user": range(6),
            "item": range(6),
            "rating": [1.0] * 6,
            "time": [*times, -1_000_000_000_000_000_001, -(2**63)],
        }
    )
    local, remote = both(table)
    assert local == remote
    assert {row[3] for row in local[:4]} == {moment}
    assert [row[3].year for row in local[4:]] == [1938, 1677]


def test_two_columns_of_one_name_in_a_query(warehouse, tmp_path):
    table = warehouse.load("source", ratings(10)).removeprefix("bq://")
    query = f"SELECT userId, itemId, rating, rating + 1 AS Rating FROM `{table}`"
    with pytest.raises(InputError, match="rating"):
        extract(source=f"bq://{warehouse.project}", data_type="query", query=query, output=tmp_path / "out")


@slow
def test_user_ratings_have_a_default_table(warehouse, tmp_path):
    warehouse.client.create_dataset("staging", exists_ok=True)
    table = f"{warehouse.project}.staging.recommendation_training"
    warehouse.load(table, ratings(20), write_disposition="WRITE_TRUNCATE")
    extract(source=f"bq://{warehouse.project}", data_type="user_ratings", output=tmp_path / "out")
    assert len(interactions(tmp_path / "out")) == 20


def hits(*times, dimension=7):
    """The hits of a session; the dimension of the item is repeated, with another value."""
    return [
        {
            "hitNumber": number,
            "time": time,
            "type": kind,
            "customDimensions": [
                {"index": index, "value": value}
                for index, value in ((1, "x"), (dimension, item), (dimension, "z"))
            ]
            if item
            else [],
        }
        for number, (time, item, kind) in enumerate(times, 1)
    ]


@slow
def test_web_views(both):
    hit = pa.struct(
        {
            "hitNumber": pa.int64(),
            "time": pa.int64(),
            "type": pa.string(),
            "customDimensions": pa.list_(pa.struct({"index": pa.int64(), "value": pa.string()})),
        }
    )
    table = pa.table(
        {
            "fullVisitorId": ["ann", "ann", "bob", None],
            "visitId": [1, 2, 1, 1],
            "visitStartTime": [1_600_000_000, 1_600_100_000, 1_600_000_000, 1_600_000_000],
            "hits": pa.array(
                [
                    hits(
                        (0, "a", "PAGE"),
                        (4_000, "b", "PAGE"),
                        (5_000, "b", "EVENT"),
                        (9_000, "a", "PAGE"),
                        (9_500, "c", "PAGE"),
                    ),
                    hits((0, "a", "PAGE"), (2_500, None, "PAGE"), (3_000, "a", "PAGE")),
                    hits((0, "a", "PAGE")),
                    hits((0, "a", "PAGE"), (2_000, "b", "PAGE"), (3_000, "", "PAGE"), (4_000, "a", "PAGE")),
                ],
                pa.list_(hit),
            ),
        }
    )
    local, remote = both(table, data_type="web_views", item_key="7")
    assert local == remote
    assert [row[:3] for row in local] == [("ann", "a", 7.0), ("ann", "b", 5.0)]
    assert local[0][3] == datetime.datetime.fromtimestamp(1_600_100_000, UTC)


PARAMETER = pa.struct(
    {"key": pa.string(), "value": pa.struct({"string_value": pa.string(), "int_value": pa.int64()})}
)


def events(*rows):
    """A table of the export: for each event its name, its time in seconds, the item and the engagement."""
    parameters = []
    for _, _, item, engagement in rows:
        parameters.append([{"key": "item", "value": item}])
        if engagement:
            parameters[-1].append({"key": "engagement_time_msec", "value": {"int_value": engagement}})
    return pa.table(
        {
            "event_name": [name for name, *_ in rows],
            "event_timestamp": [time * 1_000_000 for _, time, *_ in rows],
            "user_pseudo_id": ["ann"] * len(rows),
            "event_params": pa.array(parameters, pa.list_(PARAMETER)),
        }
    )


@slow
@pytest.mark.parametrize(("event_rating", "ratings"), [("count", [1.0, 2.0]), ("engagement", [0.0, 4.5])])
def test_ga4(both, event_rating, ratings):
    table = events(
        ("read", 1_600_000_000, {"string_value": "a"}, 1_500),
        ("read", 1_600_000_001, {"string_value": "a"}, 3_000),
        ("click", 1_600_000_002, {"string_value": "a"}, 9_000),
        ("read", 1_600_000_003, {"int_value": 5}, 0),
    )
    local, remote = both(
        table, data_type="ga4", item_key="item", event_name="read", event_rating=event_rating
    )
    assert local == remote
    assert [row[:2] for row in local] == [("ann", "5"), ("ann", "a")]
    assert [row[2] for row in local] == ratings


def repeated(table, column, rows):
    """A table of events in which the keys of a column are repeated, with other values."""
    parameters = table[column].to_pylist()
    return table.set_column(
        table.column_names.index(column),
        column,
        pa.array([own + extra for own, extra in zip(parameters, rows, strict=True)], table[column].type),
    )


def test_the_first_of_repeated_keys_counts(both):
    table = events(
        ("read", 1_600_000_000, {"string_value": "a"}, 1_500),
        ("read", 1_600_000_001, {"string_value": "b"}, 3_000),
    )
    again = [
        {"key": "item", "value": {"string_value": "z"}},
        {"key": "engagement_time_msec", "value": {"int_value": 7}},
    ]
    table = repeated(table, "event_params", [again, again * 3])
    local, remote = both(
        table, data_type="ga4", item_key="item", event_name="read", event_rating="engagement"
    )
    assert local == remote
    assert [row[:3] for row in local] == [("ann", "a", 1.5), ("ann", "b", 3.0)]


def test_events_without_a_user_are_left_out_and_counted(warehouse, tmp_path, caplog):
    day = 1_600_041_600
    table = events(*[("read", day + number, {"string_value": "a"}, 0) for number in range(5)])
    users = pa.array(["ann", None, None, " ", "bob"])
    table = table.set_column(table.column_names.index("user_pseudo_id"), "user_pseudo_id", users)
    pq.write_table(table, tmp_path / "source.parquet")
    loaded = warehouse.load("source", table)
    for place, arguments in {
        "local": {"source": str(tmp_path / "source.parquet")},
        "remote": {"source": loaded},
        "staged": {"source": loaded, "staging_dataset": warehouse.dataset},
    }.items():
        caplog.clear()
        metadata = extract(
            output=tmp_path / place,
            data_type="ga4",
            item_key="item",
            event_name="read",
            # The first two are before the window.
            window_start=datetime.datetime.fromtimestamp(day + 2, UTC).isoformat(),
            **arguments,
        )
        manifest = json.loads((tmp_path / place / MANIFEST).read_text())
        assert manifest["rows"] == 1
        assert manifest["events_without_user"] == metadata["events_without_user"] == 2
        assert "left out: 2 events without a user" in caplog.text
    assert interactions(tmp_path / "local") == interactions(tmp_path / "remote")


def test_tables_of_days_outside_the_window_are_not_read(warehouse, tmp_path):
    day = 1_600_041_600  # 2020-09-14
    for number in range(-2, 3):
        event = ("read", day + number * 86_400, {"string_value": f"day {number}"}, 0)
        warehouse.load(f"events_202009{14 + number}", events(event))
    source = f"bq://{warehouse.dataset}.events_*"
    arguments = {"data_type": "ga4", "item_key": "item", "event_name": "read"}
    extract(source=source, output=tmp_path / "all", **arguments)
    assert len(interactions(tmp_path / "all")) == 5
    extract(
        source=source,
        output=tmp_path / "window",
        window_start="2020-09-13",
        window_end="2020-09-15",
        **arguments,
    )
    assert [row[1] for row in interactions(tmp_path / "window")] == ["day -1", "day 0"]
    assert suffixes_sent(warehouse) == [("20200912", "20200916"), ("00000000", "99999999")]


def suffixes_sent(warehouse):
    """Return the bounds of tables of days in the queries for the rows, latest first."""
    sent = []
    for job in warehouse.client.list_jobs(max_results=50):
        if job.job_type == "query" and not job.dry_run and f"{warehouse.dataset}.events_*" in job.query:
            values = {parameter.name: parameter.value for parameter in job.query_parameters}
            if "GROUP BY" in job.query:
                sent.append((values["first_suffix"], values["last_suffix"]))
    return sent


@pytest.mark.parametrize(
    ("data_type", "wildcard", "window", "first", "last"),
    [
        ("ga4", "events_*", {}, "00000000", "99999999"),
        ("ga4", "events_*", {"window_start": "2020-03-01"}, "20200229", "99999999"),
        ("ga4", "events_*", {"window_end": "2020-03-01T05:00Z"}, "00000000", "20200302"),
        ("ga4", "events_2020*", {}, "0000", "9999"),
        ("ga4", "events_2020*", {"window_start": "2020-03-01", "window_end": "2021-01-01"}, "0229", "9999"),
        ("ga4", "events_202003*", {"window_start": "2020-02-01", "window_end": "2020-03-09"}, "00", "10"),
        ("ga4", "events_2020*", {"window_start": "2022-01-01"}, "9999", "0000"),
        ("ga4", "events_20200301*", {}, "", ""),
        ("web_views", "ga_sessions_*", {}, "00000000", "99999999"),
        ("web_views", "ga_sessions_*", {"window_start": "2020-01-01"}, "20191231", "99999999"),
    ],
)
def test_a_wildcard_always_has_constant_bounds(data_type, wildcard, window, first, last):
    options = ExtractOptions(
        source=f"bq://test-project.d.{wildcard}", data_type=data_type, item_key="7", **window
    )
    query = Request(options).events({}, quoted("source", wildcard), wildcard=wildcard)
    for sql in (query.sql, query.without_user):
        assert "_TABLE_SUFFIX >= @first_suffix" in sql
        assert "_TABLE_SUFFIX <= @last_suffix" in sql
    assert (query.parameters["first_suffix"], query.parameters["last_suffix"]) == (first, last)


@pytest.mark.parametrize("wildcard", ["events_*", pytest.param("events_2020*", marks=slow)])
def test_a_day_is_read_once(warehouse, tmp_path, wildcard):
    event = events(("read", 1_600_041_600, {"string_value": "a"}, 0))
    for name in ("20200914", "20200915", "intraday_20200915", "fresh_20200915", "fresh_intraday_20200915"):
        warehouse.load(f"events_{name}", event)
    arguments = {"data_type": "ga4", "item_key": "item", "event_name": "read"}
    for window in ({}, {"window_start": "2020-09-01", "window_end": "2020-10-01"}):
        extract(source=f"bq://{warehouse.dataset}.{wildcard}", output=tmp_path / "out", **arguments, **window)
        assert [row[:3] for row in interactions(tmp_path / "out")] == [("ann", "a", 2.0)]


@slow
def test_query(warehouse, tmp_path):
    table = ratings()
    pq.write_table(table, tmp_path / "source.parquet")
    loaded = warehouse.load("source", table).removeprefix("bq://")
    select = "SELECT userId AS user, itemId AS item, COUNT(*) AS rating FROM {} GROUP BY 1, 2"
    extract(
        source=str(tmp_path / "source.parquet"),
        data_type="query",
        query=select.format("source"),
        output=tmp_path / "local",
    )
    extract(
        source=f"bq://{warehouse.project}",
        data_type="query",
        query=select.format(f"`{loaded}`"),
        output=tmp_path / "remote",
    )
    assert interactions(tmp_path / "local") == interactions(tmp_path / "remote")
    counts = table.to_pandas().groupby(["userId", "itemId"]).size()
    assert [row[2] for row in interactions(tmp_path / "local")] == counts.sort_index().tolist()


@pytest.mark.parametrize(
    "fault",
    [
        (grpc.StatusCode.UNAVAILABLE, "the connection was lost"),
        pytest.param((grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2"), marks=slow),
    ],
)
def test_a_broken_stream_is_resumed_where_it_broke(warehouse, relay, tmp_path, fault):
    table = pa.table({"user": np.arange(200_000), "item": np.arange(200_000) % 7, "rating": np.ones(200_000)})
    source = warehouse.load("source", table)
    relay.stream_fault = fault
    extract(source=source, output=tmp_path / "out")
    broken = {stream: offsets for stream, offsets in relay.offsets.items() if len(offsets) > 1}
    assert broken
    for stream, offsets in broken.items():
        assert offsets == [0, 3 * ROWS_PER_MESSAGE]
        assert offsets[1] < relay.lengths[stream]
    assert [row[0] for row in interactions(tmp_path / "out")] == list(range(200_000))


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        ("session_fault", (grpc.StatusCode.PERMISSION_DENIED, "no bigquery.readsessions.getData")),
        ("stream_fault", (grpc.StatusCode.RESOURCE_EXHAUSTED, "Quota exceeded")),
        pytest.param("session_fault", (grpc.StatusCode.RESOURCE_EXHAUSTED, "Quota exceeded"), marks=slow),
        pytest.param("stream_fault", (grpc.StatusCode.PERMISSION_DENIED, "no bigquery.getData"), marks=slow),
    ],
)
def test_a_refused_read_publishes_nothing(warehouse, relay, tmp_path, place, fault):
    source = warehouse.load(
        "source", pa.table({"user": range(50_000), "item": [1] * 50_000, "rating": [1.0] * 50_000})
    )
    setattr(relay, place, fault)
    with pytest.raises(WalsError, match=fault[1]) as caught:
        extract(source=source, output=tmp_path / "out")
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / MANIFEST).exists()


def test_a_table_that_changes_while_it_is_read(warehouse, relay, tmp_path):
    source = warehouse.load("source", ratings(10))
    # The first session reads the clock, the second the table.
    changing = iter([lambda: None, lambda: warehouse.load("source", ratings(10))])
    relay.after_session = lambda: next(changing)()
    assert extract(source=source, output=tmp_path / "out")["rows"] == 10
    assert warehouse.client.get_table(source.removeprefix("bq://")).num_rows == 20


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (exceptions.Forbidden("no bigquery.jobs.create"), "refuses.*jobs.create"),
        (exceptions.Forbidden("Quota exceeded"), "Quota exceeded"),
        (exceptions.TooManyRequests("Rate limit"), "Rate limit"),
        (exceptions.InternalServerError("try\nlater"), "try later"),
    ],
)
@pytest.mark.parametrize("call", ["query", "get_table"])
def test_refusals_are_one_line(warehouse, tmp_path, monkeypatch, error, message, call):
    source = warehouse.load("source", ratings(10))

    def refused(*_, **__):
        raise error

    monkeypatch.setattr(bigquery.Client, call, refused)
    with pytest.raises(WalsError, match=message) as caught:
        extract(source=source, output=tmp_path / "out")
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)


def test_snapshot_reads_the_table_as_it_was(warehouse, tmp_path):
    source = warehouse.load("source", ratings(10))
    (row,) = warehouse.client.query("SELECT CURRENT_TIMESTAMP() AS now").result()
    warehouse.load("source", ratings(10))
    before = extract(source=source, output=tmp_path / "before", snapshot=row.now.isoformat())
    after = extract(source=source, output=tmp_path / "after")
    assert (before["rows"], after["rows"]) == (10, 20)
    assert datetime.datetime.fromisoformat(before["snapshot"]) == row.now


@pytest.fixture
def row_access_policies(monkeypatch):
    """The refusal of BigQuery to read a table with row access policies as of a moment; the emulator does."""
    real = bigquery.Client.query

    def query(self, sql, *arguments, **options):
        if "FOR SYSTEM_TIME AS OF" in sql:
            raise exceptions.Forbidden(
                "Access Denied: BigQuery BigQuery: Time travel on table p:d.t is forbidden as it has "
                "(or has had) row access policies."
            )
        return real(self, sql, *arguments, **options)

    monkeypatch.setattr(bigquery.Client, "query", query)


def test_a_table_with_row_access_policies_is_read_as_it_is_now(
    warehouse, row_access_policies, tmp_path, caplog
):
    source = warehouse.load("source", ratings(10))
    for staged in ({}, {"staging_dataset": warehouse.dataset}):
        caplog.clear()
        metadata = extract(source=source, output=tmp_path / "out", **staged)
        manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
        assert (metadata["rows"], metadata["snapshot"], manifest["source"]["snapshot"]) == (10, "", "")
        assert "has or had row access policies, so it is read in its current state" in caplog.text


def test_a_snapshot_of_a_table_with_row_access_policies_is_refused(warehouse, row_access_policies, tmp_path):
    source = warehouse.load("source", ratings(10))
    (row,) = warehouse.client.query("SELECT CURRENT_TIMESTAMP() AS now").result()
    with pytest.raises(InputError, match=r"^snapshot .*row access policies; omit it"):
        extract(source=source, output=tmp_path / "out", snapshot=row.now.isoformat())
    assert not (tmp_path / "out" / MANIFEST).exists()


@pytest.fixture
def partitioned(warehouse):
    """Create a table with a row a day that requires a filter on its partitions; return its source."""

    def create(partitions):
        ingested = partitions == "_PARTITIONDATE"
        warehouse.client.query(
            f"CREATE TABLE `{warehouse.dataset}.partitioned` (user INT64, item INT64, rating FLOAT64, "
            f"time TIMESTAMP, date DATE, local DATETIME) PARTITION BY {partitions} "
            "OPTIONS(require_partition_filter = TRUE)"
        ).result()
        columns = "user, item, rating, time, date, local" + ", _PARTITIONTIME" * ingested
        later = ", TIMESTAMP '2020-01-{:02}'" * ingested
        rows = ", ".join(
            f"({day}, 1, 1.0, TIMESTAMP '2020-01-{day:02}', DATE '2020-01-{day:02}', "
            f"DATETIME '2020-01-{day:02}'{later.format(day + 2)})"
            for day in range(1, 11)
        )
        insert = f"INSERT INTO `{warehouse.dataset}.partitioned` ({columns}) VALUES {rows}"
        warehouse.client.query(insert).result()
        return f"bq://{warehouse.dataset}.partitioned"

    return create


@pytest.mark.parametrize(
    ("partitions", "column", "users"),
    [
        ("DATE(time)", "time", [3, 4, 5]),
        pytest.param("date", "date", [3, 4, 5], marks=slow),
        pytest.param("DATE(local)", "local", [3, 4, 5], marks=slow),
        pytest.param("_PARTITIONDATE", "time", [3, 4, 5], marks=slow),
        ("_PARTITIONDATE", "_PARTITIONTIME", [1, 2, 3]),
        pytest.param("_PARTITIONDATE", "_PARTITIONDATE", [1, 2, 3], marks=slow),
    ],
)
def test_a_window_of_a_table_that_requires_a_partition_filter(
    partitioned, tmp_path, partitions, column, users
):
    extract(
        source=partitioned(partitions),
        output=tmp_path / "out",
        timestamp_column=column,
        window_start="2020-01-03",
        window_end="2020-01-06",
    )
    assert [row[0] for row in interactions(tmp_path / "out")] == users


def test_the_time_of_ingestion_is_offered_if_there_is_no_other(warehouse, tmp_path):
    table = "user INT64, item INT64, rating FLOAT64"
    create = f"CREATE TABLE `{warehouse.dataset}.plain` ({table}) PARTITION BY _PARTITIONDATE"
    warehouse.client.query(create).result()
    with pytest.raises(InputError, match="map them with --timestamp-column _PARTITIONTIME"):
        extract(source=f"bq://{warehouse.dataset}.plain", output=tmp_path / "out", window_start="2020-01-03")


def test_a_filter_on_a_pseudo_column(partitioned, tmp_path):
    extract(
        source=partitioned("_PARTITIONDATE"),
        output=tmp_path / "out",
        timestamp_column="time",
        row_filter="_PARTITIONDATE IS NOT NULL AND user > 7",
    )
    assert [row[0] for row in interactions(tmp_path / "out")] == [8, 9, 10]


@pytest.mark.parametrize("partitions", ["DATE(time)", pytest.param("_PARTITIONDATE", marks=slow)])
def test_a_partition_filter_that_is_missing_is_one_line_with_a_remedy(partitioned, tmp_path, partitions):
    with pytest.raises(InputError, match=r"partition elimination.*; give a window over such a column"):
        extract(source=partitioned(partitions), output=tmp_path / "out", timestamp_column="time")


@pytest.mark.parametrize(
    ("unit", "first"),
    [("HOUR", "2020-02-29"), ("DAY", "2020-02-29"), ("MONTH", "2020-02-01"), ("YEAR", "2020-01-01")],
)
def test_the_first_partition_by_time_of_ingestion(unit, first):
    options = ExtractOptions(source="bq://test-project.d.t", window_start="2020-03-01T05:00+02:00")
    schema = {"user": "INT64", "item": "INT64", "rating": "FLOAT64", "time": "TIMESTAMP"}
    request = Request(options)
    query = request.ratings(request.columns(schema), schema, quoted("source", "t"), ingested_by=unit)
    assert "_PARTITIONTIME >= CAST(@first_partition AS TIMESTAMP) OR _PARTITIONTIME IS NULL" in query.sql
    assert query.parameters["first_partition"] == f"{first} 00:00:00.000000+00:00"


def test_more_rows_than_bigquery_returns_require_a_staging_dataset(warehouse, returned_rows, tmp_path):
    source = warehouse.load("source", ratings(3_000))
    with pytest.raises(InputError, match=r"more than 10 GB, .*; give a staging_dataset"):
        extract(source=source, output=tmp_path / "out")
    assert not (tmp_path / "out" / MANIFEST).exists()
    assert extract(source=source, output=tmp_path / "out", staging_dataset=warehouse.dataset)["rows"] == 3_000


@pytest.mark.parametrize(
    ("kind", "is_staged"),
    [
        *(("view", False), ("wildcard", True), ("query", False)),
        *(pytest.param(*case, marks=slow) for case in (("view", True), ("wildcard", False), ("query", True))),
    ],
)
def test_sources_without_snapshots_claim_none(warehouse, tmp_path, kind, is_staged):
    warehouse.load("source", ratings(10))
    view = bigquery.Table(f"{warehouse.dataset}.view")
    view.view_query = f"SELECT * FROM `{warehouse.dataset}.source`"
    warehouse.client.create_table(view)
    query = f"SELECT * FROM `{warehouse.dataset}.source`"
    arguments = {
        "view": {"source": f"bq://{warehouse.dataset}.view"},
        "wildcard": {"source": f"bq://{warehouse.dataset}.sour*"},
        "query": {"source": f"bq://{warehouse.project}", "data_type": "query", "query": query},
    }
    staged = {"staging_dataset": warehouse.dataset} if is_staged else {}
    assert extract(output=tmp_path / "out", **arguments[kind], **staged)["snapshot"] == ""
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert (manifest["rows"], manifest["source"]["snapshot"]) == (10, "")


def test_the_last_days_before_a_snapshot(warehouse, tmp_path):
    (row,) = warehouse.client.query("SELECT CURRENT_TIMESTAMP() AS now").result()
    ages = {1: 0.5, 2: 6.9, 3: 7.1, 4: -0.5}
    times = [row.now - datetime.timedelta(days=age) for age in ages.values()]
    source = warehouse.load(
        "source",
        pa.table({"user": list(ages), "item": [1] * 4, "rating": [1.0] * 4, "time": times}),
    )
    later = (row.now + datetime.timedelta(days=1)).isoformat()
    extract(source=source, output=tmp_path / "now", window_days=7)
    assert [user for user, *_ in interactions(tmp_path / "now")] == [1, 2]
    extract(source=source, output=tmp_path / "later", window_days=7, window_end=later)
    assert [user for user, *_ in interactions(tmp_path / "later")] == [1, 4]
    (row,) = warehouse.client.query("SELECT CURRENT_TIMESTAMP() AS now").result()
    extract(source=source, output=tmp_path / "pinned", window_days=1, snapshot=row.now.isoformat())
    assert [user for user, *_ in interactions(tmp_path / "pinned")] == [1]
    job = next(job for job in warehouse.client.list_jobs() if job.job_type == "query" and not job.dry_run)
    values = {parameter.name: parameter.value for parameter in job.query_parameters}
    assert datetime.datetime.fromisoformat(values["window_end"]) == row.now


def test_the_cost_is_logged(warehouse, tmp_path, monkeypatch, caplog):
    source = warehouse.load("source", ratings(10))
    # The emulator's queries are free.
    for name, value in (("total_bytes_processed", 2**40), ("total_bytes_billed", 3), ("slot_millis", 5)):
        monkeypatch.setattr(bigquery.QueryJob, name, value)
    with caplog.at_level("INFO"):
        metadata = extract(source=source, output=tmp_path / "out")
    assert "query reads 1,099,511,627,776 bytes (about $6.25 on demand)" in caplog.text
    # One query for the time on BigQuery's clock, and one for the rows.
    assert (metadata["bytes_billed"], metadata["slot_milliseconds"]) == (6, 10)


def test_who_pays_and_where(warehouse, relay, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    source = warehouse.load("source", ratings(10))
    real = bigquery.Client._call_api
    sent = []

    def call_api(self, *arguments, **options):
        if options.get("method") == "POST":
            sent.append((options["path"], options["data"].get("jobReference", {}).get("location")))
        return real(self, *arguments, **options)

    monkeypatch.setattr(bigquery.Client, "_call_api", call_api)
    assert extract(source=source, output=tmp_path / "out", project="payer-1", location="EU")["rows"] == 10
    assert set(sent) == {("/projects/payer-1/jobs", "EU")}
    assert set(relay.parents) == {"projects/payer-1"}
    assert "BigQuery jobs run in EU, and payer-1 pays for them" in caplog.text


@pytest.mark.parametrize("kind", ["table", "wildcard", "query"])
def test_jobs_run_where_the_data_are(warehouse, tmp_path, monkeypatch, kind):
    source = warehouse.load("source", ratings(10))
    # The emulator is in the US only.
    monkeypatch.setattr(bigquery.Table, "location", "EU")
    monkeypatch.setattr(bigquery.QueryJob, "location", "EU")
    real = bigquery.Client.query
    sent = []

    def query(self, sql, job_config=None, *, location=None, **options):
        sent.append(location)
        return real(self, sql, job_config, **options)

    monkeypatch.setattr(bigquery.Client, "query", query)
    arguments = {
        "table": {"source": source},
        "wildcard": {"source": f"bq://{warehouse.dataset}.sour*"},
        "query": {
            "source": f"bq://{warehouse.project}",
            "data_type": "query",
            "query": f"SELECT * FROM `{warehouse.dataset}.source`",
        },
    }
    extract(output=tmp_path / "out", **arguments[kind])
    # What a table's location is, is asked before any query; that of the others, by a dry run.
    assert sent[kind != "table" :]
    assert set(sent[kind != "table" :]) == {"EU"}


def test_a_staging_dataset_elsewhere_is_refused(warehouse, tmp_path, monkeypatch):
    source = warehouse.load("source", ratings(10))
    monkeypatch.setattr(bigquery.Dataset, "location", "EU")
    with pytest.raises(InputError, match=r"staging_dataset .*: is in EU, and the source in US; give"):
        extract(source=source, output=tmp_path / "out", staging_dataset=warehouse.dataset)


def test_the_cost_cap_holds_before_anything_runs(warehouse, tmp_path, monkeypatch):
    source = warehouse.load("source", ratings(10))
    real = bigquery.Client.query
    dry_runs = []

    class DryRun:
        total_bytes_processed = 3 * 2**40

    def query(self, sql, job_config=None, **arguments):
        dry_runs.append(job_config.dry_run)
        return DryRun() if job_config.dry_run else real(self, sql, job_config, **arguments)

    monkeypatch.setattr(bigquery.Client, "query", query)
    with pytest.raises(InputError, match=r"3,298,534,883,328 bytes \(about \$18.75\)"):
        extract(source=source, output=tmp_path / "out", maximum_bytes_billed=10**12, snapshot="2026-01-01")
    assert dry_runs == [True]


def test_jobs_carry_labels_and_the_cap(warehouse, tmp_path):
    source = warehouse.load("source", ratings(10))
    extract(source=source, output=tmp_path / "out", maximum_bytes_billed=10**9)
    jobs = [job for job in warehouse.client.list_jobs(max_results=20) if job.job_type == "query"]
    (job,) = [job for job in jobs if warehouse.dataset in job.query and not job.dry_run]
    assert job.labels == {"application": "wals"}
    assert job.maximum_bytes_billed == 10**9


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("bq://test-project.nowhere.table", "does not exist"),
        ("bq://test-project.nowhere", "give bq://PROJECT.DATASET.TABLE"),
        ("bq://test-project.d.t` WHERE FALSE; DROP TABLE `x", "give bq://PROJECT.DATASET.TABLE"),
        ("bq://test-project.d.t; DROP TABLE x", "give bq://PROJECT.DATASET.TABLE"),
        ("bq://test-project.d.t.u", "give bq://PROJECT.DATASET.TABLE"),
    ],
)
def test_unusable_tables(warehouse, tmp_path, source, message):
    with pytest.raises(InputError, match=message):
        extract(source=source, output=tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"staging_dataset": "nodots"}, "staging_dataset 'nodots': .*my-project.my_dataset"),
        ({"staging_dataset": "p.d`; DROP TABLE x"}, "staging_dataset"),
        (
            {"project": "My Project"},
            "project 'My Project': is not a valid project ID; give one such as my-project",
        ),
        ({"location": "E U"}, "location 'E U': is not a valid location; "),
    ],
)
def test_names_that_are_not_valid(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        extract(source="bq://test-project.d.t", output=tmp_path / "out", **arguments)


@pytest.mark.parametrize(
    ("source", "data_type", "payer"),
    [
        ("bq://example.com:my-project.d.t", "ratings", "example.com:my-project"),
        ("bq://example.com:my-project", "user_ratings", "example.com:my-project"),
        ("bq://my-project.d.t", "ratings", "my-project"),
    ],
)
def test_projects_of_a_domain(tmp_path, monkeypatch, source, data_type, payer):
    class ConnectedError(Exception):
        pass

    def connect(**options):
        raise ConnectedError(options["project"])

    monkeypatch.setattr(extract_bigquery, "BigQuery", connect)
    with pytest.raises(ConnectedError, match=f"^{payer}$"):
        extract(source=source, output=tmp_path / "out", data_type=data_type)


def test_the_values_of_a_filter_are_parameters(warehouse, tmp_path):
    source = warehouse.load("source", ratings(50))
    extract(source=source, output=tmp_path / "out", row_filter="country = 'DE' AND rating >= 2")
    (job,) = [
        job
        for job in warehouse.client.list_jobs(max_results=10)
        if job.job_type == "query" and warehouse.dataset in job.query and not job.dry_run
    ]
    assert "DE" not in job.query
    values = {parameter.name: parameter.value for parameter in job.query_parameters}
    assert values == {"row_filter_0": "DE", "row_filter_1": 2, "snapshot": values["snapshot"]}


def test_columns_and_windows_are_values_and_names_only(warehouse, tmp_path):
    source = warehouse.load("source", ratings(10))
    for arguments in (
        {"user_column": "userId`, (SELECT 1) AS `x"},
        {"row_filter": "TRUE) OR (TRUE"},
        {"row_filter": "rating IN (SELECT 1)"},
        {"window_start": "2020-01-01' OR '1' = '1"},
    ):
        with pytest.raises(InputError):
            extract(source=source, output=tmp_path / "out", **arguments)
    assert warehouse.client.get_table(source.removeprefix("bq://")).num_rows == 10


def test_rows_without_ids_or_ratings_are_refused(warehouse, tmp_path):
    table = pa.table({"user": ["a", " "], "item": [1, 2], "rating": [1.0, 2.0]})
    source = warehouse.load("source", table)
    with pytest.raises(InputError, match="no user id"):
        extract(source=source, output=tmp_path / "out")
    with pytest.raises(InputError, match="no user id"):
        extract(source=source, output=tmp_path / "out", staging_dataset=warehouse.dataset)
    assert not (tmp_path / "out" / MANIFEST).exists()


@pytest.mark.parametrize(
    "blank", ["", *(pytest.param(one, marks=slow) for one in ("\t", "\u00a0")), "\u2003 \n\x1f\x85"]
)
def test_blank_ids_are_refused_by_both_engines(warehouse, tmp_path, blank):
    table = pa.table({"user": ["a", "b\u00a0c"], "item": ["i", blank], "rating": [1.0, 2.0]})
    source = warehouse.load("source", table)
    pq.write_table(table, tmp_path / "source.parquet")
    for arguments in (
        {"source": source},
        {"source": source, "staging_dataset": warehouse.dataset},
        {"source": str(tmp_path / "source.parquet")},
    ):
        with pytest.raises(InputError, match=r"(no|not an) item id"):
            extract(output=tmp_path / "out", **arguments)


def test_unreadable_times_in_both_engines(warehouse, tmp_path, caplog):
    table = pa.table({"user": [1, 2], "item": [1, 2], "rating": [1.0, 2.0], "date": ["2020-01-01", "soon"]})
    source = warehouse.load("source", table)
    pq.write_table(table, tmp_path / "source.parquet")
    for arguments in (
        {"source": source},
        {"source": source, "staging_dataset": warehouse.dataset},
        {"source": str(tmp_path / "source.parquet")},
    ):
        extract(output=tmp_path / "out", **arguments)
        assert json.loads((tmp_path / "out" / MANIFEST).read_text())["rows_without_time"] == 1
        assert "date: 1 of 2 times are missing or cannot be read" in caplog.text
        caplog.clear()
        with pytest.raises(InputError, match=r"not a time|without a readable time"):
            extract(output=tmp_path / "out", window_start="2019-01-01", **arguments)
        with pytest.raises(InputError, match="none of its times can be read"):
            extract(output=tmp_path / "out", row_filter="user = 2", **arguments)


def test_cloud_storage(bucket, tmp_path):
    for name, rows in (("a", 50), ("b", 60)):
        pq.write_table(ratings(rows), tmp_path / "part.parquet")
        bucket.blob(f"ratings/{name}.parquet").upload_from_filename(tmp_path / "part.parquet")
    for source, rows in (
        ("gs://bucket/ratings/a.parquet", 50),
        ("gs://bucket/ratings/*.parquet", 110),
        ("gs://bucket/ratings", 110),
    ):
        assert extract(source=source, output=tmp_path / "out")["rows"] == rows
    with pytest.raises(InputError, match="no such file"):
        extract(source="gs://bucket/none.csv", output=tmp_path / "out")


@pytest.mark.parametrize("scheme", ["s3", pytest.param("minio", marks=slow)])
def test_s3_compatible_stores(s3_bucket, tmp_path, scheme):
    for name, rows in (("a", 50), ("b*", 60), ("bc", 70)):
        pq.write_table(ratings(rows), f"bucket/ratings/{name}.parquet", filesystem=s3_bucket)
    with s3_bucket.open_output_stream("bucket/text/a.csv") as file:
        file.write(b"user,item,rating\n1,2,3\n")
    for path, rows in (
        ("ratings/a.parquet", 50),
        ("ratings/*.parquet", 180),
        ("ratings", 180),
        ("text/a.csv", 1),
    ):
        assert extract(source=f"{scheme}://bucket/{path}", output=tmp_path / "out")["rows"] == rows
    with pytest.raises(InputError, match="no such file"):
        extract(source=f"{scheme}://bucket/none.csv", output=tmp_path / "out")
    with pytest.raises(WalsError, match="NO_SUCH_BUCKET"):
        extract(source=f"{scheme}://elsewhere/*.csv", output=tmp_path / "out")


EXTRACT = """
import sys
from pathlib import Path
from tests.components.steps import extract
print(extract(source="s3://bucket/a.csv", output=Path(sys.argv[1]))["rows"])
"""


def test_another_store_than_aws_does_not_ask_the_machine_for_its_region(s3_bucket, tmp_path):
    """Off AWS, nothing answers at that address, and each operation would wait for seconds."""
    with s3_bucket.open_output_stream("bucket/a.csv") as file:
        file.write(b"user,item,rating\n1,2,3\n")
    asked = []
    with serving([], lambda *_: "", asked) as address:
        environment = {name: value for name, value in os.environ.items() if name != "AWS_REGION"}
        environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = address
        # In another process, because AWS' library keeps what it was once told.
        command = [sys.executable, "-c", EXTRACT, tmp_path / "out"]
        shown = subprocess.run(command, check=True, capture_output=True, env=environment, text=True).stdout
    assert shown.splitlines()[-1] == "1"
    assert asked == []


@pytest.mark.parametrize("address", ["store:9000", "localhost", "ftp://store", "http://"])
def test_an_address_of_a_store_that_cannot_be_one(s3_bucket, tmp_path, monkeypatch, address):
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    with pytest.raises(InputError, match=f"AWS_ENDPOINT_URL '{address}': is not the address of a store"):
        extract(source="s3://bucket/a.csv", output=tmp_path / "out")


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_store_that_fails_during_reading(s3_bucket, tmp_path, monkeypatch, name):
    with s3_bucket.open_output_stream("bucket/a.csv") as file:
        file.write(b"user,item,rating\n1,2,3\n")
    pq.write_table(ratings(10), "bucket/a.parquet", filesystem=s3_bucket)

    def read(*_):
        raise OSError("the connection was reset")

    monkeypatch.setattr(ArrowFile, "read", read)
    with pytest.raises(WalsError, match=f"reading s3://bucket/{name} failed: .*was reset$") as caught:
        extract(source=f"s3://bucket/{name}", output=tmp_path / "out")
    assert caught.value.exit_code == 1
    assert "Traceback" not in str(caught.value)


def test_an_unknown_store(tmp_path):
    with pytest.raises(InputError, match="is not a readable source"):
        extract(source="ftp://host/ratings.csv", output=tmp_path / "out")
