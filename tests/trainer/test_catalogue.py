"""The catalogue artifact: what is written is read, and nothing else."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer import catalogue
from trainer.catalogue import CatalogueTables, no_items, read_catalogue, write_catalogue
from trainer.errors import InputError
from trainer.files import MANIFEST, sha256
from trainer.vocabulary import Vocabulary

ITEMS = pa.table(
    {
        "item_id": ["7", "07", "é"],
        "title": ["Seven", None, "<b>E</b>"],
        "category": pa.array([None, None, "letters"], pa.string()),
    }
)

UNSORTED = "has ids that are missing, repeated or not in ascending order"


def ids(*values: str) -> "pa.Array[Any]":
    return pa.array(values, pa.string())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_catalogue(tmp_path, CatalogueTables(ITEMS, ids("9", "10"), ids()))
    return tmp_path


def rewritten(folder: Path, part: str, table: pa.Table, rows: int | None = None) -> None:
    """Replace a file by another one, which the manifest then describes."""
    path = folder / f"{part}.parquet"
    pq.write_table(table, path)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["tables"][part] = {"rows": table.num_rows if rows is None else rows, "sha256": sha256(path)}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_what_is_written_is_read_in_the_order_of_the_ids(folder: Path) -> None:
    read = read_catalogue(folder)
    assert read.items.equals(ITEMS.take([1, 0, 2]))
    assert read.described(Vocabulary.of(["7", "é"]))["title"].to_pylist() == ["Seven", "<b>E</b>"]
    assert read.blocked is not None
    assert read.available is not None
    assert read.blocked.to_pylist() == ["10", "9"]
    assert read.available.to_pylist() == []


@pytest.mark.parametrize(
    "items",
    [
        {"title": ["Heat", None], "item_id": [7, 10]},
        pd.DataFrame({"item_id": [7, 10], "title": ["Heat", None], "price": [1.5, 2.5]}),
        pa.table({"item_id": pa.array(["7", "10"]), "title": pa.array(["Heat", None], pa.large_string())}),
        pa.table({"item_id": pa.chunked_array([[10], [7]]), "title": pa.chunked_array([[None, "Heat"]])}),
    ],
    ids=["lists", "data frame", "Arrow", "chunks"],
)
def test_a_catalogue_of_items_in_any_form(items: Any, tmp_path: Path) -> None:
    known = CatalogueTables.of(items, blocked={9}, available=[7, 10])
    expected = [
        {"item_id": "10", "title": None, "category": None},
        {"item_id": "7", "title": "Heat", "category": None},
    ]
    assert known.items.to_pylist() == expected
    write_catalogue(tmp_path, known)
    read = read_catalogue(tmp_path)
    assert read.items.to_pylist() == expected
    assert [None if part is None else part.to_pylist() for part in (read.blocked, read.available)] == [
        ["9"],
        ["10", "7"],
    ]


@pytest.mark.parametrize(
    ("items", "line"),
    [
        ({"id": [1]}, "items 'id': has no column item_id; give one, with the ids as text"),
        ({"item_id": [1, 1]}, "item_id '': is missing in a row, or occurs twice; give one row for each item"),
        ({"item_id": ["1", None]}, "item_id '': is missing in a row, or occurs twice; give one row for"),
        ({"item_id": [1], "title": [[1]]}, "title '': has values of several types; give text"),
        ({"item_id": [1, "a"]}, "item_id '': has values of several types; give text"),
    ],
)
def test_items_that_cannot_be_used_are_one_line(items: Any, line: str) -> None:
    with pytest.raises(InputError, match=f"^{line}"):
        CatalogueTables.of(items)


def test_parts_that_are_not_given_are_none_even_if_an_earlier_attempt_wrote_them(folder: Path) -> None:
    write_catalogue(folder, CatalogueTables(no_items()))
    assert [path.name for path in folder.iterdir()] == [MANIFEST]
    read = read_catalogue(folder)
    assert (read.items.num_rows, read.blocked, read.available) == (0, None, None)
    assert read.described(Vocabulary.of([1, 2])).to_pylist() == [{"title": None, "category": None}] * 2


def test_the_items_of_a_model_are_described_in_its_order(folder: Path) -> None:
    read = read_catalogue(folder)
    assert read.described(Vocabulary.of([8, 7])).to_pylist() == [
        {"title": "Seven", "category": None},
        {"title": None, "category": None},
    ]
    assert read.described(Vocabulary.of(["é", "7", "07"]))["title"].to_pylist() == [None, "Seven", "<b>E</b>"]


@pytest.mark.parametrize(
    ("part", "table", "rows", "problem"),
    [
        ("blocked", pa.table({"item_id": [1, 2]}), None, "has other columns than item_id, all text"),
        (
            "items",
            pa.table({"item_id": ["1"]}),
            None,
            "has other columns than item_id, title, category, all text",
        ),
        ("blocked", pa.table({"item_id": ["1", "1"]}), None, UNSORTED),
        ("blocked", pa.table({"item_id": ["2", "1"]}), None, UNSORTED),
        ("blocked", pa.table({"item_id": ids(None)}), None, UNSORTED),  # type: ignore[arg-type]
        ("blocked", pa.table({"item_id": ["1"]}), 2, "has 1 rows, not 2"),
    ],
)
def test_other_content_is_refused(
    folder: Path, part: str, table: pa.Table, rows: int | None, problem: str
) -> None:
    rewritten(folder, part, table, rows)
    with pytest.raises(InputError, match=rf"{part}.parquet': {problem}; run the extraction again"):
        read_catalogue(folder)


def test_more_rows_than_fit_in_memory_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "MAX_ROWS", 2)
    with pytest.raises(InputError, match="has 3 rows, not 2"):
        read_catalogue(folder)


def test_a_file_that_is_damaged_or_missing_is_named(folder: Path) -> None:
    path = folder / "items.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    with pytest.raises(InputError, match=r"items.parquet': does not match the checksum"):
        read_catalogue(folder)
    path.unlink()
    with pytest.raises(InputError, match=r"items.parquet': cannot be read"):
        read_catalogue(folder)


def test_a_file_that_is_not_parquet_is_named(folder: Path) -> None:
    rewritten(folder, "items", ITEMS)
    (folder / "items.parquet").write_bytes(b"PAR1")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["tables"]["items"]["sha256"] = sha256(folder / "items.parquet")
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"items.parquet': is not a readable Parquet file"):
        read_catalogue(folder)


def test_another_part_is_refused(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["tables"]["../../etc/passwd"] = manifest["tables"]["items"]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"_manifest.json': has an invalid tables"):
        read_catalogue(folder)
