"""The catalogue of the items, from files, stores and BigQuery."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.extract import catalogue
from components.extract.options import ExtractOptions
from components.extract.step import extract
from components.probe.source import source
from trainer.catalogue import CatalogueTables, read_catalogue
from trainer.errors import CombinedInputError, InputError
from trainer.files import MANIFEST

ROOT = Path(__file__).parents[3]
MOVIES = ROOT / "data" / "ml-latest-small" / "movies.csv"

Extracted = Callable[..., CatalogueTables]


@pytest.fixture
def extracted(tmp_path: Path) -> Extracted:
    """Extract a catalogue whose sources are texts of files, or places."""

    def run(**options: Any) -> CatalogueTables:
        for field in ("items", "blocked_items", "available_items"):
            text = options.get(field, "")
            if "\n" in text:
                options[field] = str(tmp_path / f"{field}.csv")
                Path(options[field]).write_bytes(text.encode())
        ratings = tmp_path / "ratings.csv"
        ratings.write_text("user,item,rating\n1,2,3\n", "utf-8")
        folders = {name: tmp_path / name for name in ("interactions", "catalogue")}
        extract(ExtractOptions(source=str(ratings), **options), **folders)
        return read_catalogue(folders["catalogue"])

    return run


def rows(found: CatalogueTables) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in found.items.to_pylist()]


def ids(array: "pa.Array[Any] | None") -> list[Any] | None:
    return None if array is None else array.to_pylist()


def test_without_sources_it_is_empty(extracted: Extracted) -> None:
    found = extracted()
    assert (rows(found), found.blocked, found.available) == ([], None, None)


def test_movielens_as_it_is(extracted: Extracted) -> None:
    found = {row[0]: row[1:] for row in rows(extracted(items=str(MOVIES)))}
    assert len(found) == 9_125
    assert found["1"] == ("Toy Story (1995)", "Adventure")
    assert found["126106"] == ("Beastie Boys: Sabotage (1994)", "(no genres listed)")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("SKU;Product Name;Department", ("01", "<b>A & B</b>", "x")),
        ("id;title;genre", ("01", "<b>A & B</b>", "x")),
        ("category;name;item_id", (" x |y", "<b>A & B</b>", "01")),
        ("isbn;headline;shelf", ("01", "<b>A & B</b>", None)),
        ("asin;colour;main_category", ("01", None, "x")),
    ],
)
def test_usual_names_of_columns(extracted: Extracted, header: str, expected: tuple[Any, ...]) -> None:
    assert rows(extracted(items=f"{header}\n01; <b>A & B</b> ; x |y\n")) == [expected]


def test_columns_that_are_named(extracted: Extracted) -> None:
    text = "nr,title,titel,art\n7,no,ja,b\n"
    options = {"item_title_column": "titel", "item_category_column": "art"}
    # The interactions have their own column.
    with pytest.raises(InputError, match="usual name for ids"):
        extracted(items=text, **options)
    ratings = {"item_column": "item"}
    assert rows(extracted(items=text.replace("nr", "item"), **ratings, **options)) == [("7", "ja", "b")]


def test_the_column_of_the_interactions_is_used_where_there_is_one(tmp_path: Path) -> None:
    ratings = tmp_path / "ratings.csv"
    ratings.write_text("user,nr,rating\n1,2,3\n", "utf-8")
    (tmp_path / "items.csv").write_text("item_id,nr,title\n1,2,Two\n", "utf-8")
    (tmp_path / "blocked.csv").write_text("item_id\n3\n", "utf-8")
    options = ExtractOptions(
        source=str(ratings),
        item_column="nr",
        items=str(tmp_path / "items.csv"),
        blocked_items=str(tmp_path / "blocked.csv"),
    )
    extract(options, interactions=tmp_path / "interactions", catalogue=tmp_path / "catalogue")
    found = read_catalogue(tmp_path / "catalogue")
    assert (rows(found), ids(found.blocked)) == ([("2", "Two", None)], ["3"])


def test_what_is_missing_in_a_row_is_added_by_others_of_the_item(extracted: Extracted) -> None:
    text = "sku,title,category\nb,,\na,Shirt,\na,,tops\na,Shirt,\n"
    assert rows(extracted(items=text)) == [("a", "Shirt", "tops"), ("b", None, None)]


def test_long_titles_are_cut(extracted: Extracted) -> None:
    ((_, title, category),) = rows(extracted(items=f"sku,title,category\na,{'é' * 400},{'ü' * 301}\n"))
    assert (title, category) == ("é" * 300, "ü" * 300)


def test_lists_of_ids(extracted: Extracted) -> None:
    found = extracted(
        blocked_items="item_id\n10\n9\n\n10\n", available_items="price,sku\n1,a|b\n2,c;d\n3,<e>\n"
    )
    assert ids(found.blocked) == ["10", "9"]
    assert ids(found.available) == ["<e>", "a|b", "c;d"]


def test_everything_in_text_is_text(extracted: Extracted) -> None:
    found = extracted(items="sku,title\n1.5,2020-01-01\n2020-01-01,1.5\n", blocked_items="sku\ntrue\nfalse\n")
    assert rows(found) == [("1.5", "2020-01-01", None), ("2020-01-01", "1.5", None)]
    assert ids(found.blocked) == ["false", "true"]
    assert rows(extracted(items="sku,title\n1.5,2.5\n7.0,1\n")) == [("1.5", "2.5", None), ("7.0", "1", None)]


def test_damage_in_a_compressed_file_is_found(extracted: Extracted, tmp_path: Path) -> None:
    path = tmp_path / "items.csv.gz"
    content = bytearray(gzip.compress(b"sku,title\n1,One\n", mtime=0))
    path.write_bytes(content)
    assert rows(extracted(items=str(path))) == [("1", "One", None)]
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"^items '.*items.csv.gz': is damaged"):
        extracted(items=str(path))


def test_nothing_may_be_blocked(extracted: Extracted) -> None:
    assert ids(extracted(blocked_items="item_id\n").blocked) == []


def test_parquet_files_of_several_widths(extracted: Extracted, tmp_path: Path) -> None:
    folder = tmp_path / "items"
    folder.mkdir()
    first = pa.table({"item_id": pa.array([7], pa.int32()), "name": ["x"]})
    pq.write_table(first, folder / "0.parquet")
    pq.write_table(pa.table({"item_id": [2**62], "name": ["y"]}), folder / "1.parquet")
    assert rows(extracted(items=str(folder))) == [("4611686018427387904", "y", None), ("7", "x", None)]
    pq.write_table(pa.table({"item_id": ["7"], "name": ["y"]}), folder / "1.parquet")
    with pytest.raises(
        InputError, match=r"^items '.*': column 'item_id' holds integers in .* and .* text in "
    ):
        extracted(items=str(folder))


def test_the_same_files_give_the_same_bytes(extracted: Extracted, tmp_path: Path) -> None:
    def content() -> list[bytes]:
        return [file.read_bytes() for file in sorted((tmp_path / "catalogue").iterdir())]

    extracted(items=str(MOVIES), blocked_items="item_id\n1\n2\n")
    before = content()
    extracted(items=str(MOVIES), blocked_items="item_id\n2\n1\n")
    assert content() == before


NO_HEADER = "none of its columns A12 has a usual name for ids; give it a header with a name such as item_id, "


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"blocked_items": "A12\nB13\n"}, f"blocked_items '.*': {NO_HEADER}"),
        (
            {"items": "id,colour\n1,red\n"},
            "items '.*': none of its columns id, colour has a usual name for titles",
        ),
        ({"items": "itemId,item_id,title\n1,1,a\n"}, "item_column 'itemId, item_id': are ambiguous"),
        (
            {"items": "sku,title\n1,a\n", "item_title_column": "b"},
            "item_title_column 'b': is not among the col",
        ),
        (
            {"items": "sku,title\n1,a\n1,b\n"},
            "items '.*': has several titles for 1 item, such as '1'; give each",
        ),
        (
            {"items": "sku,genre\n1,a|c\n1,b|a\n"},
            "items '.*': has several categories for 1 item, such as '1'",
        ),
        ({"items": "sku,title\n1,a\n ,b\n"}, "items '.*': has rows without an id; remove or fix them"),
        ({"blocked_items": "sku,day\n1,a\n,b\n"}, "blocked_items '.*': has rows without an id"),
        (
            {"available_items": "sku\n"},
            "available_items '.*': has no rows; give at least one item, or omit it",
        ),
        ({"items": "sku,title\n"}, "items '.*': has no rows"),
        (
            {"items": "sku,title\n1,a\n2\n"},
            "items '.*': its rows have only the column sku,title; give ids with titles",
        ),
        ({"items": "sku\n1\n"}, "items '.*': its rows have only the column sku; give ids with titles"),
        ({"items": "none.csv"}, "items 'none.csv': there is no such file"),
    ],
)
def test_a_source_that_cannot_be_used_is_one_line(
    extracted: Extracted, tmp_path: Path, options: dict[str, str], line: str
) -> None:
    extracted(items=str(MOVIES))
    with pytest.raises(InputError, match=f"^{line}") as caught:
        extracted(**options)
    assert "\n" not in str(caught.value)
    for name in ("catalogue", "interactions"):
        assert not (tmp_path / name / MANIFEST).exists(), "an artifact of the first attempt"


def test_more_items_than_fit_in_memory_are_refused(
    extracted: Extracted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "MAX_ROWS", 2)
    assert ids(extracted(blocked_items="sku\na\nb\nb\n").blocked) == ["a", "b"]
    with pytest.raises(InputError, match=r"blocked_items '.*': has more than 2 items"):
        extracted(blocked_items="sku\na\nb\nc\n")


@pytest.mark.parametrize("kind", [pa.float64(), pa.date32(), pa.list_(pa.string())])
def test_columns_of_other_types_are_refused(extracted: Extracted, tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"sku": [1], "title": pa.array([None], kind)}), path)
    with pytest.raises(
        InputError, match=r"item_title_column 'title': holds .*, not text; convert it to text"
    ):
        extracted(items=str(path))


def test_what_the_options_refuse() -> None:
    with pytest.raises(CombinedInputError) as caught:
        ExtractOptions(
            source="ratings.csv",
            items="https://example.org/items.csv",
            blocked_items="bq://project.blocked",
            available_items="s3://key:secret@bucket/available.csv",
            item_title_column="title",
        )
    assert [str(problem) for problem in caught.value.problems] == [
        "items 'https://example.org/items.csv': is not a readable source; "
        "give files, or an address with gs://, s3:// or bq://",
        "blocked_items 'bq://project.blocked': is not a BigQuery table; give bq://PROJECT.DATASET.TABLE",
        "available_items 's3://***@bucket/available.csv': contains credentials; "
        "put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ]
    with pytest.raises(InputError, match="item_title_column 'name': requires items; give them, or omit it"):
        ExtractOptions(source="ratings.csv", item_title_column="name")


ITEMS = pa.table(
    {
        "productId": [1, 2, 2, -3, 4, 5],
        "title": ["One", "", "Zwei | 2", "", "x" * 310, " "],
        "genres": ["a\nb|c", "|a", "|b", None, "é|è", "ü"],
        "other": [1.5] * 6,
    }
)
FOUND = [
    ("-3", None, None),
    ("1", "One", "a\nb"),
    ("2", "Zwei | 2", None),
    ("4", "x" * 300, "é"),
    ("5", None, "ü"),
]


def test_both_engines_read_the_same(extracted: Extracted, reference: Any, tmp_path: Path) -> None:
    pq.write_table(ITEMS, tmp_path / "items.parquet")
    assert rows(extracted(items=str(tmp_path / "items.parquet"))) == FOUND
    places = {"items": reference.load("items", ITEMS), "blocked_items": reference.load("ids", ITEMS)}
    found = extracted(**places)
    assert (rows(found), ids(found.blocked)) == (FOUND, [row[0] for row in FOUND])
    with pytest.raises(InputError, match=r"items 'bq://.*': has several titles for 1 item, such as '2'"):
        extracted(items=reference.load("twice", pa.table({"item_id": [2, 2], "name": ["a", "b"]})))


def test_tables_of_a_warehouse(extracted: Extracted, warehouse: Any, tmp_path: Path) -> None:
    place = warehouse.load("items", ITEMS)
    found = extracted(items=place, available_items=place)
    assert (rows(found), ids(found.available)) == (FOUND, [row[0] for row in FOUND])
    with pytest.raises(InputError, match=r"BigQuery '.*\.none': does not exist"):
        extracted(items=f"{place.rpartition('.')[0]}.none")
    assert not (tmp_path / "catalogue" / MANIFEST).exists()
    options = ExtractOptions(source="none.csv", items=place, blocked_items=str(MOVIES))
    _, items, blocked = source(options)
    assert (items.check, items.status) == ("items", "ok")
    assert "the query would read 0 bytes" in items.found
    assert blocked.found == f"{MOVIES} can be read; columns movieId, title, genres"


def test_a_source_that_the_probe_cannot_use_is_to_fix(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("A12\nB13\n", "utf-8")
    options = ExtractOptions(source=str(tmp_path / "list.csv"), blocked_items=str(tmp_path / "list.csv"))
    _, blocked = source(options)
    assert (blocked.check, blocked.status) == ("blocked_items", "fix")
    assert "give it a header" in blocked.remedy
