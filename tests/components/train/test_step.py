"""The training step: artifacts in, a model artifact out."""

import logging
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from components.train.options import TrainStepOptions
from components.train.step import train
from trainer.errors import InputError
from trainer.matrix import InteractionMatrix
from trainer.model import Model
from trainer.vocabulary import Vocabulary, save_vocabularies

CONFIG = TrainStepOptions(latent_factors="3", num_iters=4)


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    entries = np.random.default_rng(3).integers(0, 3, size=(8, 6)).astype(np.float32)
    InteractionMatrix.from_scipy(sparse.csr_array(entries)).save(tmp_path / "matrix")
    save_vocabularies(
        tmp_path / "vocabulary",
        Vocabulary.of(range(100, 108)),
        Vocabulary.of([f"item {i}" for i in range(6)]),
    )
    return {"matrix": tmp_path / "matrix", "vocabulary": tmp_path / "vocabulary"}


def test_the_model_carries_the_ids_and_the_metadata_its_counts(
    inputs: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "trainer"):
        metadata = train(CONFIG, **inputs, model=tmp_path / "model")
    model = Model.load(tmp_path / "model")
    assert model.users.take(np.array([0, 7])) == [100, 107]
    assert model.items.take(np.array([5])) == ["item 5"]
    assert metadata["users"] == 8
    assert metadata["items"] == 6
    assert metadata["latent_factors"] == 3
    assert metadata["iterations"] == 4
    assert metadata["objective"] == model.history[-1].objective
    assert "iteration 4 of 4: objective" in caplog.text


def test_the_same_input_gives_the_same_bytes(inputs: dict[str, Path], tmp_path: Path) -> None:
    for name in ("one", "two"):
        train(CONFIG, **inputs, model=tmp_path / name)
    for file in ("user_factors.npy", "item_factors.npy"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_progress_is_written_to_vertex_ais_folder_for_tensorboard(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIP_TENSORBOARD_LOG_DIR", str(tmp_path / "tensorboard"))
    train(CONFIG, **inputs, model=tmp_path / "model")
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert "tfevents" in events.name
    assert events.read_bytes().count(b"objective") == CONFIG.num_iters


def test_bad_input_leaves_no_model(inputs: dict[str, Path], tmp_path: Path) -> None:
    for config, named in (({"latent_factors": 0}, "latent_factors"), ({"factors": 3}, "factors")):
        with pytest.raises(InputError, match=named):
            train(TrainStepOptions(**config), **inputs, model=tmp_path / "model")
    with pytest.raises(InputError, match=r"wals\.matrix"):
        train(CONFIG, **{**inputs, "matrix": inputs["vocabulary"]}, model=tmp_path / "model")
    assert not (tmp_path / "model").exists()
