"""Delivery to BigQuery: all tables change together, whatever fails."""

import multiprocessing
import os
import re
import signal
import time
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.api_core import exceptions
from google.cloud import bigquery
from scipy import sparse

from components.deliver.bigquery import deliver_to_bigquery
from components.deliver.bigquery_options import BigQueryDelivery
from tests.components.deliver.relay import KillingRelay
from tests.components.steps import publish
from trainer.catalogue import CatalogueTables, no_items, write_catalogue
from trainer.config import TrainConfig
from trainer.errors import InputError, WalsError
from trainer.matrix import InteractionMatrix
from trainer.model import Model, seen_of
from trainer.vocabulary import Vocabulary

pytestmark = pytest.mark.slow

TABLES = ("recommendations", "similar_items", "user_embeddings", "item_embeddings")
FIRST, SECOND = "20261126T201500Z-1a2b3c4d", "20261127T201500Z-5e6f7a8b"


def published(folder, seed, users=("ada", "bob", "zoë")):
    """Publish a model with random factors, and return the artifacts."""
    random = np.random.default_rng(seed)
    Model(
        TrainConfig(latent_factors=2),
        random.standard_normal((3, 2), np.float32),
        random.standard_normal((4, 2), np.float32),
        Vocabulary(pa.array(users)),
        Vocabulary(pa.array([10, 20, 30, 40])),
        seen_of(InteractionMatrix.from_scipy(sparse.csr_array(np.eye(3, 4, dtype=np.float32))).by_row),
    ).save(folder / "model")
    write_catalogue(folder / "catalogue", CatalogueTables(no_items()))
    parts = {part: folder / part for part in ("recommendations", "similar_items", "embeddings")}
    publish(model=folder / "model", catalogue=folder / "catalogue", **parts, top_k=2, similar_k=2)
    return parts


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """The artifacts of two models, by their versions."""
    return {
        version: published(tmp_path_factory.mktemp("model"), seed)
        for seed, version in enumerate((FIRST, SECOND))
    }


def content_of(artifacts):
    """The rows that the tables have after the delivery of artifacts."""
    return {
        "recommendations": sorted(map(tuple_of, pq.read_table(artifacts["recommendations"]).to_pylist())),
        "similar_items": sorted(map(tuple_of, pq.read_table(artifacts["similar_items"]).to_pylist())),
        **{
            f"{side}_embeddings": sorted(
                map(tuple_of, pq.read_table(artifacts["embeddings"] / f"{side}s-00000.parquet").to_pylist())
            )
            for side in ("user", "item")
        },
    }


def tuple_of(row):
    return tuple(tuple(value) if isinstance(value, list) else value for value in row.values())


def rows_in(warehouse):
    """The rows of the delivered tables, without their date; none of a table that does not exist."""
    rows = {}
    for table in TABLES:
        sql = f"SELECT * EXCEPT (delivery_date) FROM `{warehouse.dataset}.{table}`"
        try:
            found = warehouse.client.query(sql).result()
        except exceptions.NotFound:
            rows[table] = []
        else:
            rows[table] = sorted(tuple_of(dict(row)) for row in found)
    return rows


def deliver(warehouse, artifacts, version, **options):
    return deliver_to_bigquery(f"bq://{warehouse.dataset}", **artifacts[version], version=version, **options)


def test_the_tables_have_the_rows_of_the_last_delivery(warehouse, artifacts):
    first = deliver(warehouse, artifacts, FIRST)
    assert rows_in(warehouse) == content_of(artifacts[FIRST])
    assert first == {
        "recommendations": 6,
        "similar_items": 8,
        "user_embeddings": 3,
        "item_embeddings": 4,
    }
    deliver(warehouse, artifacts, SECOND)
    assert rows_in(warehouse) == content_of(artifacts[SECOND])
    sql = f"SELECT version FROM `{warehouse.dataset}.deliveries` ORDER BY delivered"
    assert [row.version for row in warehouse.client.query(sql).result()] == [FIRST, SECOND]
    tables = {table.table_id for table in warehouse.client.list_tables(warehouse.dataset)}
    assert tables == {*TABLES, "deliveries"}, "no staging table stays"
    # Back to the version before.
    deliver(warehouse, artifacts, FIRST)
    assert rows_in(warehouse) == content_of(artifacts[FIRST])


