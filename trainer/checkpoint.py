"""Checkpoints of a training run, which survive the death of the process at any moment.

A checkpoint is a folder ``iteration-00008`` with ``user_factors.npy``, ``item_factors.npy`` and a manifest
(schema ``wals.checkpoint`` v1) that is written last and holds the files' SHA-256, the history, the
parameters, and a digest of the training matrix. The previous checkpoint is removed only after that, so that
a complete one always remains.
"""

import dataclasses
import hashlib
import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from trainer.arrays import load_array, save_array
from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.files import (
    MANIFEST,
    Digest,
    Manifest,
    Schema,
    begin_artifact,
    finish_artifact,
    having,
    read_manifest,
)
from trainer.history import Iteration
from trainer.matrix import InteractionMatrix

SCHEMA = Schema("wals.checkpoint", 1)

FILES = ("user_factors.npy", "item_factors.npy")
"""The files of a checkpoint besides its manifest."""

# Parameters that may differ between the run that wrote a checkpoint and the run that resumes from it.
_FREE_PARAMETERS = {"num_iters", "num_threads", "min_rel_progress"}
# Solvers that take the same steps, on a CPU or a GPU.
_CONJUGATE_GRADIENTS = {"auto", "cg", "cuda"}

logger = logging.getLogger(__name__)


class _CheckpointManifest(Manifest):
    config: dict[str, Any]
    data: str
    history: tuple[Iteration, ...]
    sha256: Annotated[dict[str, Digest], having(*FILES)]


@dataclass(frozen=True)
class State:
    """State of a training run after an iteration."""

    user_factors: NDArray[np.float32]
    item_factors: NDArray[np.float32]
    history: tuple[Iteration, ...]


class Checkpoints:
    """The checkpoints of one training run in a folder.

    Attributes:
        folder: the folder.
    """

    def __init__(self, folder: Path, every: int, *, seconds: float = 0.0) -> None:
        """Set where and how often to save.

        Args:
            folder: used by this run only.
            every: iterations between checkpoints, at least 1.
            seconds: time between checkpoints, at least; the first is not due before it either.

        Raises:
            InputError: ``every`` is below 1.
        """
        if every < 1:
            raise InputError("checkpoint_every", every, "is below 1", "give an integer of at least 1")
        self.folder = folder
        self._every = every
        self._seconds = seconds
        self._latest = time.monotonic()

    def due(self, iteration: int) -> bool:
        """Return whether the iteration with this number, from 1, ends with a checkpoint."""
        return iteration % self._every == 0 and time.monotonic() - self._latest >= self._seconds

    def save(self, state: State, config: TrainConfig, data: str) -> None:
        """Write a checkpoint, then remove the earlier ones.

        Args:
            state: state to resume from.
            config: parameters of the run.
            data: `fingerprint` of the run's matrix.

        Raises:
            InputError: the folder cannot be written.
        """
        folder = self._of(len(state.history))
        earlier = self.complete()
        begin_artifact(folder)
        content = {
            "config": config.model_dump(),
            "data": data,
            "history": [dataclasses.asdict(iteration) for iteration in state.history],
            "sha256": {
                name: save_array(folder / name, factors)
                for name, factors in zip(FILES, (state.user_factors, state.item_factors), strict=True)
            },
        }
        finish_artifact(folder, SCHEMA, content)
        for old in earlier:
            if old != folder:
                (old / MANIFEST).unlink(missing_ok=True)
                shutil.rmtree(old)
        self.rest()

    def rest(self) -> None:
        """Let the time between checkpoints start now."""
        self._latest = time.monotonic()

    def remove(self) -> None:
        """Remove all checkpoints, once the training's result has been saved."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def load(self, config: TrainConfig, data: str) -> State | None:
        """Return the newest complete checkpoint, or None if there is none.

        Raises:
            InputError: it has other parameters or other data, or one of its files is damaged.
        """
        complete = self.complete()
        if not complete:
            return None
        folder = complete[-1]
        manifest = read_manifest(folder, SCHEMA, _CheckpointManifest)
        self._refuse_other(manifest, config, data, folder)
        done = [iteration.number for iteration in manifest.history]
        if done != list(range(1, len(done) + 1)) or folder != self._of(len(done)):
            raise InputError(
                "checkpoint", str(folder), "does not have its own iterations", "remove the checkpoint"
            )
        users, items = (load_array(folder / name, manifest.sha256[name]) for name in FILES)
        logger.info("resuming from the checkpoint of iteration %d", len(manifest.history))
        return State(np.array(users), np.array(items), manifest.history)

    def _of(self, iterations: int) -> Path:
        return self.folder / f"iteration-{iterations:05d}"

    def complete(self) -> list[Path]:
        """Return the folders of the complete checkpoints, oldest first."""
        return sorted(path.parent for path in self.folder.glob(f"iteration-*/{MANIFEST}"))

    @staticmethod
    def _refuse_other(manifest: _CheckpointManifest, config: TrainConfig, data: str, folder: Path) -> None:
        for name, value in config.model_dump().items():
            saved = manifest.config.get(name)
            same = saved == value or (name == "solver" and {saved, value} <= _CONJUGATE_GRADIENTS)
            if name not in _FREE_PARAMETERS and not same:
                problem = f"differs from {saved!r} in the checkpoint {folder}"
                raise InputError(name, value, problem, "give the same parameters or remove the checkpoint")
        if manifest.data != data:
            problem = "belongs to another matrix"
            raise InputError("checkpoint", str(folder), problem, "give the same data or remove it")


def fingerprint(matrix: InteractionMatrix) -> str:
    """Return a digest of the matrix that does not depend on how it is split into shards."""
    digest = hashlib.sha256(f"{matrix.rows} {matrix.columns}".encode())
    for part in ("counts", "indices", "values"):
        for shard in matrix.by_row:
            array = np.diff(shard.indptr) if part == "counts" else getattr(shard, part)
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
