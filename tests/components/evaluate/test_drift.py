"""Drift: how the data of a night differ from those of the champion."""

import html
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from components.artifacts.evaluation import SCHEMA, Drift, Evaluation
from components.artifacts.profile import FILE, Profile
from components.deliver.options import DeliverOptions
from components.deliver.step import deliver
from components.evaluate.drift import of_ids, of_popularity, of_profiles
from components.evaluate.options import EvaluateOptions
from components.evaluate.step import evaluate
from components.extract.options import ExtractOptions
from components.extract.step import extract
from components.prepare.options import PrepareOptions
from components.prepare.step import prepare
from components.publish.options import PublishOptions
from components.publish.step import publish
from components.registry import open_registry
from components.train.options import RefitOptions, TrainStepOptions
from components.train.refit import refit
from components.train.step import train
from tests.components.profiles import profile
from trainer.files import MANIFEST, read_manifest, sha256

NOW = datetime(2026, 2, 3, tzinfo=UTC)
"""Two days after the newest interaction of `profile`."""


def ratings(rows: int, users: int = 120) -> pd.DataFrame:
    """Return ratings of which fewer rows are the beginning of more."""
    rng = np.random.default_rng(0)
    start = pd.Timestamp("2026-01-01", tz="UTC")
    return pd.DataFrame(
        {
            "user": rng.integers(0, users, 6_000)[:rows],
            "item": (rng.random(6_000) ** 2 * 40).astype(int)[:rows],
            "rating": rng.integers(1, 6, 6_000)[:rows],
            "timestamp": (start + pd.to_timedelta(10 * np.arange(6_000), unit="min"))[:rows],
        }
    )


class Nights:
    """Runs of one registry, step by step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = folder / "registry"

    def run(self, name: str, data: pd.DataFrame, refit_iters: int = 1, **options: Any) -> Evaluation:
        """Run the steps of a night, without a delivery if the model is rejected; return its evaluation."""
        night = self.folder / name
        night.mkdir()
        data.to_parquet(night / "ratings.parquet")

        def at(*names: str) -> dict[str, Path]:
            return {name: night / name for name in names}

        extract(
            ExtractOptions(source=str(night / "ratings.parquet"), row_filter="rating > 0"),
            **at("interactions", "catalogue"),
        )
        sets = at("training", "holdout", "vocabulary")
        prepare(
            PrepareOptions(**options),
            **at("interactions", "profile"),
            **sets,
            profile_report=night / "profile.html",
        )
        train(
            TrainStepOptions(latent_factors="4", num_iters=2),
            matrix=sets["training"],
            vocabulary=sets["vocabulary"],
            model=night / "judged",
        )
        evaluate(
            EvaluateOptions(registry=str(self.registry), min_over_popularity=-1, eval_users=50),
            model=night / "judged",
            **at("training", "holdout", "catalogue", "profile", "evaluation", "report"),
        )
        judged = read_manifest(night / "evaluation", SCHEMA, Evaluation)
        if judged.decision.outcome == "rejected":
            return judged
        refit(
            RefitOptions(refit_iters=refit_iters),
            judged=night / "judged",
            **sets,
            **at("model", "saved_model"),
        )
        made = at("recommendations", "similar_items", "embeddings")
        publish(PublishOptions(top_k=2, similar_k=2), **at("model", "catalogue"), **made)
        deliver(
            DeliverOptions(registry=str(self.registry)),
            **at("model", "saved_model", "evaluation", "report", "profile", "delivery"),
            **made,
        )
        return judged

    def report(self, name: str) -> str:
        """Return the text of a night's report."""
        text = re.sub(r"<[^>]+>", " ", (self.folder / name / "report").read_text("utf-8"))
        return html.unescape(re.sub(r"\s+", " ", text))


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    return Nights(tmp_path)


def exceeded(evaluation: Evaluation) -> set[str]:
    return {drift.name for drift in evaluation.drift if drift.exceeded}


def test_the_second_night_on_half_of_the_data_warns(nights: Nights) -> None:
    first = nights.run("first", ratings(6_000))
    assert (first.drift, first.drift_warning) == ((), "")
    assert "There is no champion whose data these could be compared with." in nights.report("first")

    registry = open_registry(str(nights.registry))
    version = registry.version(registry.serving().version)
    kept = {file.path: file.sha256 for file in version.parts["profile"]}
    assert kept == {name: sha256(nights.folder / "first" / "profile" / name) for name in (FILE, MANIFEST)}

    half = ratings(6_000).query("user < 60")[:3_000]
    second = nights.run("second", half)
    found = {drift.name: drift for drift in second.drift}
    assert found["interactions"].value == pytest.approx(len(half) / 6_000 - 1)
    assert found["vanished users"].value == pytest.approx(0.5)
    assert found["new users"].value == 0
    assert exceeded(second) == {"interactions", "users", "vanished users"}
    said = f"the interactions fell by {1 - len(half) / 6_000:.1%}, from 6,000 to {len(half):,}"
    assert said in second.drift_warning
    report = nights.report("second")
    assert f"Data drift. {second.drift_warning}" in report
    assert f"interactions {len(half):,} 6,000" in report
    assert second.facts["source"] == str(nights.folder / "second" / "ratings.parquet")
    assert second.facts["row filter"] == "rating > 0"
    assert second.facts["checksum of the interactions"] == sha256(
        nights.folder / "second" / "interactions" / MANIFEST
    )


