"""Every report, written from content that is as bad as others may make it."""

from collections.abc import Callable
from pathlib import Path

from components.artifacts.evaluation import (
    ChampionFacts,
    Check,
    Decision,
    Drift,
    Estimate,
    Evaluation,
    Holdout,
    Recommender,
    Segment,
)
from components.evaluate.examples import Examples, Item, Neighbourhood, User
from components.evaluate.report import write_report as write_evaluation
from components.prepare.profile.report import write_report as write_profile
from components.probe.findings import FIX, OK, WARNING, Finding, as_content
from components.probe.report import report as write_findings
from components.tune.choose import choose
from components.tune.options import ChooseOptions
from tests.components.profiles import profile
from trainer.choice import Choice, Tried
from trainer.config import TrainConfig
from trainer.history import Iteration
from trainer.options import Options

SCRIPT = "<script>alert('title')</script>"
IMAGE = "\"><img src='https://example.com/x.png' onerror=alert(1)>"
RIGHT_TO_LEFT = "\u202e\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd\u202e"
LONG = "endless" * 1500
STACKED = "Z\u0351\u036b\u0343\u036a" + "\u0302" * 100
HOSTILE = (SCRIPT, IMAGE, RIGHT_TO_LEFT, LONG, STACKED)

_RECOMMENDERS: tuple[Recommender, ...] = ("model", "champion", "popularity", "item_cosine", "random")


def estimates(scale: float) -> dict[str, Estimate]:
    """Return metrics of a recommender, which are proportional to ``scale``."""
    ranking = {
        f"{kind}_at_{k}": Estimate(value=scale * k / 200, low=scale * k / 250, high=scale * k / 150)
        for kind in ("recall", "ndcg", "map", "mrr", "hit_rate")
        for k in (10, 20, 50, 100)
    }
    rest = {
        "coverage_at_20": 0.2,
        "gini_at_20": 0.9,
        "novelty_at_20": 7.5,
        "popularity_at_20": 0.1,
        "rmse": 0.7,
    }
    return ranking | {name: Estimate(value=scale * value) for name, value in rest.items()}


def evaluation(**changes: object) -> Evaluation:
    """Return an evaluation with everything that a report can show."""
    metrics = {name: estimates(1 / place) for place, name in enumerate(_RECOMMENDERS, 1)}
    content = Evaluation(
        decision=Decision(
            outcome="rejected",
            reason="NDCG@20 is 0.1000, 12.0 % below the champion's 0.1136.",
            metric="ndcg_at_20",
            checks=(
                Check(name="gain over the champion", passed=False, detail=f"too low {SCRIPT}"),
                Check(name="gain over popularity", passed=True, detail="high enough"),
            ),
        ),
        champion=ChampionFacts(
            version="20261125T201500Z-1a2b3c4d",
            promoted="2026-11-25T20:16:11+00:00",
            unknown_users=3,
            unknown_items=12,
            excluded_entries=1410,
        ),
        holdout=Holdout(users=657, entries=9874, checksum="ab" * 32),
        metrics=metrics,
        segments=tuple(
            Segment(by=by, name=name, users=100, metrics=metrics)
            for by, names in {
                "user activity": ("cold", "middle", "heavy"),
                "item popularity": ("head", "tail"),
            }.items()
            for name in names
        ),
        parameters=TrainConfig().model_dump() | {"note": LONG},
        drift=(
            Drift(name="interactions", value=-0.5, limit=0.3, detail=f"the interactions fell {SCRIPT}"),
            Drift(name="popularity", value=0.1, limit=0.4, detail=LONG),
        ),
        choice=Choice(
            parameters=("latent_factors", "alpha"),
            metric="ndcg_at_20",
            score=0.1234,
            baseline=0.1111,
            users=657,
            entries=90_170,
            seconds=2.25,
            tried=(Tried(16, 0.003, 0.1, 0.0, 0.1212), Tried(64, 0.003, 0.1, 0.0, 0.1234)),
        ),
        history=tuple(Iteration(n, 1e5 / n, 0.25, 0.1 * n) for n in range(1, 9)),
        facts={"source": IMAGE, "code": "wals 0.1.0"},
    )
    return content.model_copy(update=changes)


def examples(titles: tuple[str, ...] = (*HOSTILE, "Toy Story (1995)")) -> Examples:
    """Return examples with these titles, which are also the categories and the users' ids."""
    items = tuple(Item(title, title, title, "value 5") for title in titles)
    users = tuple(User(title, 21, 5, 1, items, items) for title in titles[:3])
    return Examples(users, tuple(Neighbourhood(item, items) for item in items[3:5]))


def _evaluation(path: Path) -> None:
    write_evaluation(evaluation(), examples(), profile(rows=2_000), profile(), path)


def _profile(path: Path) -> None:
    write_profile(profile(), profile(), [f"the columns were {SCRIPT}, and are {LONG}"], path)


def _study(path: Path) -> None:
    weights = ("regularization", "regularization_exponent", "unobs_weight", "alpha")
    trials = [
        {
            "number": float(number),
            "parameters": {"latent_factors": 8.0 + number, **dict.fromkeys(weights, 0.1 + number / 10)},
            "values": {"2": 0.1 + number / 100, "4": 0.2 + number / 100},
            "pruned": number == 2,
            "rungs": {},
        }
        for number in range(6)
    ]
    choose(ChooseOptions(), first=trials[:3], second=trials[3:], third=[], study=path)


def _findings(path: Path) -> None:
    found = [
        Finding("solver", FIX, f"auto trains on the {SCRIPT}", LONG, ("train",)),
        Finding("source", WARNING, IMAGE, "read it", ("extract",)),
        Finding("disk", OK, "10 GB", "", ("extract", "prepare", "train")),
    ]
    folder = path.parent / "findings"
    write_findings(Options(), trials=[as_content(found)], findings=folder, table=path)


REPORTS: dict[str, Callable[[Path], None]] = {
    "evaluation": _evaluation,
    "profile": _profile,
    "study": _study,
    "findings": _findings,
}
