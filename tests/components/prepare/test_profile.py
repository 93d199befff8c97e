"""The profile of the interactions, and the contract between one run and the next."""

import logging

import numpy as np
import pandas as pd
import pytest

from components.extract.step import extract
from components.prepare.profile import Profile, psi
from components.prepare.step import prepare
from trainer.errors import InputError
from trainer.files import MANIFEST

BASE = {"users": 200, "rows": 4_000, "liked": 0.5}


def frame(users, rows, liked, times=False):
    rng = np.random.default_rng(0)
    made = {
        "user": rng.integers(0, users, rows),
        "item": rng.integers(0, 50, rows),
        "rating": np.where(rng.random(rows) < liked, 5.0, rng.integers(1, 5, rows)),
    }
    if times:
        made["timestamp"] = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.arange(rows), unit="s")
    return pd.DataFrame(made)


@pytest.fixture
def run(tmp_path):
    def prepared(name, previous="", on_drift="fail", **shape):
        folder = tmp_path / name
        folder.mkdir()
        frame(**{**BASE, **shape}).to_parquet(folder / "source.parquet")
        extract(source=str(folder / "source.parquet"), output=folder / "interactions")
        outputs = ("interactions", "training", "holdout", "vocabulary", "profile")
        prepare(
            **{output: folder / output for output in outputs},
            profile_report=folder / "profile.html",
            previous_profile=previous and str(tmp_path / previous / "profile"),
            on_drift=on_drift,
        )
        return folder

    return prepared


def test_profile_tells_what_came_in(run):
    folder = run("first", times=True)
    source, profile = frame(**BASE, times=True), Profile.load(str(folder / "profile"))
    assert (profile.interactions, profile.users, profile.items) == (4_000, 200, 50)
    assert profile.density == 4_000 / (200 * 50)
    assert sorted(profile.ratings.values()) == sorted(source["rating"].value_counts())
    assert (profile.lowest_rating, profile.highest_rating) == (1, 5)
    per_user = np.floor(np.log2(source["user"].value_counts())).astype(int).value_counts()
    assert profile.per_user == {str(size): count for size, count in per_user.items()}
    assert profile.cold_users == (source["user"].value_counts() < 5).mean()
    assert profile.latest.startswith("2026-01-01 01:06:39")
    html = (folder / "profile.html").read_text()
    assert "4,000" in html
    assert "<svg" in html


def test_the_same_data_again_passes(run):
    run("first")
    folder = run("second", previous="first")
    assert "Nothing has changed" in (folder / "profile.html").read_text()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"rows": 1_500}, "4,000 interactions fell to 1,500"),
        ({"users": 900}, "density went from 0.4 to"),
        ({"liked": 0.95}, "the ratings drifted"),
        ({"users": 60}, "the interactions per user drifted"),
        ({"times": True}, "the columns were .* event_time"),
    ],
)
def test_drift_stops_the_run_before_training(run, tmp_path, shape, message):
    run("first")
    with pytest.raises(InputError, match=message):
        run("second", previous="first", **shape)
    assert not (tmp_path / "second" / "training" / MANIFEST).exists()
    assert (tmp_path / "second" / "profile" / MANIFEST).exists()
    assert 'class="breach"' in (tmp_path / "second" / "profile.html").read_text()


def test_drift_may_only_warn(run, caplog):
    run("first")
    with caplog.at_level(logging.WARNING):
        folder = run("second", previous="first", on_drift="warn", rows=1_500)
    assert "interactions fell to 1,500" in caplog.text
    assert (folder / "training" / MANIFEST).exists()


def test_no_previous_profile_there(run):
    with pytest.raises(InputError, match="previous_profile"):
        run("first", previous="none")


def test_psi_is_that_of_the_formula():
    before, now = {"1": 50, "2": 50}, {"1": 25, "2": 75}
    expected = (0.25 - 0.5) * np.log(0.25 / 0.5) + (0.75 - 0.5) * np.log(0.75 / 0.5)
    assert psi(before, now) == pytest.approx(expected)
    assert psi(before, before) == 0
    assert np.isfinite(psi({"1": 1}, {"2": 1}))