def test_tables_are_laid_out_for_reading_by_user_and_for_expiry(warehouse, artifacts):
    deliver(warehouse, artifacts, FIRST, expiration_days=3)
    columns = {
        "recommendations": ["user_id STRING", "item_id INTEGER", "predicted_score FLOAT", "rank INTEGER"],
        "similar_items": [
            "item_id INTEGER",
            "similar_item_id INTEGER",
            "cosine_similarity FLOAT",
            "rank INTEGER",
        ],
        "user_embeddings": ["user_id STRING", "embedding REPEATED FLOAT"],
        "item_embeddings": ["item_id INTEGER", "embedding REPEATED FLOAT"],
    }
    for name, expected in columns.items():
        table = warehouse.client.get_table(f"{warehouse.dataset}.{name}")
        shown = [
            f"{field.name} {field.mode} {field.field_type}".replace(" NULLABLE", "") for field in table.schema
        ]
        assert shown == [*expected, "delivery_date DATE"]
        assert table.time_partitioning.field == "delivery_date"
        assert table.time_partitioning.expiration_ms == 3 * 24 * 3600 * 1000
        assert table.clustering_fields == [expected[0].split()[0]]
        assert table.labels == {"application": "wals"}
    dates = warehouse.client.query(
        f"SELECT DISTINCT delivery_date FROM `{warehouse.dataset}.recommendations`"
    ).result()
    assert abs((next(iter(dates)).delivery_date - datetime.now(UTC).date()).days) <= 1


def test_a_repeated_delivery_changes_nothing_but_the_expiry(warehouse, artifacts):
    deliver(warehouse, artifacts, FIRST, expiration_days=3)
    before = [dict(row) for row in warehouse.client.query(f"SELECT * FROM `{warehouse.dataset}.deliveries`")]
    repeated = deliver(warehouse, artifacts, FIRST)
    assert repeated == {}
    assert rows_in(warehouse) == content_of(artifacts[FIRST])
    assert before == [
        dict(row) for row in warehouse.client.query(f"SELECT * FROM `{warehouse.dataset}.deliveries`")
    ]
    table = warehouse.client.get_table(f"{warehouse.dataset}.recommendations")
    assert table.time_partitioning.expiration_ms is None


def test_a_repeated_delivery_restores_rows_that_are_gone(warehouse, artifacts):
    deliver(warehouse, artifacts, FIRST)
    warehouse.client.delete_table(f"{warehouse.dataset}.user_embeddings")
    deliver(warehouse, artifacts, FIRST)
    assert rows_in(warehouse) == content_of(artifacts[FIRST])


def test_a_delivery_that_fails_changes_no_table(warehouse, artifacts, tmp_path, monkeypatch):
    deliver(warehouse, artifacts, FIRST)
    destination = f"bq://{warehouse.dataset}"

    numbers = published(tmp_path / "numbers", 2, users=[1, 2, 3])
    with pytest.raises(InputError, match=r"user_id STRING instead of .*user_id INTEGER"):
        deliver_to_bigquery(destination, **numbers, version=SECOND)
    assert rows_in(warehouse) == content_of(artifacts[FIRST])

    damaged = published(tmp_path / "damaged", 2)
    file = damaged["embeddings"] / "items-00000.parquet"
    content = bytearray(file.read_bytes())
    content[20] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match="does not match the checksum"):
        deliver_to_bigquery(destination, **damaged, version=SECOND)
    assert rows_in(warehouse) == content_of(artifacts[FIRST])

    real = bigquery.Client.query

    def query(self, sql, *arguments, **options):
        # The table that the last statement but one reads is gone.
        swap = sql.replace("item_embeddings_00000", "item_embeddings_00009")
        return real(self, swap, *arguments, **options)

    monkeypatch.setattr(bigquery.Client, "query", query)
    with pytest.raises(WalsError, match=r"BigQuery could not swap the tables: .*item_embeddings_00009"):
        deliver(warehouse, artifacts, SECOND)
    assert rows_in(warehouse) == content_of(artifacts[FIRST])


def test_a_delivery_that_another_one_overtakes_changes_nothing(warehouse, artifacts, monkeypatch):
    real = bigquery.Client.query
    overtaken = []

    def query(self, sql, *arguments, **options):
        if "BEGIN TRANSACTION" in sql and not overtaken:
            overtaken.append(True)
            deliver(warehouse, artifacts, FIRST)
        return real(self, sql, *arguments, **options)

    monkeypatch.setattr(bigquery.Client, "query", query)
    with pytest.raises(WalsError, match="another delivery came first"):
        deliver(warehouse, artifacts, SECOND)
    assert rows_in(warehouse) == content_of(artifacts[FIRST])


