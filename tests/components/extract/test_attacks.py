"""Files and queries that attack: what they must not reach, change or crash."""

import gzip
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.components.steps import extract
from trainer.errors import InputError
from trainer.files import MANIFEST

pytestmark = pytest.mark.attack

SECRET = "user,item,rating\n666,666,5\n"


@pytest.fixture
def source(tmp_path):
    """A source in a folder that also has a secret, in other formats too."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a[1].csv").write_text("user,item,rating\n1,2,3\n")
    for name in ("secret.csv", "secret.json", "secret.parquet", "data/secret.csv"):
        (tmp_path / name).write_text(SECRET)
    return tmp_path / "data" / "a[1].csv"


@pytest.fixture
def query(source, tmp_path, monkeypatch):
    """Run a query over the source, in whose text {secret} and {folder} are replaced."""
    monkeypatch.chdir(tmp_path)

    def run(text, **arguments):
        text = text.replace("{secret}", str(tmp_path / "secret.csv")).replace("{folder}", str(tmp_path))
        arguments = {"source": str(source), "data_type": "query", "query": text, **arguments}
        return extract(output=tmp_path / "out", **arguments)

    return run


@pytest.mark.parametrize(
    "table",
    [
        "`{secret}`",
        "`secret.csv`",
        "read_csv('{secret}')",
        "read_csv('secret.csv')",
        "read_csv_auto('{folder}/data/../secret.csv')",
        "read_csv(['{folder}/data/a[1].csv', '{secret}'])",
        "(SELECT 1 AS user, 2 AS item, LENGTH(content) AS rating FROM read_text('{secret}'))",
        "(SELECT 1 AS user, 2 AS item, LENGTH(content) AS rating FROM read_blob('/etc/passwd'))",
        "(SELECT 1 AS user, 2 AS item, COUNT(*) AS rating FROM sniff_csv('{secret}'))",
        "(SELECT 1 AS user, 2 AS item, COUNT(*) AS rating FROM parquet_schema('{folder}/secret.parquet'))",
        "(SELECT 1 AS user, 2 AS item, COUNT(*) AS rating FROM read_json('{folder}/secret.json'))",
        "(SELECT 1 AS user, 2 AS item, COUNT(*) AS rating FROM read_parquet('{folder}/secret.parquet'))",
        "query(\"SELECT * FROM read_csv('{secret}')\")",
        "read_csv('https://127.0.0.1:1/secret.csv')",
        "read_csv('s3://bucket/secret.csv')",
        "(SELECT name AS user, type AS item, 1 AS rating FROM duckdb_secrets())",
    ],
)
def test_a_query_reads_nothing_but_the_source(query, tmp_path, table):
    with pytest.raises(
        InputError, match=r"^query .*: reads more than the source; select only from"
    ) as caught:
        query(f"SELECT * FROM {table}")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    "table",
    [
        "`/etc/passwd`",
        "options",
        "st_read('{secret}')",
        "sqlite_scan('{secret}', 'ratings')",
        "postgres_scan('host=127.0.0.1 port=1', 'public', 'ratings')",
        "iceberg_scan('{folder}')",
    ],
)
def test_a_query_names_only_tables_and_functions_that_are_there(query, tmp_path, table):
    """Neither names of folders' files and Python variables nor functions of extensions to download."""
    with pytest.raises(InputError, match="exist"):
        query(f"SELECT * FROM {table}")
    assert not (tmp_path / "out" / MANIFEST).exists()


@pytest.mark.parametrize(
    "setting", ["enable_external_access", "autoload_known_extensions", "lock_configuration"]
)
def test_a_query_runs_with_locked_settings(query, setting):
    is_safe = f"current_setting('{setting}') = {setting.startswith('lock')}"
    assert query(f"SELECT user, item, rating FROM source WHERE {is_safe}")["rows"] == 1


def test_a_query_can_still_use_the_source_in_any_way(query):
    text = "WITH a AS (SELECT * FROM source) SELECT a.user, item, a.rating FROM a JOIN source USING (item)"
    assert query(text)["rows"] == 1


