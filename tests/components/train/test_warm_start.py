"""Trainings that start from the champion or from another model, and those that cannot."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from components.registry import open_registry
from components.train.options import TrainStepOptions
from components.train.step import train
from tests.components.registry.conftest import make_version
from trainer.errors import InputError
from trainer.files import MANIFEST
from trainer.matrix import InteractionMatrix
from trainer.model import Model
from trainer.vocabulary import Vocabulary, save_vocabularies

USERS, ITEMS = 60, 30
OPTIONS = {"latent_factors": "3", "num_iters": 2, "regularization": "0.01"}
RANDOM = "starting from random factors"


def write_data(folder: Path, ids: Any = range(USERS)) -> dict[str, Path]:
    random = np.random.default_rng(3)
    entries = random.integers(1, 3, (USERS, ITEMS)) * (random.random((USERS, ITEMS)) < 0.3)
    InteractionMatrix.from_scipy(sparse.csr_array(entries.astype(np.float32))).save(folder / "matrix")
    save_vocabularies(folder / "vocabulary", Vocabulary.of(ids), Vocabulary.of(range(ITEMS)))
    return {name: folder / name for name in ("matrix", "vocabulary")}


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    return write_data(tmp_path)


@pytest.fixture
def served(inputs: dict[str, Path], tmp_path: Path) -> Path:
    """The folder of the champion's model, after many iterations."""
    train(TrainStepOptions(**OPTIONS | {"num_iters": 40}), **inputs, model=tmp_path / "served")
    return tmp_path / "served"


def serve(registry: str, model: Path) -> str:
    """Make a model the champion of a registry, and return its version."""
    version = make_version(1)
    opened = open_registry(registry)
    opened.add(version, {"model": model})
    opened.promote(version.name, None)
    return version.name


def trained(inputs: dict[str, Path], model: Path, **options: object) -> tuple[Model, dict[str, Any]]:
    metadata = train(TrainStepOptions(**OPTIONS | options), **inputs, model=model)
    return Model.load(model), metadata


@pytest.mark.parametrize("place", ["local", "gs", "s3"])
def test_a_training_starts_from_the_champion_wherever_it_is(
    place: str, inputs: dict[str, Path], served: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    registry = str(tmp_path / "registry")
    if place != "local":
        request.getfixturevalue("bucket" if place == "gs" else "s3_bucket")
        registry = f"{place}://bucket/models"
    version = serve(registry, served)
    cold, without = trained(inputs, tmp_path / "cold")
    warm, metadata = trained(inputs, tmp_path / "warm", warm_start="champion", registry=registry)
    assert warm.history[0].objective < cold.history[-1].objective
    assert metadata["warm_start"] == version
    assert "warm_start" not in without


@pytest.mark.parametrize("place", ["local", "gs", "s3"])
def test_a_training_starts_from_a_model_by_its_address(
    place: str, inputs: dict[str, Path], served: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    address = str(served)
    if place != "local":
        request.getfixturevalue("bucket" if place == "gs" else "s3_bucket")
        version = serve(f"{place}://bucket/models", served)
        address = f"{place}://bucket/models/versions/{version}/model"
    expected, _ = trained(inputs, tmp_path / "expected", warm_start=str(served))
    warm, metadata = trained(inputs, tmp_path / "warm", warm_start=address)
    assert metadata["warm_start"] == address
    assert warm.item_factors.tobytes() == expected.item_factors.tobytes()
    assert warm.history[0].objective < Model.load(served).history[1].objective


def test_what_is_left_at_auto_is_as_in_the_champion(
    inputs: dict[str, Path], served: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    serve(str(tmp_path / "registry"), served)
    automatic = {"latent_factors": "auto", "regularization": "auto", "registry": str(tmp_path / "registry")}
    with caplog.at_level(logging.INFO, "trainer"):
        warm, _ = trained(inputs, tmp_path / "warm", warm_start="champion", **automatic)
    assert (warm.config.latent_factors, warm.config.regularization) == (3, 0.01)
    assert "auto: 3 factors, regularization 0.01" in caplog.text
    assert "as in the earlier model" in caplog.text


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (None, "has no champion yet"),
        ({"latent_factors": "4"}, "has 3 latent factors, and this training 4"),
        ({"feedback": "explicit"}, "was trained on implicit feedback, and this training is explicit"),
    ],
)
def test_without_a_champion_that_fits_a_training_starts_from_random_factors(
    changes: dict[str, str] | None,
    line: str,
    inputs: dict[str, Path],
    served: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = str(tmp_path / "registry")
    if changes is not None:
        serve(registry, served)
    cold, _ = trained(inputs, tmp_path / "cold", **changes or {})
    with caplog.at_level(logging.INFO, "components"):
        warm, metadata = trained(
            inputs, tmp_path / "warm", warm_start="champion", registry=registry, **changes or {}
        )
    lines = [record.getMessage() for record in caplog.records]
    (logged,) = [line for line in lines if line.startswith("warm start: ")]
    assert line in logged
    assert logged.endswith(RANDOM)
    assert warm.item_factors.tobytes() == cold.item_factors.tobytes()
    assert "warm_start" not in metadata


def test_a_model_that_does_not_fit_is_refused_in_one_line(
    inputs: dict[str, Path], served: Path, tmp_path: Path
) -> None:
    (tmp_path / "texts").mkdir()
    texts = write_data(tmp_path / "texts", [f"user {i:02}" for i in range(USERS)])
    (tmp_path / "empty").mkdir()
    serve(str(tmp_path / "registry"), served)
    champion = {"warm_start": "champion", "registry": str(tmp_path / "registry")}
    named = {"warm_start": str(served)}
    for data, options, line in (
        (inputs, {**named, "latent_factors": "4"}, r"warm_start '.*': has 3 latent factors"),
        (inputs, {**named, "feedback": "explicit"}, r"warm_start '.*': was trained on implicit feedback"),
        (inputs, {"warm_start": str(tmp_path / "empty")}, r"wals\.model '.*': has no _manifest\.json"),
        (texts, named, r"warm_start 'int64': ids are not string"),
        (texts, champion, r"warm_start 'int64': ids are not string"),
        (inputs, {"warm_start": "champion"}, r"warm_start 'champion': requires a registry; give registry"),
        (inputs, {"warm_start": "ftp://host/model"}, r"is not a valid folder of a model"),
    ):
        with pytest.raises(InputError, match=line):
            trained(data, tmp_path / "model", **options)
        assert not (tmp_path / "model" / MANIFEST).exists()


def test_a_damaged_champion_is_refused_as_in_the_evaluation(
    inputs: dict[str, Path], served: Path, tmp_path: Path
) -> None:
    registry = tmp_path / "registry"
    version = serve(str(registry), served)
    factors = registry / "versions" / version / "model" / "item_factors.npy"
    factors.write_bytes(factors.read_bytes()[:-4])
    with pytest.raises(InputError, match=rf"registry '.*': the champion, {version}, cannot be used: .*"):
        trained(inputs, tmp_path / "warm", warm_start="champion", registry=str(registry))


def test_an_address_without_a_model_is_refused(
    s3_bucket: object, inputs: dict[str, Path], tmp_path: Path
) -> None:
    for address, line in (
        ("s3://bucket/nothing", "has no _manifest.json"),
        ("s3://no-such-bucket/model", "does not exist"),
    ):
        with pytest.raises(InputError, match=f"warm_start '{address}': {line}"):
            trained(inputs, tmp_path / "warm", warm_start=address)
