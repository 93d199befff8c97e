"""Workers that solve their rows on a GPU, whose kernels run on the CPU here."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.trainer.distributed.jobs import free_addresses
from tests.trainer.emulation.device import EmulatedDevice, require_compiler
from tests.trainer.shapes import interactions
from trainer import solvers
from trainer.config import TrainConfig
from trainer.distributed.cluster import Cluster
from trainer.distributed.training import assist
from trainer.distributed.workers import Workers
from trainer.gpus import Gpu, Gpus
from trainer.matrix import InteractionMatrix
from trainer.model import Model
from trainer.solvers.cuda import device as device_module
from trainer.training import fit


@pytest.mark.parametrize("workers", [2, 3])
def test_several_gpus_find_the_factors_of_one(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of three has no rows of the two items."""
    require_compiler()
    gpus = Gpus((Gpu("NVIDIA H100", 80 << 30, (9, 0)),), "580.65.06", (13, 0))
    monkeypatch.setattr(solvers, "find_gpus", lambda: gpus)
    monkeypatch.setattr(solvers, "cupy_obstacle", lambda *_: None)
    monkeypatch.setattr(device_module, "open_device", EmulatedDevice)
    matrix = InteractionMatrix.from_scipy(interactions(60, 2 if workers == 3 else 25, 100, counts=True))
    config = TrainConfig(solver="cuda", latent_factors=5, num_iters=3, alpha=0.5)
    addresses = tuple(free_addresses(workers))

    def part(rank: int) -> Model | None:
        with Workers(Cluster(addresses, rank)) as joined:
            if joined.is_chief:
                return fit(matrix, config, workers=joined)
            assist(joined, matrix)
            return None

    with ThreadPoolExecutor(workers) as executor:
        models = [executor.submit(part, rank) for rank in range(workers)]
        found, *_ = [model.result() for model in models]
    expected = fit(matrix, config)
    assert found
    np.testing.assert_allclose(found.user_factors, expected.user_factors, atol=1e-5)
    np.testing.assert_allclose(found.item_factors, expected.item_factors, atol=1e-5)
    objectives = [[iteration.objective for iteration in model.history] for model in (found, expected)]
    np.testing.assert_allclose(*objectives, rtol=1e-5)
