"""DuckDB inside the process: what goes wrong in mid-read is told as what goes wrong before it."""

import duckdb
import pytest

from components.engines.embedded import DuckDB
from trainer.errors import WalsError

NUMBERS = "(SELECT number FROM UNNEST(GENERATE_ARRAY(1, 3000000)) AS number)"


def test_a_row_that_cannot_be_computed_in_mid_read():
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