def test_a_query_of_a_store_reads_no_other_object(query, s3_bucket):
    for name in ("a", "secret"):
        with s3_bucket.open_output_stream(f"bucket/{name}.csv") as file:
            file.write(SECRET.encode())
    assert query("SELECT * FROM source", source="s3://bucket/a.csv")["rows"] == 1
    with pytest.raises(InputError, match="reads more than the source"):
        query("SELECT * FROM read_csv('s3://bucket/secret.csv')", source="s3://bucket/a.csv")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    "folder",
    [
        "rating=1",
        "user=9",
        "date=2020-01-01",
        "USER=9/Rating=1",
        "user=__HIVE_DEFAULT_PARTITION__",
    ],
)
def test_names_of_folders_are_not_data(tmp_path, folder, kind):
    columns = {"user": [5, 6], "item": [7, 8], "rating": [2.5, 3.5], "date": ["2026-01-01", "2026-01-02"]}
    for path in (tmp_path / "in" / "a", tmp_path / "in" / folder):
        path.mkdir(parents=True)
        if kind == "parquet":
            pq.write_table(pa.table(columns), path / "a.parquet")
        else:
            rows = [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
            (path / "a.csv").write_text("\n".join([",".join(columns), *rows, ""]))
    for source in (tmp_path / "in" / folder, tmp_path / "in"):
        extract(source=str(source), output=tmp_path / "out")
        table = pq.ParquetFile(tmp_path / "out" / "part-00000.parquet").read()
        files = len(table) // 2
        assert table["user_id"].to_pylist() == [5, 6] * files
        assert table["item_id"].to_pylist() == [7, 8] * files
        assert table["rating"].to_pylist() == [2.5, 3.5] * files
        assert {time.year for time in table["event_time"].to_pylist()} == {2026}


def test_a_folder_that_is_named_after_a_column_does_not_stand_for_it(tmp_path):
    folder = tmp_path / "user=9"
    folder.mkdir()
    pq.write_table(pa.table({"item": [1], "rating": [1.0]}), folder / "a.parquet")
    with pytest.raises(InputError, match="user_column"):
        extract(source=str(folder), output=tmp_path / "out")


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), None])
def test_a_rating_that_is_not_finite_is_found_whatever_the_statistics_say(tmp_path, kind, value):
    """Statistics of Parquet files leave NaN out."""
    columns = {"user": [1, 2, 3, 4], "item": [1, 2, 3, 4], "rating": pa.array([1.0, 2.0, 3.0, value], kind)}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    arguments = {"source": str(tmp_path / "a.parquet"), "output": tmp_path / "out"}
    with pytest.raises(InputError, match=r"^rating .*is not a finite number \(row 4\)"):
        extract(**arguments)
    number = "SELECT * FROM source WHERE NOT IS_NAN(rating) AND ABS(rating) < 5"
    assert extract(**arguments, data_type="query", query=number)["rows"] == 3


@pytest.mark.parametrize("odd", ["1.0", "01", "1e0", "true", "2020-01-01", "9" * 20, "x"])
@pytest.mark.parametrize("integers", [0, 30_000])
def test_ids_that_are_not_all_integers_are_text_as_written(tmp_path, caplog, odd, integers):
    """Also if the first of them comes after the 20,480 rows from which types are guessed."""
    ids = [*map(str, range(integers)), odd]
    text = "".join(f"{user},1,1\n" for user in ids)
    (tmp_path / "a.csv").write_text(f"user,item,rating\n{text}")
    with caplog.at_level("INFO"):
        extract(source=str(tmp_path / "a.csv"), output=tmp_path / "out")
    table = pq.ParquetFile(tmp_path / "out" / "part-00000.parquet").read()
    assert table["user_id"].to_pylist() == ids
    assert table["item_id"].type == pa.int64()
    assert "user: not all ids are integers" in caplog.text
    assert "item: not all ids" not in caplog.text


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize(("odd", "expected"), [("007", "007"), ("x", "x"), ("1.0", "fractions"), ("7", 7)])
def test_a_query_has_the_types_that_fit_all_rows(tmp_path, odd, expected, place):
    integers = [str(user) for user in range(30_000)]
    ids = [odd, *integers] if place == "first" else [*integers, odd]
    text = "".join(f"{user},1,1\n" for user in ids)
    (tmp_path / "a.csv").write_text(f"user,item,rating\n{text}")
    arguments = {"source": str(tmp_path / "a.csv"), "data_type": "query", "output": tmp_path / "out"}
    if expected == "fractions":
        with pytest.raises(InputError, match="user_column 'user': holds fractions"):
            extract(**arguments, query="SELECT * FROM source")
        return
    extract(**arguments, query="SELECT * FROM source")
    users = pq.ParquetFile(tmp_path / "out" / "part-00000.parquet").read()["user_id"].to_pylist()
    assert expected in users
    assert {type(user) for user in users} == {type(expected)}