def test_a_swap_that_is_committed_after_all_is_a_success(warehouse, artifacts, monkeypatch):
    real = bigquery.Client.query
    swaps = []

    def query(self, sql, *arguments, **options):
        if "BEGIN TRANSACTION" in sql:
            swaps.append(sql)
            if len(swaps) == 1:
                # As if BigQuery went on with the job of an attempt that was stopped.
                real(self, sql, *arguments, **options).result()
        return real(self, sql, *arguments, **options)

    monkeypatch.setattr(bigquery.Client, "query", query)
    deliver(warehouse, artifacts, FIRST)
    assert rows_in(warehouse) == content_of(artifacts[FIRST])


def run_delivery(environment, destination, artifacts, version):
    """Deliver in another process."""
    os.environ.update(environment)
    deliver_to_bigquery(destination, **artifacts, version=version, expiration_days=5)


def attempt(relay, warehouse, artifacts, version, chosen):
    """Deliver in a process that is killed at a request; return the process's exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["components.deliver.bigquery"])
    environment = {
        "BIGQUERY_EMULATOR_HOST": relay.address,
        "BIGQUERY_STORAGE_EMULATOR_HOST": os.environ["BIGQUERY_STORAGE_EMULATOR_HOST"],
    }
    arguments = (environment, f"bq://{warehouse.dataset}", artifacts[version], version)
    relay.changes.clear()
    relay.killed_at, relay.chosen = "", chosen
    process = context.Process(target=run_delivery, args=arguments)
    process.start()
    relay.pid = process.pid
    process.join(120)
    relay.pid = 0
    return process.exitcode


def at(number, when):
    """Choose the request with this number among those that may change something."""
    count = iter(range(10_000))
    return lambda method, _: when if method != "GET" and next(count) == number else ""


@pytest.fixture
def killing(warehouse, _bigquery_server):
    with KillingRelay(_bigquery_server.rest) as relay:
        yield relay


def changes(relay, kind):
    """The numbers of the last attempt's requests of a kind."""
    return [number for number, change in enumerate(relay.changes) if re.search(kind, change)]


def versions(warehouse):
    sql = f"SELECT version FROM `{warehouse.dataset}.deliveries` ORDER BY delivered"
    return [row.version for row in warehouse.client.query(sql).result()]


def check_kills(relay, warehouse, artifacts, points, last):
    """Deliver the second model, killed at each point in turn; the last point is after the swap was sent."""
    old, new = content_of(artifacts[FIRST]), content_of(artifacts[SECOND])
    for number, when in points:
        assert attempt(relay, warehouse, artifacts, SECOND, at(number, when)) == -signal.SIGKILL
        assert rows_in(warehouse) == old, relay.killed_at
    assert attempt(relay, warehouse, artifacts, SECOND, at(*last)) == -signal.SIGKILL
    # BigQuery goes on with the job.
    deadline = time.monotonic() + 60
    while versions(warehouse) != [FIRST, SECOND]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert rows_in(warehouse) == new
    assert attempt(relay, warehouse, artifacts, SECOND, lambda *_: "") == 0
    assert rows_in(warehouse) == new
    assert versions(warehouse) == [FIRST, SECOND]
    tables = {table.table_id for table in warehouse.client.list_tables(warehouse.dataset)}
    assert tables == {*TABLES, "deliveries"}, "staging tables of killed attempts are deleted too"


@pytest.mark.attack
def test_a_killed_delivery_leaves_the_tables_of_one_model(killing, warehouse, artifacts):
    assert attempt(killing, warehouse, artifacts, FIRST, lambda *_: "") == 0
    uploads, swap = changes(killing, "^PUT"), changes(killing, "^POST /bigquery/.*/jobs")[-1]
    points = [(uploads[0], "after"), (uploads[-1], "before"), (swap, "before")]
    check_kills(killing, warehouse, artifacts, points, (swap, "after"))


@pytest.mark.attack
def test_a_delivery_that_is_killed_at_every_change_leaves_the_tables_of_one_model(
    killing, warehouse, artifacts
):
    assert attempt(killing, warehouse, artifacts, FIRST, lambda *_: "") == 0
    # The last job is the swap; jobs that are uploads have a longer path.
    swap = changes(killing, "^POST /bigquery/.*/jobs")[-1]
    check_kills(
        killing, warehouse, artifacts, [(number, "before") for number in range(swap + 1)], (swap, "after")
    )


