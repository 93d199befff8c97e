"""The source and the staging dataset, with real files and the emulator of BigQuery."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from components.extract.options import ExtractOptions
from components.probe.source import source


def test_a_file_is_ok_with_its_columns(ratings_csv: Path) -> None:
    (found,) = source(ExtractOptions(source=str(ratings_csv), window_days=7))
    assert found.status == "ok"
    assert (
        found.found
        == f"{ratings_csv} can be read; columns user=userId item=movieId rating=rating time=timestamp"
    )


@pytest.mark.parametrize("content", [None, "", "userId\n1\n"])
def test_a_file_that_cannot_be_used_is_to_fix_with_the_extractions_own_remedy(
    tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "ratings.csv"
    if content is not None:
        path.write_text(content, "utf-8")
    (found,) = source(ExtractOptions(source=str(path)))
    assert found.status == "fix"
    assert str(path) in found.found
    assert found.remedy
    assert found.remedy not in found.found


def test_a_store_that_refuses_is_to_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    (found,) = source(ExtractOptions(source="s3://bucket/ratings.csv"))
    assert (found.check, found.status) == ("source", "fix")
    assert "the store failed on s3://bucket/ratings.csv" in found.found


def test_a_table_is_ok_with_the_bytes_that_it_would_cost(warehouse: Any) -> None:
    table = pa.table({"user_id": [1, 2], "item_id": [3, 4], "rating": [1.0, 2.0]})
    options = ExtractOptions(source=warehouse.load("ratings", table), staging_dataset=warehouse.dataset)
    read, staged = source(options)
    assert (read.status, staged.status) == ("ok", "ok")
    assert "user=user_id item=item_id rating=rating time=none (no column)" in read.found
    assert "the query would read 0 bytes" in read.found
    assert staged.found == f"tables can be created in {warehouse.dataset} and deleted again"
    assert [table.table_id for table in warehouse.client.list_tables(warehouse.dataset)] == ["ratings"]


def test_a_missing_table_and_dataset_are_to_fix(warehouse: Any) -> None:
    options = ExtractOptions(source=f"bq://{warehouse.dataset}.none", staging_dataset="test-project.none")
    read, staged = source(options)
    assert (read.status, staged.status) == ("fix", "fix")
    assert "none" in read.found
    assert "none" in staged.found