@pytest.mark.slow
@pytest.mark.parametrize("refit_iters", [0, 1])
@pytest.mark.parametrize("split", ["random", "users", "time"])
def test_the_same_data_again_are_no_drift(nights: Nights, split: str, refit_iters: int) -> None:
    nights.run("first", ratings(2_000), refit_iters, split=split)
    second = nights.run("second", ratings(2_000), refit_iters, split=split)
    by_clock = "newest interaction"
    assert {drift.name: round(drift.value, 6) for drift in second.drift if drift.name != by_clock} == {
        **dict.fromkeys(("interactions", "users", "items", "ratings", "popularity"), 0),
        **dict.fromkeys(("new users", "vanished users", "new items", "vanished items"), 0),
    }
    assert second.drift_warning == ""


@pytest.mark.parametrize("damage", ["missing", "truncated", "empty"])
def test_a_champion_without_a_readable_profile_is_compared_by_its_model(
    nights: Nights, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    nights.run("first", ratings(2_000))
    (kept,) = nights.registry.glob(f"versions/*/profile/{FILE}")
    if damage == "missing":
        kept.unlink()
    elif damage == "empty":
        content = json.loads(kept.read_bytes())
        kept.write_text(json.dumps({**content, "ratings": dict.fromkeys(content["ratings"], 0)}), "utf-8")
    else:
        kept.write_bytes(kept.read_bytes()[:50])
    second = nights.run("second", ratings(1_000))
    assert {drift.name for drift in second.drift} == {
        *("new users", "vanished users", "new items", "vanished items", "popularity"),
    }
    assert "the data are not compared with the champion's: profile" in caplog.text


def drift_of(now: Profile, then: datetime = NOW, at: datetime = NOW) -> dict[str, Drift]:
    return {drift.name: drift for drift in of_profiles(now, profile(), at, then)}


@pytest.mark.parametrize(
    ("changes", "name", "warns", "detail"),
    [
        ({"rows": 2_900}, "interactions", False, "the interactions fell by 27.5%, from 4,000 to 2,900"),
        ({"rows": 2_000}, "interactions", True, "the interactions fell by 50.0%, from 4,000 to 2,000"),
        ({"rows": 8_000}, "interactions", True, "the interactions rose by 100.0%, from 4,000 to 8,000"),
        ({}, "interactions", False, "there are 4,000 interactions, as before"),
        ({"users": 100}, "users", True, "the users fell by 50.0%, from 200 to 100"),
        ({"items": 66}, "items", True, "the items rose by 32.0%, from 50 to 66"),
        ({"ratings": {"8": 10, "20": 90}}, "ratings", True, "shifted by a PSI of"),
    ],
)
def test_each_difference_of_two_profiles_has_its_limit(
    changes: dict[str, Any], name: str, warns: bool, detail: str
) -> None:
    found = drift_of(profile(**changes))[name]
    assert found.exceeded is warns
    assert detail in found.detail


@pytest.mark.parametrize(("days", "warns"), [(0, False), (2.9, False), (3.1, True), (-40, False)])
def test_data_that_stop_coming_are_drift(days: float, warns: bool) -> None:
    found = drift_of(profile(), at=NOW + timedelta(days=days))["newest interaction"]
    assert found.exceeded is warns
    assert f"is {2 + days:,.1f} days old, and was 2.0 days old then" in found.detail


def test_data_that_are_old_by_nature_are_not_drift() -> None:
    years = timedelta(days=3_000)
    assert not drift_of(profile(), then=NOW + years, at=NOW + years)["newest interaction"].exceeded


def test_data_without_times_or_ratings_have_no_drift_of_these() -> None:
    events = profile(latest="", earliest="", ratings={"8": 10})
    found = of_profiles(events, events, NOW, NOW)
    assert {drift.name for drift in found} == {"interactions", "users", "items"}


def test_new_and_vanished_ids_are_shares_of_their_own_side() -> None:
    new, gone = of_ids("items", 200, 100, 80)
    assert (new.name, new.value, new.exceeded) == ("new items", 0.6, True)
    assert (gone.name, gone.value, gone.exceeded) == ("vanished items", pytest.approx(0.2), False)
    assert new.detail == "60.0% of the items are new (120 of 200)"
    assert gone.detail == "20.0% of the champion's items are gone (20 of 100)"


def test_the_shift_of_the_popularity_is_the_jensen_shannon_distance() -> None:
    now, before = np.array([10, 0, 30, 0]), np.array([5, 5, 0, 0])
    p, q = now / now.sum(), before / before.sum()
    m = (p + q) / 2
    divergence = sum(np.sum(one[one > 0] * np.log2(one[one > 0] / m[one > 0])) for one in (p, q)) / 2
    found = of_popularity(now, before)
    assert found.value == pytest.approx(np.sqrt(divergence))
    assert found.exceeded
    assert of_popularity(3 * before, before).value == pytest.approx(0)
    assert of_popularity(np.array([1, 0]), np.array([0, 1])).value == pytest.approx(1)
