"""Artifacts of two runs, which have the same shapes, under the names of one."""

import json
import shutil
from pathlib import Path

import pytest

from components.artifacts.holdout import TARGETS
from components.evaluate.options import EvaluateOptions
from components.evaluate.step import evaluate
from components.extract.options import ExtractOptions
from components.extract.step import extract
from components.prepare.options import PrepareOptions
from components.prepare.step import prepare
from components.train.options import RefitOptions, TrainStepOptions
from components.train.refit import refit
from components.train.step import train
from trainer.errors import InputError
from trainer.files import MANIFEST

pytestmark = pytest.mark.attack

OPTIONS = TrainStepOptions(latent_factors="2", num_iters=2)
INPUTS = ("model", "training", "holdout", "vocabulary", "catalogue", "profile")


def make_run(folder: Path, ratings: Path, seed: int) -> dict[str, Path]:
    """Run the steps up to the training; the same ratings are divided by the seed."""
    named = {name: folder / name for name in (*INPUTS, "interactions")}
    found = {name: named[name] for name in ("interactions", "catalogue")}
    extract(ExtractOptions(source=str(ratings)), **found)
    prepared = {
        name: named[name] for name in ("interactions", "training", "holdout", "vocabulary", "profile")
    }
    prepare(PrepareOptions(seed=seed), **prepared, profile_report=folder / "profile.html")
    train(OPTIONS, matrix=named["training"], vocabulary=named["vocabulary"], model=named["model"])
    return {name: named[name] for name in INPUTS}


def judge(artifacts: dict[str, Path], scratch: Path) -> None:
    chosen = {name: artifacts[name] for name in ("model", "training", "holdout", "catalogue", "profile")}
    evaluate(EvaluateOptions(), **chosen, evaluation=scratch / "evaluation", report=scratch / "report.html")


def fit_again(artifacts: dict[str, Path], scratch: Path) -> None:
    chosen = {name: artifacts[name] for name in ("training", "holdout", "vocabulary")}
    outputs = {"model": scratch / "refitted", "saved_model": scratch / "saved"}
    refit(RefitOptions(refit_iters=1), judged=artifacts["model"], **chosen, **outputs)


def fit_first(artifacts: dict[str, Path], scratch: Path) -> None:
    train(
        OPTIONS,
        matrix=artifacts["training"],
        vocabulary=artifacts["vocabulary"],
        model=scratch / "trained",
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, ratings_csv: Path) -> list[dict[str, Path]]:
    folder = tmp_path_factory.mktemp("runs")
    return [make_run(folder / str(seed), ratings_csv, seed) for seed in (1, 2)]


@pytest.mark.parametrize(
    ("step", "swapped", "named"),
    [
        (judge, "model", "model"),
        (judge, "training", "model"),
        (judge, "holdout", "holdout"),
        (fit_again, "model", "model"),
        (fit_again, "training", "model"),
        (fit_again, "holdout", "holdout"),
        (fit_first, "training", "vocabulary"),
        (fit_first, "vocabulary", "vocabulary"),
    ],
)
def test_artifacts_of_two_runs_are_refused_together(
    step, swapped: str, named: str, runs: list[dict[str, Path]], tmp_path: Path
) -> None:
    mixed = {**runs[0], swapped: runs[1][swapped]}
    with pytest.raises(InputError, match="give artifacts of one run") as refused:
        step(mixed, tmp_path)
    # Both artifacts are named.
    assert f"{named} {str(mixed[named])!r}" in str(refused.value)
    assert str(mixed["training"]) in str(refused.value)
    assert not list(tmp_path.glob(f"*/{MANIFEST}"))


@pytest.mark.parametrize("step", [judge, fit_again])
def test_targets_of_another_run_in_the_folder_of_a_holdout_are_refused(
    step, runs: list[dict[str, Path]], tmp_path: Path
) -> None:
    holdout = tmp_path / "holdout"
    shutil.copytree(runs[0]["holdout"], holdout)
    shutil.rmtree(holdout / TARGETS)
    shutil.copytree(runs[1]["holdout"] / TARGETS, holdout / TARGETS)
    with pytest.raises(InputError, match="is from another run than its folder"):
        step({**runs[0], "holdout": holdout}, tmp_path)


@pytest.mark.parametrize("step", [judge, fit_again])
def test_artifacts_without_checksums_of_their_run_are_accepted(
    step, runs: list[dict[str, Path]], tmp_path: Path
) -> None:
    older = {name: tmp_path / name for name in INPUTS}
    for name, folder in older.items():
        shutil.copytree(runs[0][name], folder)
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        manifest.pop("training", None)
        if name == "holdout":
            del manifest["sha256"]
        (folder / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    step(older, tmp_path)