TEXT = b"user,item,rating\n" + b"".join(
    b"%d,%d,%d\n" % (n * 7919 % 1_000, n % 71, n % 5) for n in range(2_000)
)
COMPRESSED = gzip.compress(TEXT, mtime=0)
HEADER = range(3, 10)
"""Bytes of flags, the time and the system, which no checksum covers."""


def flipped(bit):
    damaged = bytearray(COMPRESSED)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def test_a_flipped_bit_of_a_compressed_file_is_never_read_as_data(tmp_path):
    chosen = random.Random(0)
    bits = [bit for bit in range(len(COMPRESSED) * 8) if bit // 8 not in HEADER]
    path = tmp_path / "a.csv.gz"
    for bit in chosen.sample(bits, 60):
        path.write_bytes(flipped(bit))
        with pytest.raises(InputError) as caught:
            extract(source=str(path), output=tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out" / MANIFEST).exists()


@pytest.mark.parametrize(
    "content", [COMPRESSED[:-1], COMPRESSED[:-8], COMPRESSED + b"x", TEXT, flipped(8 * len(COMPRESSED) - 60)]
)
def test_damaged_ends_of_compressed_files(tmp_path, content):
    (tmp_path / "a.csv.gz").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.csv\.gz.*(damaged|GZIP)"):
        extract(source=str(tmp_path / "a.csv.gz"), output=tmp_path / "out")


def test_compressed_files_in_several_parts(tmp_path):
    parts = gzip.compress(TEXT) + gzip.compress(b"1,2,3\n")
    (tmp_path / "a.CSV.GZ").write_bytes(parts)
    assert extract(source=str(tmp_path / "a.CSV.GZ"), output=tmp_path / "out")["rows"] == 2_001


def test_a_damaged_object_of_a_store(tmp_path, s3_bucket):
    for name, content in (("good", COMPRESSED), ("bad", flipped(8 * len(COMPRESSED) - 60))):
        with s3_bucket.open_output_stream(f"bucket/gz/{name}.csv.gz", compression=None) as file:
            file.write(content)
    assert extract(source="s3://bucket/gz/good.csv.gz", output=tmp_path / "out")["rows"] == 2_000
    with pytest.raises(InputError, match=r"s3://bucket/gz/bad\.csv\.gz.*damaged"):
        extract(source="s3://bucket/gz", output=tmp_path / "out")


@pytest.mark.parametrize("word", ["infinity", "epoch"])
@pytest.mark.parametrize(
    "arguments",
    [{}, {"row_filter": "time <> 'x'"}, {"data_type": "query", "query": "SELECT * FROM source"}],
)
def test_words_are_not_times(tmp_path, word, arguments):
    (tmp_path / "a.csv").write_text(f"user,item,rating,time\n1,1,1,2026-01-31\n2,2,2,{word}\n")
    extract(source=str(tmp_path / "a.csv"), output=tmp_path / "out", **arguments)
    first, second = pq.ParquetFile(tmp_path / "out" / "part-00000.parquet").read()["event_time"].to_pylist()
    assert (str(first), second) == ("2026-01-31 00:00:00+00:00", None)
