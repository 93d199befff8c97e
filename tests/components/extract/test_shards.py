"""Record batches as the files of an artifact."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.extract import shards
from trainer.errors import InputError
from trainer.files import check_file


def batches(sizes, ratings=None):
    """Yield batches of the given sizes, with users numbered consecutively."""
    start = 0
    for size in sizes:
        users = np.arange(start, start + size)
        values = np.ones(size) if ratings is None else ratings[start : start + size]
        yield pa.RecordBatch.from_pydict({"user_id": users, "item_id": users % 7, "rating": values})
        start += size


def test_rows_keep_their_order_over_shards_of_equal_size(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "ROWS_PER_GROUP", 1_000)
    monkeypatch.setattr(shards, "_ROWS_PER_SHARD", 4_000)
    written = shards.write_shards(tmp_path, "source", batches([1, 2_500, 0, 13_000, 9_499]))
    assert [shard["rows"] for shard in written.shards] == [4_000] * 6 + [1_000]
    assert [shard["path"] for shard in written.shards] == [
        f"part-{number:05d}.parquet" for number in range(7)
    ]
    assert not written.faulty
    for shard in written.shards:
        check_file(tmp_path / shard["path"], shard["sha256"])
    whole = pa.concat_tables(pq.read_table(tmp_path / shard["path"]) for shard in written.shards)
    assert whole["user_id"].to_pylist() == list(range(25_000))
    assert {column["name"]: column["type"] for column in written.columns}["rating"] == "float"


def test_one_bad_rating_in_a_later_shard_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "ROWS_PER_GROUP", 1_000)
    monkeypatch.setattr(shards, "_ROWS_PER_SHARD", 1_000)
    ratings = np.ones(3_000)
    ratings[2_100] = np.inf
    assert shards.write_shards(tmp_path, "source", batches([3_000], ratings)).faulty == {"rating"}


def test_no_rows_are_refused(tmp_path):
    with pytest.raises(InputError, match="yields no rows"):
        shards.write_shards(tmp_path, "source", batches([]))
