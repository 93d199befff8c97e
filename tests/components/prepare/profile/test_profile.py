"""The profile of the interactions, and the contract between one run and the next."""

import logging
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from components.artifacts.profile import FILE, QUANTILES, psi
from components.engines.duckdb import DuckDB
from components.prepare.profile import profile
from components.prepare.profile.previous import load_profile
from components.prepare.profile.profile import ratings_of
from components.prepare.profile.report import write_report
from tests.components.steps import extract, prepare
from trainer.errors import InputError, WalsError
from trainer.files import MANIFEST, sha256

BASE = {"users": 200, "rows": 4_000, "liked": 0.5}
VOLUME_ONLY = {"max_psi": 100.0}


def frame(users, rows, liked, times=False, popular=1.0, repeated=0):
    rng = np.random.default_rng(0)
    columns = {
        "user": rng.integers(0, users, rows),
        "item": (rng.random(rows) ** popular * 50).astype(int),
        "rating": np.where(rng.random(rows) < liked, 5.0, rng.integers(1, 5, rows)),
    }
    if times:
        start = pd.Timestamp("2026-01-01", tz="UTC")
        columns["timestamp"] = start + pd.to_timedelta(np.arange(rows), unit="s")
    table = pd.DataFrame(columns)
    for column in ("user", "item"):
        table.loc[table.index[:repeated], column] = table.loc[table.index[-repeated:], column].to_numpy()
    return table


def prepared(folder, previous="", on_drift="fail", options=(), **shape):
    folder.mkdir()
    frame(**{**BASE, **shape}).to_parquet(folder / "source.parquet")
    extract(source=str(folder / "source.parquet"), output=folder / "interactions")
    outputs = ("interactions", "training", "holdout", "vocabulary", "profile")
    prepare(
        **{output: folder / output for output in outputs},
        profile_report=folder / "profile.html",
        previous_profile=previous,
        on_drift=on_drift,
        **dict(options),
    )
    return folder


@pytest.fixture
def run(tmp_path):
    return lambda name, **options: prepared(tmp_path / name, **options)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("runs") / "first")


@pytest.fixture
def first(base, tmp_path):
    """The folder ``first`` of a run on the base."""
    return shutil.copytree(base, tmp_path / "first")


def artifacts(folder):
    return {str(manifest.parent.relative_to(folder)) for manifest in folder.rglob(MANIFEST)}


def test_the_profile_describes_the_input(run):
    folder = run("first", times=True)
    source, profile = frame(**BASE, times=True), load_profile(str(folder / "profile"))
    assert (profile.rows, profile.interactions, profile.users, profile.items) == (4_000, 4_000, 200, 50)
    assert profile.density == 4_000 / (200 * 50)
    assert profile.duplicates == pytest.approx(source.duplicated(["user", "item"]).mean())
    assert sorted(profile.ratings.values()) == sorted(source["rating"].value_counts())
    assert (profile.lowest_rating, profile.highest_rating) == (1, 5)
    for histogram, column in ((profile.per_user, "user"), (profile.per_item, "item")):
        sizes = np.floor(np.log2(source[column].value_counts())).astype(int).value_counts()
        assert histogram == {str(size): count for size, count in sizes.items()}
    for quantiles, column in ((profile.user_quantiles, "user"), (profile.item_quantiles, "item")):
        counts = source[column].value_counts()
        assert quantiles == tuple(np.quantile(counts, QUANTILES, method="inverted_cdf"))
    assert profile.source.files == (str(folder / "source.parquet"),)
    assert profile.checksum == sha256(folder / "interactions" / MANIFEST)
    assert profile.cold_users == (source["user"].value_counts() < 5).mean()
    assert profile.latest.startswith("2026-01-01 01:06:39")
    html = (folder / "profile.html").read_text()
    assert "4,000" in html
    assert f"{profile.duplicates:.1%}" in html
    assert "<svg" in html


