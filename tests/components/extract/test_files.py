"""Extraction from CSV and Parquet files."""

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.components.steps import extract
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


def test_a_window_of_all_time(extracted):
    content = "user,item,rating,timestamp\n1,1,1,2020-01-01\n"
    assert len(extracted(content, window_start="0001-01-01", window_end="9999-12-31")) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("user,item,rating\n", "no rows"),
        ("user,thing,rating\n1,2,3\n", "user, thing, rating has a usual name.*--item-column NAME"),
        ("user,User,item,rating\n1,1,2,3\n", "several columns 'user'"),
        ("userId,user_id,item,rating\n1,1,2,3\n", "user_column 'userId, user_id': are ambiguous"),
        ("user,item,rating\n1,1,1\n1,2,lots\n", r"rating 'lots': .* \(row 2\)"),
        ("user,item,rating\n1,1,nan\n", r"rating 'nan': .* \(row 1\)"),
        ("user,item,rating\n1,1,inf\n", r"rating 'inf': .* \(row 1\)"),
        ("user,item,rating\n1,1,1e39\n", r"rating '1e39': .* \(row 1\)"),
        ("user,item,rating\n1,1,1\n,1,2\n", r"user .*not a user id \(row 2\)"),
        ("user,item,rating\na,1,1\nb,   ,2\n", r"item .*not an item id \(row 2\)"),
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


# More rows than those from which types are guessed, so that damage is found in the middle of reading.
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
        (MANY + b"c,1,2\r\n", "line endings"),
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


def test_unreadable_times_are_logged(extracted, caplog):
    many = "".join(f"{user},1,1,2026-01-01\n" for user in range(30_000))
    table = extracted(f"user,item,rating,date\n{many}1,2,3,soon\n")
    assert table["event_time"].null_count == 1
    assert "date: 1 of 30,001 times are missing or cannot be read (first 'soon' in row 30,001)" in caplog.text


