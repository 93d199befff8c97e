import logging
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from trainer.config import TrainConfig
from trainer.history import Iteration
from trainer.matrix import InteractionMatrix
from trainer.model import Model
from trainer.tensorboard import Scalars
from trainer.training import fit


def read(folder: Path) -> dict[str, dict[int, float]]:
    """Return the scalars of a folder by tag and step, as TensorFlow reads them; it checks the checksums."""
    import tensorflow as tf

    (path,) = folder.iterdir()
    first, *events = tf.compat.v1.train.summary_iterator(str(path))
    assert first.file_version == "brain.Event:2"
    scalars: dict[str, dict[int, float]] = {}
    for event in events:
        assert event.wall_time >= first.wall_time > 1.7e9
        for value in event.summary.value:
            scalars.setdefault(value.tag, {})[event.step] = value.simple_value
    return scalars


@pytest.mark.parametrize("validation", [None, lambda model: float(np.abs(model.user_factors).sum())])
def test_tensorflow_reads_every_iteration(tmp_path: Path, validation: object) -> None:
    matrix = sparse.random_array((30, 20), density=0.3, rng=np.random.default_rng(1), format="csr")
    config = TrainConfig(latent_factors=3, num_iters=130)
    model: Model = fit(
        InteractionMatrix.from_scipy(matrix.astype(np.float32)),
        config,
        validation=validation,  # type: ignore[arg-type]
        on_iteration=Scalars(tmp_path / "logs"),
    )
    scalars = read(tmp_path / "logs")
    assert set(scalars) == {"objective", "seconds"} | ({"validation"} if validation else set())
    for tag, by_step in scalars.items():
        expected = {step.number: np.float32(getattr(step, tag)) for step in model.history}
        assert by_step == expected


def test_training_goes_on_without_scalars_if_the_folder_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "logs").write_text("a file", "utf-8")
    scalars = Scalars(tmp_path / "logs")
    with caplog.at_level(logging.WARNING):
        for number in (1, 2):
            scalars(Iteration(number, 1.0, 0.1, None))
    (message,) = caplog.messages
    assert "no TensorBoard scalars are written" in message
