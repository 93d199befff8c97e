"""Parquet files with unusual types and layouts: read as they are meant, or refused in one line."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.components import steps
from trainer.config import TrainConfig
from trainer.errors import WalsError
from trainer.matrix import InteractionMatrix
from trainer.training import fit

pytestmark = pytest.mark.attack

NUMBERS = {
    "user_id": [row % 8 for row in range(48)],
    "item_id": [(row // 8 + row) % 6 for row in range(48)],
    "rating": [row % 5 + 1 for row in range(48)],
}
Make = Callable[[list[int]], Any]
TYPES: dict[str, Make] = {
    "decimal128": lambda numbers: pa.array(map(Decimal, numbers), pa.decimal128(20, 2)),
    "decimal128 of integers": lambda numbers: pa.array(map(Decimal, numbers), pa.decimal128(9, 0)),
    "decimal256": lambda numbers: pa.array(map(Decimal, numbers), pa.decimal256(50, 3)),
    "time32": lambda numbers: pa.array(numbers, pa.int32()).cast(pa.time32("s")),
    "time64": lambda numbers: pa.array(numbers, pa.int64()).cast(pa.time64("ns")),
    "duration": lambda numbers: pa.array(numbers, pa.duration("s")),
    "date": lambda numbers: pa.array(numbers, pa.int32()).cast(pa.date32()),
    "time with a zone": lambda numbers: pa.array(numbers, pa.timestamp("us", tz="Europe/Berlin")),
    "int96": lambda numbers: pa.array(numbers, pa.timestamp("ns")),
    "dictionary of integers": lambda numbers: pa.array(numbers).dictionary_encode(),
    "dictionary of text": lambda numbers: pa.array(map(str, numbers)).dictionary_encode(),
    "list": lambda numbers: pa.array([[number] for number in numbers]),
    "struct": lambda numbers: pa.array([{"a": number} for number in numbers]),
    "map": lambda numbers: pa.array(
        [[("a", number)] for number in numbers], pa.map_(pa.string(), pa.int64())
    ),
    "large text": lambda numbers: pa.array(map(str, numbers), pa.large_string()),
    "view of text": lambda numbers: pa.array(map(str, numbers), pa.string_view()),
    "binary of a fixed size": lambda numbers: pa.array(
        [b"%04d" % number for number in numbers], pa.binary(4)
    ),
    "binary": lambda numbers: pa.array([b"\xff%d" % number for number in numbers]),
    "large binary": lambda numbers: pa.array([b"%d" % number for number in numbers], pa.large_binary()),
    "uint64": lambda numbers: pa.array([2**64 - 1 - number for number in numbers], pa.uint64()),
    "int8": lambda numbers: pa.array(numbers, pa.int8()),
    "float16": lambda numbers: pa.array(np.array(numbers, np.float16)),
    "float64": lambda numbers: pa.array(numbers, pa.float64()),
    "boolean": lambda numbers: pa.array([number % 2 == 0 for number in numbers]),
    "null": lambda numbers: pa.nulls(len(numbers)),
}


def used(source: Path, folder: Path) -> dict[str, list[Any]] | None:
    """Return the interactions of a file that a model was trained on, or None if a line refuses it."""
    names = ("training", "holdout", "vocabulary", "profile", "profile_report")
    try:
        steps.extract(source=str(source), output=folder / "interactions")
        outputs = {name: folder / name for name in names}
        steps.prepare(interactions=folder / "interactions", holdout_fraction=0.3, **outputs)
        fit(InteractionMatrix.open(folder / "training"), TrainConfig(latent_factors=2, num_iters=1))
    except WalsError:
        return None
    shards = sorted((folder / "interactions").glob("*.parquet"))
    columns: dict[str, list[Any]] = pa.concat_tables(map(pq.read_table, shards)).to_pydict()
    return columns


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("column", NUMBERS)
def test_a_column_has_the_values_of_its_file_or_is_refused(column: str, kind: str, tmp_path: Path) -> None:
    table = pa.table({**NUMBERS, column: TYPES[kind](NUMBERS[column])})
    pq.write_table(table, tmp_path / "a.parquet", use_deprecated_int96_timestamps=kind == "int96")
    found = used(tmp_path / "a.parquet", tmp_path)
    assert found is None or kind not in ("list", "struct", "map", "null")
    if found and column == "rating":
        offset = 2**64 - 1 if kind == "uint64" else 0
        sign = -1 if kind == "uint64" else 1
        meant = np.array(offset + sign * np.array(NUMBERS["rating"], float), np.float32)
        assert sorted(found["rating"]) == sorted(meant.tolist())
    elif found:
        pairs = set(zip(found[column], found["rating"], strict=True))
        assert len(pairs) == len(set(zip(NUMBERS[column], NUMBERS["rating"], strict=True)))


LAYOUTS: dict[str, Callable[[Path], object]] = {
    "no columns": lambda path: pq.write_table(pa.table({}), path),
    "no row groups": lambda path: pq.ParquetWriter(path, pa.table(NUMBERS).schema).close(),
    "no rows": lambda path: pq.write_table(pa.table(NUMBERS).slice(0, 0), path),
    "names that differ in case": lambda path: write(path, ["user_id", "item_id", "rating", "RATING"]),
    "the same name twice": lambda path: write(path, ["user_id", "item_id", "rating", "rating"]),
    "no name": lambda path: write(path, ["", "item_id", "rating", "other"]),
    "a null character in a name": lambda path: write(path, ["user\0id", "item_id", "rating", "x"]),
    "encrypted": lambda path: encrypt(path),
    "cut": lambda path: (
        write(path, ["user_id", "item_id", "rating", "x"]),
        path.write_bytes(path.read_bytes()[:-9]),
    ),
}


def write(path: Path, names: list[str]) -> None:
    columns = [*NUMBERS.values(), NUMBERS["rating"]]
    pq.write_table(pa.Table.from_arrays(list(map(pa.array, columns)), names), path)


def cut(path: Path) -> None:
    """Write a file without its end."""
    write(path, ["user_id", "item_id", "rating", "x"])
    path.write_bytes(path.read_bytes()[:-9])


def encrypt(path: Path) -> None:
    """Write a file whose footer says that it is encrypted."""
    write(path, ["user_id", "item_id", "rating", "x"])
    path.write_bytes(path.read_bytes()[:-4] + b"PARE")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_that_cannot_be_read_is_refused(layout: str, tmp_path: Path) -> None:
    LAYOUTS[layout](tmp_path / "a.parquet")
    assert used(tmp_path / "a.parquet", tmp_path) is None