MISSING = "bq://test-project.no_such_dataset"


def test_a_dataset_that_does_not_exist_is_one_line(warehouse, artifacts):
    with pytest.raises(InputError) as caught:
        deliver_to_bigquery(MISSING, **artifacts[FIRST], version=FIRST)
    assert str(caught.value) == (
        "destination 'test-project.no_such_dataset': does not exist; create it, or give another dataset"
    )


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (
            "CREATE TABLE {} (user_id INT64, rank INT64)",
            "exists but has the columns rank INTEGER, user_id INTEGER",
        ),
        ("CREATE VIEW {} AS SELECT 1 AS user_id", "exists but is a view"),
        (
            "CREATE TABLE {} (user_id STRING, item_id INT64, predicted_score FLOAT64, rank INT64, "
            "delivery_date DATE)",
            "exists but is partitioned by nothing instead of delivery_date",
        ),
    ],
)
def test_another_table_of_the_same_name_stays_as_it_is(warehouse, artifacts, statement, problem):
    path = f"{warehouse.dataset}.recommendations"
    warehouse.client.query(statement.format(f"`{path}`")).result()
    before = warehouse.client.get_table(path).to_api_repr()
    with pytest.raises(InputError, match=f"destination '{path}': {problem}.*; drop or rename it"):
        deliver(warehouse, artifacts, FIRST)
    assert warehouse.client.get_table(path).to_api_repr() == before


REFUSALS = [
    ("query", "bigquery.jobs.create", "roles/bigquery.jobUser"),
    ("create_table", "bigquery.tables.create", "roles/bigquery.dataEditor"),
    ("load_table_from_file", "bigquery.tables.updateData", "roles/bigquery.dataEditor"),
]


@pytest.mark.parametrize(("method", "permission", "role"), REFUSALS)
def test_a_missing_permission_names_the_role(warehouse, artifacts, monkeypatch, method, permission, role):
    # The emulator has no permissions.
    def refuse(*_, **__):
        raise exceptions.Forbidden(f"Access Denied: Permission {permission} denied on resource")

    monkeypatch.setattr(bigquery.Client, method, refuse)
    with pytest.raises(WalsError, match=f"{permission} denied .*; grant {role} to the account"):
        deliver(warehouse, artifacts, FIRST)


def test_bigquery_itself_accepts_the_statements(warehouse, artifacts, googlesql, monkeypatch):
    from tests.components.googlesql.reference import Source
    from tests.components.googlesql.values import scalar

    sent = []
    real = bigquery.Client.query

    def query(self, sql, *arguments, **options):
        sent.append(sql)
        return real(self, sql, *arguments, **options)

    monkeypatch.setattr(bigquery.Client, "query", query)
    monkeypatch.setattr("components.engines.bigquery.BigQuery.drop", lambda *_: None)
    deliver(warehouse, artifacts, FIRST)
    kinds = {"STRING": pa.string(), "INTEGER": pa.int64(), "FLOAT": pa.float64(), "DATE": pa.date32()}
    kinds["TIMESTAMP"] = pa.timestamp("us", "UTC")

    def type_of(field):
        kind = kinds[field.field_type]
        return pa.list_(kind) if field.mode == "REPEATED" else kind

    sources = {}
    for listed in warehouse.client.list_tables(warehouse.dataset):
        table = warehouse.client.get_table(listed)
        schema = pa.schema([(field.name, type_of(field)) for field in table.schema])
        sources[f"{warehouse.dataset}.{listed.table_id}"] = Source(schema.empty_table())
    text = scalar("STRING")
    analyzed = [
        googlesql.analyze(statement, sources, {"version": (text, ""), "served": (text, "")}, "UTC").kind
        for sql in sent
        for statement in filter(str.strip, re.split(r";\n", sql))
    ]
    # Each query is sent twice: the first time for an estimate of its cost.
    replaced = ["TRUNCATE", "INSERT"] * len(TABLES)
    assert analyzed == ["SELECT", "SELECT", "BEGIN", "SELECT", *replaced, "INSERT", "COMMIT"]


@pytest.mark.parametrize(
    "destination", ["my-project.wals", "bq://", "bq://wals", "bq://my-project.a.b", "gs://bucket/wals"]
)
def test_destinations_that_are_no_datasets_are_refused(destination):
    with pytest.raises(
        InputError, match=r"destination .*: is not a dataset in BigQuery; give one such as bq://"
    ):
        BigQueryDelivery(destination=destination)
