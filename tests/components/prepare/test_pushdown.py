"""Preparation in BigQuery gives the same matrix as preparation in this process."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from google.cloud import bigquery

from components.prepare.profile.previous import load_profile
from tests.components.steps import extract, prepare
from trainer.errors import InputError
from trainer.files import MANIFEST

pytestmark = pytest.mark.slow

PARTS = ("training", "holdout", "vocabulary")


def load(warehouse, text_ids, rows=4_000):
    rng = np.random.default_rng(3)
    users, items = rng.integers(-rows // 13, rows // 13, rows), (rng.random(rows) ** 2 * 90).astype(int)
    frame = pd.DataFrame(
        {
            "userId": [f"user {user}" for user in users] if text_ids else users * 10**15,
            "itemId": [f"{item:x}é" for item in items] if text_ids else items,
            "rating": rng.integers(1, 6, rows).astype(float),
            "timestamp": pd.Timestamp("2026-01-01", tz="UTC")
            + pd.to_timedelta(rng.integers(0, 10**10, rows), unit="ms").astype("timedelta64[us]"),
        }
    )
    return warehouse.load("ratings", pa.Table.from_pandas(frame, preserve_index=False))


def prepare_in(folder, **options):
    return prepare(
        interactions=folder / "interactions",
        **{part: folder / part for part in PARTS},
        profile=folder / "profile",
        profile_report=folder / "profile.html",
        **options,
    )


def written(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for part in PARTS
        for file in sorted((folder / part).rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def extracted(reference_of_module, tmp_path_factory):
    """Folders of the same interactions, in this process and in BigQuery, by whether their ids are text."""
    folders = {}
    for text_ids in (False, True):
        source = load(reference_of_module, text_ids, rows=400)
        folders[text_ids] = tmp_path_factory.mktemp("interactions")
        extract(source=source, output=folders[text_ids] / "here")
        staging = reference_of_module.dataset
        staged = extract(source=source, output=folders[text_ids] / "there", staging_dataset=staging)
        assert (staged["rows"], staged["shards"]) == (400, 0)
    return folders


FILTERED = {"min_user_interactions": 2, "min_item_interactions": 3}
CONFIGURATIONS = [
    (False, {}),
    (True, {"split": "random", "holdout_fraction": 0.4, "seed": 11}),
    (True, {"split": "users", "holdout_fraction": 0.3}),
    (False, {"split": "users", "duplicates": "last", "half_life_days": 20.0}),
    (True, {"split": "time", "duplicates": "max", "half_life_days": 20.0}),
    (False, {"split": "time", "holdout_from": "2026-03-01"}),
    (True, {"split": "last"}),
    (False, {"split": "last", "holdout_last": 2, "duplicates": "sum"}),
    (True, FILTERED | {"duplicates": "last"}),
    (False, FILTERED | {"split": "users", "duplicates": "sum", "max_user_interactions": 20}),
]


@pytest.mark.parametrize(("text_ids", "options"), CONFIGURATIONS)
def test_same_bytes_wherever_the_sql_runs(extracted, tmp_path, text_ids, options):
    """BigQuery's part is played by GoogleSQL's reference implementation."""
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "interactions").symlink_to(extracted[text_ids] / place)
        prepare_in(tmp_path / place, **options)
    here, there = written(tmp_path / "here"), written(tmp_path / "there")
    assert "training/by_row/00000.values.npy" in here
    assert here == there
    profiles = [load_profile(str(tmp_path / place / "profile")) for place in ("here", "there")]
    where = {"columns", "source", "checksum"}
    assert profiles[1].model_dump(exclude=where) == profiles[0].model_dump(exclude=where)


def test_more_interactions_than_bigquery_returns(warehouse, returned_rows, tmp_path):
    source = load(warehouse, text_ids=False)
    extract(source=source, output=tmp_path / "interactions", staging_dataset=warehouse.dataset)
    assert prepare_in(tmp_path)["training"]["entries"] > 1_000


def test_what_bigquery_bills_is_in_the_metadata(warehouse, tmp_path, monkeypatch):
    source = load(warehouse, text_ids=False)
    extract(source=source, output=tmp_path / "here" / "interactions")
    extract(source=source, output=tmp_path / "there" / "interactions", staging_dataset=warehouse.dataset)
    # The emulator bills nothing.
    monkeypatch.setattr(bigquery.QueryJob, "total_bytes_billed", 10_000)
    monkeypatch.setattr(bigquery.QueryJob, "slot_millis", 3)
    metadata = prepare_in(tmp_path / "there")["training"]
    queries, part = divmod(metadata["bytes_billed"], 10_000)
    assert (queries > 5, part) == (True, 0)
    assert metadata["slot_milliseconds"] == 3 * queries
    assert "bytes_billed" not in prepare_in(tmp_path / "here")["training"]


def test_a_retry_overwrites_the_tables_of_the_earlier_attempt_which_expire(warehouse, tmp_path):
    extract(
        source=load(warehouse, text_ids=False),
        output=tmp_path / "interactions",
        staging_dataset=warehouse.dataset,
    )
    prepare_in(tmp_path)
    first = written(tmp_path)
    tables = {table.table_id for table in warehouse.client.list_tables(warehouse.dataset)}
    prepare_in(tmp_path)
    assert written(tmp_path) == first
    assert {table.table_id for table in warehouse.client.list_tables(warehouse.dataset)} == tables
    ours = [table for table in tables if table.startswith("wals_")]
    assert len(ours) > 2
    assert all(warehouse.client.get_table(f"{warehouse.dataset}.{table}").expires for table in ours)


def test_a_staged_table_that_is_gone_is_one_line(warehouse, tmp_path):
    extract(
        source=load(warehouse, text_ids=False),
        output=tmp_path / "interactions",
        staging_dataset=warehouse.dataset,
    )
    for table in warehouse.client.list_tables(warehouse.dataset):
        warehouse.client.delete_table(table)
    with pytest.raises(InputError, match="does not exist"):
        prepare_in(tmp_path)
    assert not (tmp_path / "training" / MANIFEST).exists()
