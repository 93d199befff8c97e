"""DuckDB inside the process: errors during reading are reported like errors before it."""

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.engines import duckdb as engine
from components.engines.duckdb import DuckDB
from trainer.errors import WalsError

NUMBERS = "(SELECT number FROM UNNEST(GENERATE_ARRAY(1, 3000000)) AS number)"


def test_a_row_that_cannot_be_computed_during_reading():
    with DuckDB.open(ordered=True) as database:
        rows = database.stream(f"SELECT CAST(IF(number = 2900000, 'x', '1') AS INT64) AS one FROM {NUMBERS}")
        assert next(rows).num_rows
        with pytest.raises(duckdb.Error, match="Could not convert"):
            list(rows)


def test_too_little_room_for_a_query_is_one_line():
    with DuckDB.open(ordered=True) as database:
        for setting in ("memory_limit = '30MB'", "max_temp_directory_size = '1MB'"):
            database.connection.execute(f"SET {setting}")
        with pytest.raises(WalsError, match="Out of Memory"):
            list(database.stream(f"SELECT number FROM {NUMBERS} ORDER BY CONCAT(number, 'x') DESC"))


def test_a_long_export_logs_its_progress(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(engine, "_LOG_EVERY", 0.05)
    query = (
        f"SELECT number AS user_id, number AS item_id, 1.5 AS rating FROM {NUMBERS} ORDER BY MOD(number, 7)"
    )
    with DuckDB.open(ordered=True) as database, caplog.at_level("INFO"):
        exported = database.export(
            query, tmp_path / "it's.parquet", types={"rating": "FLOAT"}, rows_per_group=1 << 20, packed=True
        )
    assert exported.rows == 3_000_000
    assert exported.statistics["user_id"]["max"] == "3000000"
    assert exported.statistics["rating"]["null_count"] == "0"
    assert "% of the source read" in caplog.text
    assert pq.read_schema(tmp_path / "it's.parquet").field("rating").type == pa.float32()


def test_an_export_that_fails_midway_says_why(tmp_path):
    query = f"SELECT CAST(IF(number = 2900000, 'x', '1') AS INT64) AS one FROM {NUMBERS}"
    with DuckDB.open(ordered=True) as database, pytest.raises(duckdb.Error, match="Could not convert"):
        database.export(query, tmp_path / "file", types={"one": "BIGINT"}, rows_per_group=1024, packed=True)
