"""Extraction from CSV and Parquet files."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.extract.step import extract
from trainer.errors import InputError
from trainer.files import MANIFEST


@pytest.fixture
def extracted(tmp_path):
    """Extract the text of a CSV file (or any source) and return the interactions."""

    def run(content, **arguments):
        source = content
        if isinstance(content, (str, bytes)):
            source = tmp_path / "ratings.csv"
            source.write_bytes(content if isinstance(content, bytes) else content.encode())
        output = tmp_path / "interactions"
        extract(source=str(source), output=output, **arguments)
        return pq.read_table(sorted(output.glob("part-*.parquet")))

    return run


def rows(table):
    return [tuple(row.values()) for row in table.to_pylist()]


def test_usual_column_names_are_found_in_any_case_and_order(extracted):
    table = extracted("Rating,MOVIEID,timestamp,user_id\n4.5,7,1260759144,1\n3,8,1260759144000,2\n")
    assert table.schema.names == ["user_id", "item_id", "rating", "event_time"]
    assert table.schema.types == [pa.int64(), pa.int64(), pa.float32(), pa.timestamp("us", tz="UTC")]
    assert table["rating"].to_pylist() == [4.5, 3]
    assert {str(time) for time in table["event_time"].to_pylist()} == {"2009-12-14 02:52:24+00:00"}


def test_mapped_columns_and_delimiter(extracted):
    table = extracted(
        "who;what?;how much\na;x;1\n",
        user_column="who",
        item_column="what?",
        rating_column="how much",
        delimiter=";",
    )
    assert rows(table) == [("a", "x", 1)]


def test_files_without_header_are_read_by_position(extracted):
    table = extracted("1::10::5::978300760\n2::20::4::978300761\n", delimiter="::", has_header=False)
    assert [row[:3] for row in rows(table)] == [(1, 10, 5), (2, 20, 4)]


def test_ids_that_differ_only_as_text_stay_apart(extracted):
    assert [row[0] for row in rows(extracted("user,item,rating\n1,1,1\n01,1,1\n"))] == ["1", "01"]


def test_text_after_many_integers_makes_all_ids_text(extracted):
    many = "".join(f"{user},1,1\n" for user in range(50_000))
    table = extracted(f"user,item,rating\n{many}last,1,1\n")
    assert table["user_id"].type == pa.string()
    assert table["item_id"].type == pa.int64()
    assert table["user_id"].to_pylist()[-2:] == ["49999", "last"]


def test_awkward_text_survives(extracted):
    table = extracted(
        b'\xef\xbb\xbfuser,item,rating\r\n"a,b","line\nbreak",1\r\n\xf0\x9f\x98\x80,"say ""hi""",2\r\n'
    )
    assert rows(table) == [("a,b", "line\nbreak", 1), ("😀", 'say "hi"', 2)]


def test_window(extracted):
    table = extracted(
        "user,item,rating,timestamp\n1,1,1,2020-01-01\n2,2,2,2020-01-02\n3,3,3,2020-01-03\n",
        window_start="2020-01-02",
        window_end="2020-01-03",
    )
    assert table["user_id"].to_pylist() == [2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("user,item,rating\n", "no rows"),
        ("user,thing,rating\n1,2,3\n", "user, thing, rating has a usual name.*--item-column NAME"),
        ("user,User,item,rating\n1,1,2,3\n", "several columns 'user'"),
        ("userId,user_id,item,rating\n1,1,2,3\n", "user_column 'userId, user_id': may each be meant"),
        ("user,item,rating\n1,1,1\n1,2,lots\n", r"rating 'lots': .* \(row 2\)"),
        ("user,item,rating\n1,1,nan\n", r"rating 'nan': .* \(row 1\)"),
        ("user,item,rating\n1,1,inf\n", r"rating 'inf': .* \(row 1\)"),
        ("user,item,rating\n1,1,1e39\n", r"rating '1e39': .* \(row 1\)"),
        ("user,item,rating\n1,1,1\n,1,2\n", r"user .*no user id \(row 2\)"),
        ("user,item,rating\na,1,1\nb,   ,2\n", r"item .*no item id \(row 2\)"),
        ("user,item,rating\n1.5,1,1\n", "user_column 'user': holds fractions"),
    ],
)
def test_bad_rows_are_one_line_and_nothing_is_published(extracted, tmp_path, content, message):
    with pytest.raises(InputError, match=message) as caught:
        extracted(content)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "interactions" / MANIFEST).exists()


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        extract(source=str(tmp_path / "none.csv"), output=tmp_path / "interactions")


