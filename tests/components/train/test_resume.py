"""Trainings that lose their machine: another attempt continues them, on a platform and by hand."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from components.train import checkpoints
from components.train.options import RefitOptions, TrainStepOptions
from components.train.refit import refit
from components.train.step import train
from tests.components.train.program import train_and_die
from tests.components.train.test_refit import CONFIGS, write_run
from tests.processes import running
from trainer.errors import InputError
from trainer.files import MANIFEST
from trainer.matrix import InteractionMatrix
from trainer.model import Model
from trainer.vocabulary import Vocabulary, save_vocabularies

ROOT = Path(__file__).parents[3]
FACTORS = ("user_factors.npy", "item_factors.npy")
RESUMED = "resuming from the checkpoint of iteration"
USERS, ITEMS = 60, 30

# The compiled pipeline on this machine, as `wals run` runs it, but with the retry of a platform.
ON_THE_PLATFORM = """
import json, sys
from kfp import compiler, components, dsl, local
from components.train.component import train

folder, options = sys.argv[1], json.loads(sys.argv[2])

@dsl.pipeline(name="retried")
def retried():
    matrix, vocabulary = (
        dsl.importer(artifact_uri=f"{folder}/{name}", artifact_class=dsl.Dataset).output
        for name in ("matrix", "vocabulary")
    )
    train(matrix=matrix, vocabulary=vocabulary, **options).set_retry(1, "0s")

