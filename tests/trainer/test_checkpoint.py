import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.test_training import random_matrix
from trainer.checkpoint import Checkpoints
from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.matrix import InteractionMatrix
from trainer.training import fit

CONFIG = TrainConfig(latent_factors=8, num_iters=6)

# Trains like `resumed`, and is killed just before it renames its n-th file.
KILLED = """
import os, signal, sys
from pathlib import Path
from tests.trainer.test_checkpoint import CONFIG, interactions
from trainer.checkpoint import Checkpoints
from trainer.training import fit

left, rename = int(sys.argv[2]), Path.replace

def replace(self, target):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)

Path.replace = replace
fit(interactions(), CONFIG, checkpoints=Checkpoints(Path(sys.argv[1]), 2))
"""


def interactions() -> InteractionMatrix:
    return InteractionMatrix.from_scipy(random_matrix())


@pytest.mark.parametrize(
    "renames", [1, 4, 6, *(pytest.param(late, marks=pytest.mark.slow) for late in (3, 8))]
)
def test_resumes_to_the_same_bytes_after_kill_9(tmp_path: Path, renames: int) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(renames)], check=False)
    assert killed.returncode == -signal.SIGKILL
    iterations = []
    resumed = fit(
        interactions(),
        CONFIG,
        checkpoints=Checkpoints(tmp_path, 2),
        on_iteration=lambda iteration: iterations.append(iteration.number),
    )
    # A checkpoint is three files, and complete once its manifest is renamed.
    assert iterations[0] == 2 * ((renames - 1) // 3) + 1
    plain = fit(interactions(), CONFIG)
    assert resumed.user_factors.tobytes() == plain.user_factors.tobytes()
    assert resumed.item_factors.tobytes() == plain.item_factors.tobytes()
    assert [entry.objective for entry in resumed.history] == [entry.objective for entry in plain.history]


def test_only_the_last_checkpoint_is_kept(tmp_path: Path) -> None:
    fit(interactions(), CONFIG, checkpoints=Checkpoints(tmp_path, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["iteration-00006"]


def test_none_is_written_before_its_time(tmp_path: Path) -> None:
    fit(interactions(), CONFIG, checkpoints=Checkpoints(tmp_path, 1, seconds=3600))
    assert not list(tmp_path.iterdir())


def test_a_finished_run_can_resume_with_more_iterations(tmp_path: Path) -> None:
    fit(interactions(), CONFIG, checkpoints=Checkpoints(tmp_path, 2))
    longer = CONFIG.replace(num_iters=9)
    resumed = fit(interactions(), longer, checkpoints=Checkpoints(tmp_path, 2))
    plain = fit(interactions(), longer)
    assert resumed.item_factors.tobytes() == plain.item_factors.tobytes()


def test_checkpoints_of_other_parameters_or_data_are_refused_by_name(tmp_path: Path) -> None:
    fit(interactions(), CONFIG, checkpoints=Checkpoints(tmp_path, 2))
    with pytest.raises(InputError, match=r"regularization 0\.5: differs from 0\.003 in the checkpoint"):
        fit(
            interactions(),
            CONFIG.replace(regularization=0.5),
            checkpoints=Checkpoints(tmp_path, 2),
        )
    other = InteractionMatrix.from_scipy(random_matrix(seed=5))
    with pytest.raises(InputError, match="belongs to another matrix"):
        fit(other, CONFIG, checkpoints=Checkpoints(tmp_path, 2))


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    fit(interactions(), CONFIG, checkpoints=Checkpoints(tmp_path, 2))
    path = tmp_path / "iteration-00006" / "user_factors.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"user_factors\.npy"):
        fit(interactions(), CONFIG, checkpoints=Checkpoints(tmp_path, 2))


def test_checkpoints_need_an_interval() -> None:
    with pytest.raises(InputError, match="checkpoint_every 0"):
        Checkpoints(Path("anywhere"), 0)


def test_factors_are_not_shared_with_the_file(tmp_path: Path) -> None:
    fit(interactions(), CONFIG, checkpoints=Checkpoints(tmp_path, 6))
    before = np.load(tmp_path / "iteration-00006" / "user_factors.npy")
    fit(interactions(), CONFIG.replace(num_iters=7), checkpoints=Checkpoints(tmp_path, 60))
    np.testing.assert_array_equal(np.load(tmp_path / "iteration-00006" / "user_factors.npy"), before)