def test_truncated_parquet(extracted, tmp_path):
    path = tmp_path / "ratings.parquet"
    pq.write_table(pa.table({"user": [1], "item": [2], "rating": [3.0]}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"ratings.parquet.*cannot be read"):
        extracted(path)


def test_a_failed_retry_leaves_no_artifact_of_the_first_attempt(extracted, tmp_path):
    extracted("user,item,rating\n1,2,3\n")
    with pytest.raises(InputError):
        extracted("user,item,rating\n1,2,x\n")
    assert not (tmp_path / "interactions" / MANIFEST).exists()


# More rows than those that tell what a file looks like, so that damage is met in the middle of reading.
MANY = b"user,item,rating\n" + b"a,1,2\n" * 50_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'user,item,rating\n1,"open,2\n3,4,5\n', "quotes"),
        (b"user,item,rating\ncaf\xe9,1,2\ncaf\xc3\xa9,1,2\n", "utf-8"),
        (b"user,item,rating\n1,2\n3,4,5,6,7\n", "other lengths"),
        (b"user,item,rating\r\n1,2,3\n4,5,6\r\n", "line endings"),
        (b"\x00\x01\x02\x03", "same columns"),
        (MANY + b"caf\xe9,1,2\n", "Line: 50002.*utf-8"),
        (MANY + b'1,"open,2\n', "Line: 50002.*unterminated quote"),
        (MANY + b"1,2\n", "Line: 50002.*Columns: 3 Found: 2"),
        (MANY + b"1,2,3,4\n", "Line: 50002.*Columns: 3 Found: 4"),
    ],
)
def test_damaged_text_is_one_line(extracted, tmp_path, content, message):
    with pytest.raises(InputError, match=rf"ratings.csv.*{message}") as caught:
        extracted(content)
    assert "\n" not in str(caught.value)
    assert "Possible" not in str(caught.value)
    assert not (tmp_path / "interactions" / MANIFEST).exists()


def test_parquet_damaged_in_the_middle(extracted, tmp_path):
    path = tmp_path / "ratings.parquet"
    users = np.random.default_rng(0).permutation(1_000_000)
    pq.write_table(pa.table({"user": users, "item": users % 7, "rating": np.ones(1_000_000)}), path)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2_000] = bytes(2_000)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"ratings.parquet.*cannot be read") as caught:
        extracted(path)
    assert "\n" not in str(caught.value)


def test_parquet_and_text_together(extracted, tmp_path):
    pq.write_table(pa.table({"user": [1], "item": [2], "rating": [3.0]}), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("user,item,rating\n1,2,3\n")
    with pytest.raises(InputError, match="files of one format"):
        extracted(tmp_path)


def test_files_of_a_folder_and_a_pattern(extracted, tmp_path):
    folder = tmp_path / "ratings"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.csv").write_text(f"user,item,rating\n{number},1,1\n")
    assert extracted(folder)["user_id"].to_pylist() == [0, 1, 2]
    assert extracted(folder / "[01].csv")["user_id"].to_pylist() == [0, 1]


def test_the_same_input_gives_the_same_bytes(extracted, tmp_path):
    many = "".join(f"{user},{user % 7},1\n" for user in range(300_000))
    files = []
    for _ in range(2):
        extracted(f"user,item,rating\n{many}")
        files.append([path.read_bytes() for path in sorted((tmp_path / "interactions").iterdir())])
    assert files[0] == files[1]


def test_output_that_cannot_be_written(extracted, tmp_path):
    (tmp_path / "interactions").write_text("a file, no folder")
    with pytest.raises(InputError, match="output folder"):
        extracted("user,item,rating\n1,2,3\n")


def test_times_that_cannot_be_read_are_told(extracted, caplog):
    many = "".join(f"{user},1,1,2026-01-01\n" for user in range(30_000))
    table = extracted(f"user,item,rating,date\n{many}1,2,3,soon\n")
    assert table["event_time"].null_count == 1
    assert "1 interactions have no time" in caplog.text


def test_row_filter(extracted):
    content = "user,item,rating,country\n1,1,1,DE\n2,2,5,FR\n3,3,5,DE\n"
    table = extracted(content, row_filter="country = 'DE' AND rating > 3")
    assert table["user_id"].to_pylist() == [3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data_type": "tables"}, "data_type 'tables'"),
        ({"data_type": "query"}, "goes with data_type query"),
        ({"data_type": "web_views"}, "item_key ''"),
        ({"data_type": "ga4"}, "item_key ''"),
        ({"window_start": "yesterday"}, "window_start 'yesterday'"),
        ({"window_start": "2026-01-02", "window_end": "2026-01-01"}, "window_end"),
        ({"window_start": "2026-01-02"}, "--timestamp-column"),
        ({"staging_dataset": "p.d"}, "BigQuery"),
        ({"user_column": "user; DROP TABLE x"}, "--user-column"),
    ],
)
def test_arguments_that_do_not_go_together(extracted, arguments, message):
    with pytest.raises(InputError, match=message):
        extracted("user,item,rating\n1,2,3\n", **arguments)