compiler.Compiler().compile(retried, f"{folder}/spec.yaml")
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=f"{folder}/runs")
components.load_component_from_file(f"{folder}/spec.yaml")()
"""


def write_data(folder: Path, seed: int = 3) -> dict[str, Path]:
    """Write the artifacts that the step reads."""
    random = np.random.default_rng(seed)
    entries = random.integers(1, 3, (USERS, ITEMS)) * (random.random((USERS, ITEMS)) < 0.3)
    InteractionMatrix.from_scipy(sparse.csr_array(entries.astype(np.float32))).save(folder / "matrix")
    save_vocabularies(folder / "vocabulary", Vocabulary.of(range(USERS)), Vocabulary.of(range(ITEMS)))
    return {name: folder / name for name in ("matrix", "vocabulary")}


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    return write_data(tmp_path)


def kill(
    folder: Path, model: Path, options: dict[str, object], iteration: int = 2, *, is_mounted: bool = False
) -> None:
    """Run the step in a process of its own, and kill it after the checkpoint of an iteration."""
    with running(train_and_die, [folder, model, options, iteration, is_mounted], [{}], folder) as processes:
        assert processes[0].ended().code == -signal.SIGKILL


def assert_same(one: Path, other: Path) -> None:
    for file in FACTORS:
        assert (one / file).read_bytes() == (other / file).read_bytes()


@dataclass
class Attempt:
    """A process of the step that the platform has started."""

    number: int

    @classmethod
    def find(cls, mark: str) -> "Attempt":
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                command = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if "python" in command[0] and "kfp.dsl.executor_main" in command and mark in " ".join(command):
                return cls(int(entry.name))
        raise AssertionError("the step has ended")


def test_the_retry_of_a_platform_finishes_a_step_that_was_killed(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    place = tmp_path / "kept"
    options = {"latent_factors": "8", "num_iters": 150, "solver": "cg"}
    kept = {"checkpoint_every": "1", "checkpoint_dir": str(place)}
    command = [sys.executable, "-c", ON_THE_PLATFORM, str(tmp_path), json.dumps(options | kept)]
    log = tmp_path / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as platform,
    ):
        while not [*place.glob(f"checkpoints-*/iteration-*/{MANIFEST}")]:
            assert platform.poll() is None, log.read_text()
            time.sleep(0.005)
        os.kill(Attempt.find(str(place)).number, signal.SIGKILL)
    assert platform.returncode == 0, log.read_text()
    assert log.read_text().count(RESUMED) == 1
    (model,) = tmp_path.glob("runs/*/train/model")
    train(TrainStepOptions(**options), **inputs, model=tmp_path / "plain")
    assert_same(model, tmp_path / "plain")
    assert len(Model.load(model).history) == 150
    assert not [*place.iterdir()]


@pytest.mark.parametrize("place", ["beside the model", "a mounted bucket", "gs", "s3"])
def test_a_killed_step_resumes_from_every_place(
    place: str,
    inputs: dict[str, Path],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = {"latent_factors": "3", "num_iters": 4}
    train(TrainStepOptions(**options), **inputs, model=tmp_path / "plain")
    is_mounted = place == "a mounted bucket"
    if is_mounted:
        # Nobody asks for checkpoints on Vertex AI.
        monkeypatch.setattr(checkpoints, "is_mounted_bucket", lambda _: True)
    elif place == "beside the model":
        options["checkpoint_every"] = "1"
    else:
        request.getfixturevalue("bucket" if place == "gs" else "s3_bucket")
        options["checkpoint_dir"] = f"{place}://bucket/kept"
    kill(tmp_path, tmp_path / "model", options, is_mounted=is_mounted)
    with caplog.at_level(logging.INFO, "trainer"):
        train(TrainStepOptions(**options), **inputs, model=tmp_path / "model")
    assert f"{RESUMED} 2" in caplog.text
    assert_same(tmp_path / "model", tmp_path / "plain")
    assert not [*tmp_path.glob("checkpoints-*")]
    caplog.clear()
    with caplog.at_level(logging.INFO, "trainer"):
        train(TrainStepOptions(**options), **inputs, model=tmp_path / "model")
    assert RESUMED not in caplog.text


def test_values_that_were_chosen_are_kept_and_not_searched_for_again(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"num_iters": 4, "checkpoint_every": "1"}
    train(TrainStepOptions(**options), **inputs, model=tmp_path / "plain")
    kill(tmp_path, tmp_path / "model", options)
    monkeypatch.setattr("trainer.auto.choose", None)
    metadata = train(TrainStepOptions(**options), **inputs, model=tmp_path / "model")
    assert_same(tmp_path / "model", tmp_path / "plain")
    model, plain = (Model.load(tmp_path / name) for name in ("model", "plain"))
    assert metadata["auto"] == "latent_factors, regularization, unobs_weight, alpha"
    assert model.config == plain.config
    assert model.choice
    assert plain.choice
    assert model.choice.tried == plain.choice.tried


def test_a_shared_folder_keeps_trainings_apart(
    inputs: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = {"checkpoint_every": "1", "checkpoint_dir": str(tmp_path / "kept")}
    options = {"latent_factors": "3", "num_iters": 4, **kept}
    kill(tmp_path, tmp_path / "yesterday", options)
    (left,) = (tmp_path / "kept").iterdir()
    (tmp_path / "tonight").mkdir()
    other_data = write_data(tmp_path / "tonight", seed=4)
    tonight: list[tuple[dict[str, Path], dict[str, object]]] = [
        (other_data, {}),
        *((inputs, change) for change in ({"regularization": "0.5"}, {"num_iters": 3}, {"seed": 1})),
    ]
    with caplog.at_level(logging.INFO, "trainer"):
        for data, changes in tonight:
            train(TrainStepOptions(**options | changes), **data, model=tmp_path / "model")
            assert RESUMED not in caplog.text
            assert [*(tmp_path / "kept").iterdir()] == [left]
        # It is still there for a repetition of yesterday's run.
        train(TrainStepOptions(**options), **inputs, model=tmp_path / "yesterday")
    assert f"{RESUMED} 2" in caplog.text


def test_no_checkpoint_is_written_where_no_retry_finds_it(inputs: dict[str, Path], tmp_path: Path) -> None:
    for name, every in (("auto", "auto"), ("none", "0")):
        options = TrainStepOptions(latent_factors="3", num_iters=4, checkpoint_every=every)
        train(options, **inputs, model=tmp_path / name / "model")
        assert [path.name for path in (tmp_path / name).iterdir()] == ["model"]


def test_a_store_that_fails_meanwhile_costs_the_checkpoint_only(
    s3_bucket: object,
    inputs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = TrainStepOptions(
        latent_factors="3", num_iters=3, checkpoint_every="2", checkpoint_dir="s3://bucket/kept"
    )
    begin = checkpoints.StepCheckpoints.begin

    def begin_and_fail(self: checkpoints.StepCheckpoints, beginning: checkpoints.Beginning) -> None:
        begin(self, beginning)
        assert self._store
        self._store._bucket = "gone"  # type: ignore[attr-defined]

    monkeypatch.setattr(checkpoints.StepCheckpoints, "begin", begin_and_fail)
    with caplog.at_level(logging.WARNING, "components"):
        train(options, **inputs, model=tmp_path / "model")
    assert "the checkpoint of iteration 2 is not kept: checkpoint_dir 's3://bucket/kept'" in caplog.text
    assert len(Model.load(tmp_path / "model").history) == 3


def test_a_folder_that_cannot_be_written_is_refused_before_the_training(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    options = TrainStepOptions(num_iters=3, checkpoint_dir=str(tmp_path / "file" / "kept"))
    with pytest.raises(InputError, match=r"output folder '.*/file/kept': cannot be written"):
        train(options, **inputs, model=tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_store_that_cannot_be_used_is_refused_before_the_training(
    s3_bucket: object, inputs: dict[str, Path], tmp_path: Path
) -> None:
    options = TrainStepOptions(num_iters=3, checkpoint_dir="s3://no-such-bucket/kept")
    with pytest.raises(InputError, match=r"checkpoint_dir 's3://no-such-bucket/kept': does not exist"):
        train(options, **inputs, model=tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_refit_that_was_killed_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = write_run(tmp_path, CONFIGS["implicit"])
    outputs = {name: tmp_path / name for name in ("model", "saved_model")}
    refit(RefitOptions(refit_iters=3), **run, model=tmp_path / "plain", saved_model=tmp_path / "saved")
    save = checkpoints.StepCheckpoints.save

    class KilledError(BaseException):
        pass

    def save_and_die(self: checkpoints.StepCheckpoints, *arguments: object) -> None:
        save(self, *arguments)  # type: ignore[arg-type]
        raise KilledError

    options = RefitOptions(refit_iters=3, checkpoint_every="1", checkpoint_dir=str(tmp_path / "kept"))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.StepCheckpoints, "save", save_and_die)
        with pytest.raises(KilledError):
            refit(options, **run, **outputs)
    with caplog.at_level(logging.INFO, "trainer"):
        refit(options, **run, **outputs)
    assert f"{RESUMED} 1" in caplog.text
    assert_same(tmp_path / "model", tmp_path / "plain")
    assert not [*(tmp_path / "kept").iterdir()]
