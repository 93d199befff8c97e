"""Preparation of interactions: the matrix, the holdout and the vocabularies."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from components.artifacts.profile import FILE
from tests.components.steps import extract, prepare
from trainer.errors import InputError
from trainer.files import MANIFEST, sha256
from trainer.matrix import InteractionMatrix
from trainer.vocabulary import load_vocabularies


@pytest.fixture
def prepared(tmp_path):
    """Extract and prepare a data frame; return the folder of the outputs."""

    def run(frame, name="run", **arguments):
        folder = tmp_path / name
        folder.mkdir()
        frame.to_parquet(folder / "source.parquet")
        extract(source=str(folder / "source.parquet"), output=folder / "interactions")
        prepare_in(folder, **arguments)
        return folder

    return run


def prepare_in(folder, **arguments):
    outputs = ("interactions", "training", "holdout", "vocabulary", "profile")
    return prepare(
        **{output: folder / output for output in outputs},
        profile_report=folder / "profile.html",
        **arguments,
    )


def random_frame(rows=5_000, users=300, items=120, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "user": rng.integers(0, users, rows) * 7 - 900,
            "item": [f"item {i}" for i in (rng.random(rows) ** 2 * items).astype(int)],
            "rating": rng.integers(1, 6, rows).astype(np.float32),
        }
    )


def as_frame(folder, matrix):
    users, items = load_vocabularies(folder / "vocabulary")
    coo = InteractionMatrix.open(folder / matrix).to_scipy().tocoo()
    return pd.DataFrame({"user": users.take(coo.row), "item": items.take(coo.col), "rating": coo.data})


def pairs(frame):
    return frame.groupby(["user", "item"])["rating"].mean().astype(np.float32).to_dict()


def test_training_and_holdout_are_the_interactions(prepared):
    frame = random_frame()
    folder = prepared(frame)
    training, holdout = as_frame(folder, "training"), as_frame(folder, "holdout/targets")
    assert pairs(pd.concat([training, holdout])) == pairs(frame)
    assert len(training) + len(holdout) == len(pairs(frame))
    assert 0.05 < len(holdout) / len(pairs(frame)) < 0.15


def test_both_orientations_are_the_same_matrix(prepared):
    matrix = InteractionMatrix.open(prepared(random_frame()) / "training")
    by_column = InteractionMatrix(matrix.columns, matrix.rows, matrix.by_column, matrix.by_row).to_scipy()
    assert (abs(matrix.to_scipy() - by_column.T) > 0).nnz == 0


def test_split_depends_on_the_pair_and_the_seed_only(prepared):
    frame = random_frame()
    first = prepared(frame, "first")
    shuffled = prepared(frame.sample(frac=1, random_state=1), "shuffled")
    other_seed = prepared(frame, "other", seed=7)
    for file in (
        "by_row/00000.indices.npy",
        "by_row/00000.values.npy",
        "by_column/00000.values.npy",
        MANIFEST,
    ):
        assert (first / "training" / file).read_bytes() == (shuffled / "training" / file).read_bytes()
    assert pairs(as_frame(first, "training")).keys() != pairs(as_frame(other_seed, "training")).keys()


def test_k_core(prepared):
    frame = random_frame(rows=2_200)
    folder = prepared(frame, min_user_interactions=5, min_item_interactions=8)
    expected = frame.drop_duplicates(["user", "item"])
    while True:
        users, items = expected["user"].value_counts(), expected["item"].value_counts()
        kept = expected[
            expected["user"].isin(users[users >= 5].index) & expected["item"].isin(items[items >= 8].index)
        ]
        if len(kept) == len(expected):
            break
        expected = kept
    entries = pd.concat([as_frame(folder, "training"), as_frame(folder, "holdout/targets")])
    assert 0 < len(expected) < len(frame)
    assert pairs(entries).keys() == pairs(expected).keys()


@pytest.mark.parametrize(("duplicates", "value"), [("sum", 6), ("mean", 3), ("max", 5)])
def test_duplicates(prepared, duplicates, value):
    frame = pd.concat(
        [random_frame(), pd.DataFrame({"user": [10**6] * 2, "item": ["x"] * 2, "rating": [1.0, 5.0]})]
    )
    folder = prepared(frame, duplicates=duplicates)
    entries = pd.concat([as_frame(folder, "training"), as_frame(folder, "holdout/targets")])
    assert entries[entries["user"] == 10**6]["rating"].tolist() == [value]


@pytest.mark.parametrize(
    ("frame", "arguments", "message"),
    [
        (pd.DataFrame({"user": [1, 1], "item": [1, 2], "rating": [1.0, 2]}), {}, "1 user, 2 items"),
        (pd.DataFrame({"user": [1, 2], "item": [1, 1], "rating": [1.0, 2]}), {}, "2 users, 1 item'"),
        (random_frame(), {"min_user_interactions": 1000}, "nothing is left"),
        (random_frame(), {"holdout_fraction": 1.0}, "holdout_fraction 1.0"),
        (random_frame(), {"split": "odd"}, "split 'odd'"),
    ],
)
def test_unusable_input_is_one_line_and_nothing_is_published(prepared, tmp_path, frame, arguments, message):
    with pytest.raises(InputError, match=message):
        prepared(frame, **arguments)
    assert not list((tmp_path / "run" / "training").glob(MANIFEST))
    assert not list((tmp_path / "run" / "vocabulary").glob(MANIFEST))


def test_metadata_and_manifest(prepared):
    folder = prepared(random_frame())
    manifest = json.loads((folder / "holdout" / MANIFEST).read_text())
    assert manifest["split"] == "random"
    assert manifest["entries"] == InteractionMatrix.open(folder / "holdout" / "targets").entries


@pytest.mark.parametrize(
    "arguments",
    [{"split": "users", "holdout_fraction": 1e-9}, {"min_user_interactions": 1000}],
    ids=["nothing to predict", "nothing left"],
)
def test_a_run_that_fails_leaves_nothing_of_the_run_before(prepared, arguments):
    folder = prepared(random_frame(), split="users")
    assert len(list(folder.rglob(MANIFEST))) == 7
    with pytest.raises(InputError):
        prepare_in(folder, **arguments)
    assert list(folder.rglob(MANIFEST)) == [folder / "interactions" / MANIFEST]
    assert not (folder / "profile.html").exists()


def test_another_split_leaves_no_matrix_of_the_one_before(prepared):
    folder = prepared(random_frame(), split="users")
    prepare_in(folder, split="random")
    assert not (folder / "holdout" / "history" / MANIFEST).exists()


def in_shards(folder, number):
    """Divide the interactions of an artifact into another number of shards."""
    manifest = json.loads((folder / MANIFEST).read_text())
    (table,) = (pq.read_table(folder / shard["path"]) for shard in manifest["shards"])
    shards = []
    for place, rows in enumerate(np.array_split(np.random.default_rng(0).permutation(len(table)), number)):
        path = folder / f"part-{place:05d}.parquet"
        pq.write_table(table.take(rows), path)
        shards.append({"path": path.name, "rows": len(rows), "sha256": sha256(path)})
    (folder / MANIFEST).write_text(json.dumps({**manifest, "shards": shards}))


def outputs(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and "interactions" not in file.parts and file.name != "source.parquet"
    }


@pytest.mark.parametrize(
    "options",
    [
        {"split": "random", "duplicates": "mean", "half_life_days": 20.0},
        {"split": "last", "duplicates": "last", "min_user_interactions": 5},
        {"split": "time", "duplicates": "sum"},
        {"split": "users", "duplicates": "max", "max_user_interactions": 25},
    ],
    ids=lambda options: options["split"],
)
def test_the_same_rows_in_other_shards_give_the_same_bytes(prepared, options):
    folder = prepared(timed_frame(), **options)
    before = outputs(folder)
    in_shards(folder / "interactions", 7)
    prepare_in(folder, **options)
    assert {path for path in before if path.endswith((MANIFEST, ".html"))} >= {
        *(
            f"{name}/{MANIFEST}"
            for name in ("training", "holdout", "holdout/targets", "vocabulary", "profile")
        ),
        "profile.html",
    }
    after = outputs(folder)
    # The profile names the interactions that it describes by the checksum of their manifest.
    profiles = [json.loads(files.pop(f"profile/{FILE}")) for files in (before, after)]
    assert [profile.pop("checksum") for profile in profiles][1] == sha256(folder / "interactions" / MANIFEST)
    assert profiles[0] == profiles[1]
    assert after == before


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        lambda path: path.unlink(),
    ],
    ids=["flipped", "truncated", "zeroed", "missing"],
)
def test_damaged_interactions_are_one_line(prepared, tmp_path, damage):
    folder = prepared(random_frame())
    damage(folder / "interactions" / "part-00000.parquet")
    with pytest.raises(InputError, match=r"interactions/part-00000.parquet.*run the step that wrote"):
        prepare_in(folder)
    assert not list(folder.rglob(f"training/{MANIFEST}"))


def test_a_shard_that_was_never_parquet_is_one_line(prepared):
    folder = prepared(random_frame())
    shard, manifest = (folder / "interactions" / name for name in ("part-00000.parquet", MANIFEST))
    content = json.loads(manifest.read_text())
    shard.write_bytes(b"user,item\n1,2\n")
    content["shards"][0]["sha256"] = sha256(shard)
    manifest.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"interactions '.*interactions': cannot be read as Parquet"):
        prepare_in(folder)


def timed_frame(rows=4_000, days=100):
    frame = random_frame(rows)
    moments = np.random.default_rng(1).integers(0, days * 86_400, rows)
    frame["timestamp"] = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(moments, unit="s")
    return frame


def test_last_split_holds_out_the_last_items_of_each_user(prepared):
    frame = timed_frame()
    folder = prepared(frame, split="last", holdout_last=2)
    latest = frame.groupby(["user", "item"], as_index=False)["timestamp"].max()
    expected = set()
    for user, history in latest.groupby("user"):
        if len(history) > 2:
            last = history.sort_values(["timestamp", "item"]).tail(2)
            expected |= {(user, item) for item in last["item"]}
    assert pairs(as_frame(folder, "holdout/targets")).keys() == expected
    assert len(as_frame(folder, "training")) == len(latest) - len(expected)


def test_time_split_at_a_moment(prepared):
    frame = timed_frame()
    folder = prepared(frame, split="time", holdout_from="2026-03-01T12:00+02:00")
    before = frame["timestamp"] < pd.Timestamp("2026-03-01T10:00Z")
    training = pairs(frame[before])
    assert pairs(as_frame(folder, "training")) == training
    # Pairs that are known from before the moment are not predicted after it.
    new = {pair: rating for pair, rating in pairs(frame[~before]).items() if pair not in training}
    assert pairs(as_frame(folder, "holdout/targets")) == new


def test_time_split_at_the_midnight_nearest_to_the_fraction(prepared):
    frame = timed_frame(days=10)
    folder = prepared(frame, split="time", holdout_fraction=0.3)
    days = frame["timestamp"].dt.floor("D")
    cut = min(sorted(days.unique()), key=lambda day: abs((days >= day).mean() - 0.3))
    assert pairs(as_frame(folder, "training")) == pairs(frame[days < cut])


def test_users_split_holds_out_users_whole(prepared):
    frame = random_frame()
    folder = prepared(frame, split="users", holdout_fraction=0.25)
    training, targets, history = (
        as_frame(folder, matrix) for matrix in ("training", "holdout/targets", "holdout/history")
    )
    held_out = set(targets["user"]) | set(history["user"])
    assert not held_out & set(training["user"])
    assert 0.15 < len(held_out) / frame["user"].nunique() < 0.35
    assert pairs(pd.concat([training, targets, history])) == pairs(frame)
    assert 0.1 < len(targets) / (len(targets) + len(history)) < 0.3


def test_last_of_repeated_interactions(prepared):
    frame = timed_frame()
    folder = prepared(frame, duplicates="last")
    entries = pd.concat([as_frame(folder, "training"), as_frame(folder, "holdout/targets")])
    last = frame.sort_values(["timestamp", "rating"]).groupby(["user", "item"])["rating"].last()
    assert pairs(entries) == last.to_dict()


def test_half_life(prepared):
    frame = timed_frame()
    folder = prepared(frame, half_life_days=30.0, duplicates="sum")
    age = (frame["timestamp"].max() - frame["timestamp"]) / pd.Timedelta(days=30)
    decayed = frame.assign(rating=frame["rating"].to_numpy() * 0.5 ** age.to_numpy())
    expected = decayed.groupby(["user", "item"])["rating"].sum()
    entries = pd.concat([as_frame(folder, "training"), as_frame(folder, "holdout/targets")])
    entries = entries.set_index(["user", "item"])["rating"]
    np.testing.assert_allclose(entries.sort_index(), expected.sort_index(), rtol=1e-6)


def test_users_with_too_many_items_are_left_out_before_items_are_counted(prepared):
    bot = pd.DataFrame({"user": 10**9, "item": [f"item {i}" for i in range(100)], "rating": 1.0})
    folder = prepared(pd.concat([random_frame(), bot]), max_user_interactions=60, min_item_interactions=40)
    users, items = load_vocabularies(folder / "vocabulary")
    assert len(items) < 60
    assert users.index_of([10**9]).tolist() == [-1]


def test_options_that_require_times_say_so_without_them(prepared):
    with pytest.raises(InputError, match=r"split last.*--timestamp-column"):
        prepared(random_frame(), split="last")
    frame = timed_frame()
    frame.loc[3, "timestamp"] = pd.NaT
    with pytest.raises(InputError, match="without one: 1 interaction;"):
        prepared(frame, "second", split="last")


@pytest.mark.parametrize("ids", [[-(2**63), -5, 0, 7, 2**63 - 1], ["a", "ab", "b", "é", "😀", "\t!"]])
def test_vocabularies_are_in_order_over_the_whole_range_of_ids(prepared, ids):

    frame = pd.DataFrame(
        [(user, item, 1.0) for user in ids for item in range(30)], columns=["user", "item", "rating"]
    )
    users, _ = load_vocabularies(prepared(frame) / "vocabulary")
    assert users.ids.to_pylist() == sorted(ids)