@pytest.mark.parametrize(
    ("seconds", "unit"), [(1, "s"), (10**10, "s"), (10**9, "ms"), (10**9, "us"), (10**9, "ns")]
)
def test_the_size_of_a_number_determines_its_unit(extracted, seconds, unit):
    number = seconds * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    table = extracted(f"user,item,rating,time\n1,1,1,{number}\n2,2,2,-{number}\n3,3,3,{-(2**63)}\n")
    after, before, long_ago = table["event_time"].cast(pa.int64()).to_pylist()
    assert (after, before) == (seconds * 10**6, -seconds * 10**6)
    assert long_ago == -((2**63) // 1_000)


def test_a_window_does_not_drop_rows_without_a_time(extracted):
    content = "user,item,rating,date\n1,1,1,2019-01-01\n2,2,2,2020-01-01\n3,3,3,soon\n"
    with pytest.raises(InputError, match=r"date 'soon': is not a time.* \(row 3\)"):
        extracted(content, window_start="2019-06-01")
    table = extracted(content, window_start="2019-06-01", row_filter="date <> 'soon'")
    assert table["user_id"].to_pylist() == [2]


def test_no_time_can_be_read(extracted):
    with pytest.raises(InputError, match=r"timestamp_column 'date': none of its times .* ISO 8601"):
        extracted("user,item,rating,date\n1,1,1,31/12/2019\n2,2,2,30/12/2019\n")


def test_row_filter(extracted):
    content = "user,item,rating,country\n1,1,1,DE\n2,2,5,FR\n3,3,5,DE\n"
    table = extracted(content, row_filter="country = 'DE' AND rating > 3")
    assert table["user_id"].to_pylist() == [3]


def many_then(last, rows=30_000):
    """Text whose first rows, from which its types are guessed, look like other types than its last row."""
    return "user,item,rating,c\n" + "".join(f"{user},1,1,{user % 9}\n" for user in range(rows)) + last + "\n"


@pytest.mark.parametrize(
    ("last", "row_filter", "passes"),
    [
        ("x,2,2,X1", "c <> '7'", True),
        ("x,2,2,X1", "c = 'X1'", True),
        ("x,2,2,4.5", "c >= 5", False),
        ("x,2,2,4.5", "c > 4", True),
        ("x,2,2,01", "c = '01'", True),
        ("x,2,2,01", "c LIKE '0_'", True),
        ("x,2,4.5,1", "rating > 4", True),
        ("x,2,4.5,1", "c = 1", True),
        ("01,2,3,1", "user <> '1'", True),
    ],
)
def test_a_row_filter_takes_types_from_all_rows(extracted, last, row_filter, passes):
    user, _, rating, _ = last.split(",")
    rows = extracted(many_then(last), row_filter=row_filter).to_pylist()
    assert ({"user_id": user, "item_id": 2, "rating": float(rating)} in rows) == passes


def test_a_row_filter_that_compares_text_with_a_number_is_refused(extracted):
    with pytest.raises(InputError, match="X1") as caught:
        extracted(many_then("1,2,2,X1"), row_filter="c <> 7")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,1,1,9\n\t,1,1,1\n", r"user '\\t': is not a user id \(row 2\)"),
        ("\u00a0,1,1,9\na,1,1,1\nb, ,1,1\n", r"item ' ': is not an item id \(row 3\)"),
        ("a,1,x,9\nb,1,y,1\n", r"rating 'y': .* \(row 2\)"),
        ("a,1,x,1,2019-01-01\nb,1,y,1,2020-01-01\n", r"rating 'y': .* \(row 2\)"),
    ],
)
def test_the_row_that_is_named_is_one_that_passes_the_filter(extracted, content, message):
    with_time = "2019" in content
    window = {"window_start": "2019-06-01"} if with_time else {}
    header = "user,item,rating,c" + (",date" if with_time else "")
    with pytest.raises(InputError, match=message):
        extracted(f"{header}\n{content}", row_filter="c < 5", **window)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            {"user": [1]},
            {"user": [1.5, 2.0]},
            "'user' holds fractions in .*b.parquet and .*integers in .*a.parq",
        ),
        ({"user": [1]}, {"user": ["01"]}, "'user' holds integers in .*a.parquet and .*text in .*b.parquet"),
        ({"rating": [4]}, {"rating": [4.5]}, "'rating' holds fractions in .*b.parquet"),
        ({"time": [1]}, {"time": ["2020-01-01"]}, "'time' holds integers in .*a.parquet and .*text in"),
        ({}, {"item": None}, "b.parquet.*has no column item, which .*a.parquet has"),
        ({}, {"Rating": [1.0]}, "b.parquet.*several columns 'rating'"),
        ({"user": pa.array([1], pa.int32())}, {"user": [2**40]}, None),
        ({"rating": pa.array([1], pa.float32())}, {"rating": pa.array([2.5])}, None),
        ({}, {"country": ["DE"]}, None),
    ],
)
def test_parquet_files_of_other_types(extracted, tmp_path, first, second, message):
    for name, changed in (("a", first), ("b", second)):
        columns = {"user": [2], "item": [3], "rating": [2.5], **changed}
        columns = {column: values for column, values in columns.items() if values is not None}
        rows = max(map(len, columns.values()))
        folder = tmp_path / "several"
        folder.mkdir(exist_ok=True)
        whole = {
            column: values if len(values) == rows else values * rows for column, values in columns.items()
        }
        pq.write_table(pa.table(whole), folder / f"{name}.parquet")
    if message:
        with pytest.raises(InputError, match=message):
            extracted(folder)
    else:
        table = extracted(folder)
        users = [
            user for changed in (first, second) for user in pa.array(changed.get("user", [2])).to_pylist()
        ]
        assert table["user_id"].to_pylist() == users
        assert table["rating"].to_pylist()[1] == 2.5