def labels(html):
    return re.findall(r"<text[^>]*>\s*([^<]*?)\s*</text>", html)


def test_the_picture_labels_ratings_with_round_numbers(first):
    texts = labels((first / "profile.html").read_text())
    assert [label for label in texts if label in {"1", "2", "3", "4", "5"}][:5] == ["1", "2", "3", "4", "5"]


def test_the_picture_of_many_bins_has_few_labels(first, tmp_path):
    sizes = {str(size): 1 for size in range(31)}
    profile = load_profile(str(first / "profile"))
    write_report(
        profile.model_copy(update={"per_user": sizes, "per_item": sizes}), None, [], tmp_path / "many.html"
    )
    # Every fourth one of 1, 2, 4 ... 2**30, for users and for items.
    texts = labels((tmp_path / "many.html").read_text())
    assert [texts.count(label) for label in ("16", "32", "64", "128", "256", "4K", "256M")] == [
        2,
        0,
        0,
        0,
        2,
        2,
        2,
    ]


def test_other_filters_are_not_drift(run):
    first = run("first", users=900)
    filters = {"min_user_interactions": 5, "min_item_interactions": 20, "max_user_interactions": 8}
    second = run("second", previous=str(first / "profile"), options=filters, users=900)
    before, now = (load_profile(str(folder / "profile")) for folder in (first, second))
    assert now.interactions < 0.7 * now.rows
    # Duplicates are counted after the filters.
    changed = {"interactions", "duplicates", "source", "checksum"}
    assert now.model_dump(exclude=changed) == before.model_dump(exclude=changed)


def test_the_same_data_again_passes(first, run):
    folder = run("second", previous=str(first / "profile"))
    assert "within the contract's limits" in (folder / "profile.html").read_text()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"rows": 1_500}, "4,000 interactions fell to 1,500"),
        ({"users": 900}, "density went from 0.4 to"),
        ({"liked": 0.95}, "the ratings drifted"),
        ({"users": 60}, "the interactions per user drifted"),
        ({"popular": 2.5}, "the interactions per item drifted"),
        ({"users": 3_000}, "the share of duplicates drifted"),
        ({"times": True}, "the columns were .* event_time"),
    ],
)
def test_drift_stops_the_run_before_training(first, run, tmp_path, shape, message):
    with pytest.raises(InputError, match=message):
        run("second", previous=str(first / "profile"), **shape)
    assert artifacts(tmp_path / "second") == {"interactions", "profile"}
    assert 'class="breach"' in (tmp_path / "second" / "profile.html").read_text()


def test_a_table_loaded_one_and_a_half_times_is_drift(run):
    first = run("first", users=4_000)
    with pytest.raises(InputError, match="the share of duplicates drifted"):
        run("second", previous=str(first / "profile"), users=4_000, repeated=1_500)


def test_drift_may_only_warn(first, run, caplog):
    with caplog.at_level(logging.WARNING):
        folder = run("second", previous=str(first / "profile"), on_drift="warn", rows=1_500)
    assert "interactions fell to 1,500" in caplog.text
    assert artifacts(folder) >= {"training", "holdout", "vocabulary", "profile"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda profile: (profile / FILE).write_text('{"rows": 1'),
        lambda profile: (profile / FILE).unlink(),
        lambda profile: (profile / MANIFEST).write_text('{"schema": "wals.profile", "schema_version": 1}'),
    ],
    ids=["truncated", "missing", "version"],
)
def test_a_previous_profile_that_cannot_be_used_is_one_line(first, run, tmp_path, damage):
    profile = first / "profile"
    damage(profile)
    with pytest.raises(
        InputError, match=r"previous_profile '.*/first/profile': is not a complete profile of version 2"
    ):
        run("second", previous=str(profile))
    assert artifacts(tmp_path / "second") == {"interactions"}


