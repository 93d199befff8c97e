import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from trainer.errors import InputError
from trainer.matrix import InteractionMatrix, MatrixWriter


def example() -> sparse.csr_array:
    dense = np.array([[0, 1, 0, 2.5], [0, 0, 0, 0], [-3, 0, 4, 0]], np.float32)
    return sparse.csr_array(dense)


def write_in_two_shards(folder: Path) -> None:
    with MatrixWriter(folder, 3, 4) as writer:
        writer.add_rows(1, 2, np.array([0, 2]), np.array([0, 2]), np.array([-3.0, 4.0]))
        writer.add_rows(0, 0, np.array([0, 2, 2]), np.array([1, 3]), np.array([1, 2.5]))
        writer.add_columns(0, 0, np.array([0, 1]), np.array([2]), np.array([-3.0]))
        writer.add_columns(1, 1, np.array([0, 1, 2, 3]), np.array([0, 2, 0]), np.array([1, 4.0, 2.5]))
        writer.finish()


def test_shards_make_up_the_matrix(tmp_path: Path) -> None:
    write_in_two_shards(tmp_path)
    opened = InteractionMatrix.open(tmp_path)
    np.testing.assert_array_equal(opened.to_scipy().toarray(), example().toarray())
    assert [shard.first for shard in opened.by_row] == [0, 2]
    assert opened.row_counts().tolist() == [2, 0, 2]
    assert opened.column_counts().tolist() == [1, 1, 1, 1]
    assert isinstance(opened.by_row[0].indices.base, np.memmap)


_READ = """
import json, sys
from pathlib import Path
from trainer.matrix import InteractionMatrix

def resident():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) << 10

begun = resident()
matrix = InteractionMatrix.open(Path(sys.argv[1]))
opened = resident() - begun
sums = [
    [int(shard.indices.sum()) for shards in (matrix.by_row, matrix.by_column) for shard in shards]
    for _ in range(2)
]
print(json.dumps({"opened": opened, "read": resident() - begun, "sums": sums}))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="requires /proc")
def test_a_matrix_that_was_opened_or_read_does_not_stay_in_memory(tmp_path: Path) -> None:
    side, shards = 2048, 8
    indptr = np.arange(side // shards + 1) * side
    indices = np.tile(np.arange(side), side // shards)
    with MatrixWriter(tmp_path, side, side) as writer:
        for add in (writer.add_rows, writer.add_columns):
            for number in range(shards):
                add(number, number * side // shards, indptr, indices, np.ones(len(indices)))
        writer.finish()
    size = sum(file.stat().st_size for file in tmp_path.rglob("*.npy"))
    shown = subprocess.run(
        [sys.executable, "-c", _READ, str(tmp_path)], check=True, capture_output=True, text=True
    ).stdout
    result = json.loads(shown)
    assert size > 64e6
    assert result["opened"] < size / 5
    assert result["read"] < size / 5
    assert result["sums"] == [[int(indices.sum())] * 2 * shards] * 2


def test_orientations_agree_after_saving_a_matrix_in_memory(tmp_path: Path) -> None:
    InteractionMatrix.from_scipy(example()).save(tmp_path)
    opened = InteractionMatrix.open(tmp_path)
    (columns,) = opened.by_column
    transposed = sparse.csr_array((columns.values, columns.indices, columns.indptr), shape=(4, 3))
    np.testing.assert_array_equal(transposed.toarray().T, example().toarray())


@pytest.mark.parametrize(
    ("indptr", "indices", "values", "message"),
    [
        ([0, 2], [1, 1], [1, 1], "matrix row 0 1: is not above the index before it"),
        ([0, 1, 3], [0, 2, 1], [1, 1, 1], "matrix row 1 1: is not above the index before it"),
        ([0, 1], [4], [1], "matrix row 0 4: is not an index below 4"),
        ([0, 1], [-1], [1], "matrix row 0 -1: is not an index below 4"),
        ([0, 0, 1], [0], [np.nan], "matrix row 1 nan: is not a finite value"),
        ([0, 1], [0], [np.inf], "matrix row 0 inf: is not a finite value"),
        ([0, 2], [0], [1], "does not match the entries"),
        ([1, 1], [0], [1], "does not match the entries"),
    ],
)
def test_invalid_entries_are_refused_by_row(
    tmp_path: Path, indptr: list[int], indices: list[int], values: list[float], message: str
) -> None:
    with pytest.raises(InputError) as caught, MatrixWriter(tmp_path, 3, 4) as writer:
        writer.add_rows(0, 0, np.array(indptr), np.array(indices), np.array(values))
    assert message in str(caught.value)


def test_a_row_may_start_below_the_end_of_the_row_before() -> None:
    matrix = sparse.csr_array((np.ones(3), np.array([3, 0, 1]), np.array([0, 1, 1, 3])), shape=(3, 4))
    assert InteractionMatrix.from_scipy(matrix).entries == 3


def test_a_writer_that_failed_writes_nothing_after_its_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(descriptor: int, flush: Callable[[int], None] = os.fsync) -> None:
        time.sleep(0.02)
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", slowly)

    def write() -> None:
        with MatrixWriter(tmp_path, 3, 4) as writer:
            writer.add_rows(0, 0, np.array([0, 1]), np.array([0]), np.array([1.0]))
            writer.add_rows(1, 1, np.array([0, 1]), np.array([4]), np.array([1.0]))

    with pytest.raises(InputError, match="not an index below 4"):
        write()
    assert not list(tmp_path.rglob("*.tmp"))
    assert sum(path.suffix == ".npy" for path in tmp_path.rglob("*")) == 3


@pytest.mark.parametrize("firsts", [(0,), (1,), (0, 2), (1, 0)])
def test_missing_rows_leave_no_artifact(tmp_path: Path, firsts: tuple[int, ...]) -> None:
    with MatrixWriter(tmp_path, 3, 4) as writer:
        for number, first in enumerate(firsts):
            writer.add_rows(number, first, np.array([0, 1]), np.array([1]), np.array([1.0]))
        with pytest.raises(InputError, match="does not cover the 3 rows of by_row"):
            writer.finish()
    with pytest.raises(InputError, match="has no _manifest"):
        InteractionMatrix.open(tmp_path)


def test_a_disk_failure_while_files_are_flushed_leaves_no_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_in_two_shards(tmp_path)
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


@pytest.mark.parametrize("harm", ["truncate", "change", "remove"])
def test_damaged_files_are_refused(tmp_path: Path, harm: str) -> None:
    write_in_two_shards(tmp_path)
    path = tmp_path / "by_row" / "00001.values.npy"
    content = path.read_bytes()
    if harm == "truncate":
        path.write_bytes(content[:-3])
    elif harm == "change":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        path.unlink()
    with pytest.raises(InputError, match=r"00001\.values\.npy"):
        InteractionMatrix.open(tmp_path)