@pytest.mark.parametrize(
    "names", [["user", "item", "rating", "rating"], ["user", "item", "rating", "Rating"]]
)
def test_parquet_with_two_columns_of_one_name(extracted, tmp_path, names):
    pq.write_table(pa.table([pa.array([1])] * 4, names=names), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a.parquet.*several columns 'rating'"):
        extracted(tmp_path / "a.parquet")


def test_two_columns_of_one_name_in_the_second_file(extracted, tmp_path):
    (tmp_path / "a.csv").write_text("user,item,rating\n1,2,3\n")
    (tmp_path / "b.csv").write_text("user,item,rating,Rating\n1,2,3,4\n")
    with pytest.raises(InputError, match=r"b.csv.*several columns 'rating'"):
        extracted(tmp_path / "?.csv")


def test_a_query_that_yields_two_columns_of_one_name(extracted):
    with pytest.raises(InputError, match=r"query.*several columns 'rating'"):
        extracted(
            "user,item,rating\n1,2,3\n",
            data_type="query",
            query="SELECT user, item, rating, rating + 1 AS rating FROM source",
        )


@pytest.mark.parametrize(
    "ids", [[b"a"], [{"a": 1}], [[1]], [datetime.date(2020, 1, 1)], [True], pa.array([1.0]).cast("float32")]
)
def test_what_cannot_be_an_id(extracted, tmp_path, ids):
    pq.write_table(pa.table({"user": ids, "item": [1], "rating": [1.0]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"user_column 'user': holds .*, not ids"):
        extracted(tmp_path / "a.parquet")


def test_names_that_look_like_patterns(extracted, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    for number, name in enumerate(("a*", "a[b]", "a?", "ab", "'quote'")):
        (folder / f"{name}.csv").write_text(f"user,item,rating\n{number},1,1\n")
    assert sorted(extracted(folder)["user_id"].to_pylist()) == [0, 1, 2, 3, 4]
    assert extracted(folder / "a[b].csv")["user_id"].to_pylist() == [1]
    assert sorted(extracted(folder / "a*.csv")["user_id"].to_pylist()) == [0]
    assert sorted(extracted(folder / "a*")["user_id"].to_pylist()) == [0, 1, 2, 3]


def test_the_last_days(extracted, caplog):
    now = datetime.datetime.now(datetime.UTC)
    ages = {1: 0.5, 2: 6.9, 3: 7.1, 4: -0.5}
    times = {user: now - datetime.timedelta(days=age) for user, age in ages.items()}
    rows = "".join(f"{user},1,1,{time.isoformat()}\n" for user, time in times.items())
    content = f"user,item,rating,time\n{rows}"
    assert extracted(content, window_days=7)["user_id"].to_pylist() == [1, 2]
    ended = extracted(content, window_days=7, window_end=times[2].isoformat())
    assert ended["user_id"].to_pylist() == [3]
    assert len(extracted(content, window_days=0)) == 4


def test_rows_without_an_order_are_sorted(extracted, tmp_path):
    content = "user,item,seconds\n" + "".join(
        f"{user * 7919 % 5_000},{user % 7},{user % 10}\n" for user in range(30_000)
    )
    table = extracted(
        content,
        data_type="query",
        query="SELECT user, item, SUM(seconds) AS rating FROM source GROUP BY user, item",
    )
    assert rows(table) == sorted(rows(table))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data_type": "tables"}, "data_type 'tables'"),
        ({"data_type": "query"}, "requires data_type query"),
        ({"data_type": "web_views"}, "item_key ''"),
        ({"data_type": "ga4"}, "item_key ''"),
        ({"window_start": "yesterday"}, "window_start 'yesterday'"),
        ({"window_start": "2026-01-02", "window_end": "2026-01-01"}, "window_end"),
        ({"window_start": "2026-01-02"}, "--timestamp-column"),
        ({"staging_dataset": "project.dataset"}, "BigQuery"),
        ({"user_column": "user; DROP TABLE x"}, "--user-column"),
        ({"user_column": "item"}, "item_column 'item': is already the user_column"),
        ({"timestamp_column": "rating"}, "timestamp_column 'rating': is already the rating_column"),
        ({"window_days": -1}, "window_days -1: is below 0"),
        ({"window_days": 10**7}, "window_days 10000000: begins before the year 1"),
        ({"window_days": 7, "window_start": "2026-01-02"}, "cannot be combined with window_start"),
        ({"window_days": 7}, "--timestamp-column"),
        ({"maximum_bytes_billed": -5}, "maximum_bytes_billed -5: is below 0"),
    ],
)
def test_invalid_arguments(extracted, arguments, message):
    with pytest.raises(InputError, match=message):
        extracted("user,item,rating\n1,2,3\n", **arguments)