def test_each_run_of_a_schedule_is_compared_with_the_previous_one(run, tmp_path, caplog):
    kept = str(tmp_path / "kept")
    with caplog.at_level(logging.WARNING):
        run("first", previous=kept)
    assert f"no profile in {kept} yet" in caplog.text
    run("second", previous=kept, rows=2_500, options=VOLUME_ONLY)
    # The volume fell by more than half since the first run, but not since the second.
    third = run("third", previous=kept, rows=1_500, options=VOLUME_ONLY)
    assert load_profile(f"{kept}/latest") == load_profile(str(third / "profile"))


def test_the_next_run_is_not_compared_with_a_stopped_one(run, tmp_path):
    kept = str(tmp_path / "kept")
    run("first", previous=kept)
    for name in ("second", "third"):
        with pytest.raises(InputError, match="4,000 interactions fell to 1,500"):
            run(name, previous=kept, rows=1_500)
    run("fourth", previous=kept, rows=1_500, on_drift="warn")
    run("fifth", previous=kept, rows=1_500)


def test_a_given_profile_stays_unchanged(first, run):
    before = {file.name: file.read_bytes() for file in (first / "profile").iterdir()}
    run("second", previous=str(first / "profile"), rows=3_000, options=VOLUME_ONLY)
    assert {file.name: file.read_bytes() for file in (first / "profile").iterdir()} == before


def test_profiles_on_cloud_storage(bucket, run):
    run("first", previous="gs://bucket/kept")
    with pytest.raises(InputError, match="4,000 interactions fell to 1,500"):
        run("second", previous="gs://bucket/kept", rows=1_500)
    profile = run("third", previous="gs://bucket/kept/", rows=2_500, options=VOLUME_ONLY) / "profile"
    assert load_profile("gs://bucket/kept/latest") == load_profile(str(profile))
    for file in profile.iterdir():
        bucket.blob(f"runs/1/profile/{file.name}").upload_from_filename(file)
    named = {blob.name for blob in bucket.list_blobs(prefix="runs")}
    run("fourth", previous="gs://bucket/runs/1/profile", rows=1_500, options=VOLUME_ONLY)
    assert {blob.name for blob in bucket.list_blobs(prefix="runs")} == named


def test_a_profile_that_cannot_be_kept_stops_the_run(bucket, run, tmp_path):
    with pytest.raises(WalsError, match="gs://none/kept/latest"):
        run("first", previous="gs://none/kept")
    assert artifacts(tmp_path / "first") == {"interactions", "profile"}


def test_psi_follows_its_formula():
    before, now = {"1": 50, "2": 50}, {"1": 25, "2": 75}
    expected = (0.25 - 0.5) * np.log(0.25 / 0.5) + (0.75 - 0.5) * np.log(0.75 / 0.5)
    assert psi(before, now) == pytest.approx(expected)
    assert psi(before, before) == 0
    assert np.isfinite(psi({"1": 1}, {"2": 1}))


@pytest.mark.parametrize("with_time", [False, True])
def test_few_ratings_are_binned_like_many(monkeypatch, with_time):
    columns = {"rating": "float"} | ({"event_time": "timestamp[us, tz=UTC]"} if with_time else {})
    time = ", TIMESTAMP_SECONDS(1767225600 + n) AS event_time" if with_time else ""
    numbers = "SELECT CAST(MOD(n, 41) - 20 AS FLOAT64) / 4 AS rating" + time
    with DuckDB.open(ordered=False) as database:
        database.create("interactions", f"{numbers} FROM UNNEST(GENERATE_ARRAY(1, 1000)) AS n")
        few = ratings_of(database, "interactions", columns)
        monkeypatch.setattr(profile, "_FEW_RATINGS", 0)
        many = ratings_of(database, "interactions", columns)
    assert few == many
    assert sum(row["interactions"] for row in few) == 1_000
    assert (min(row["lowest"] for row in few), max(row["highest"] for row in few)) == (-5, 5)
    assert {row["earliest"] for row in few} >= {1_767_225_601_000_000 if with_time else None}
