"""Checkpoints of a training run, which survive the end of the process at any moment.

A checkpoint is a folder ``iteration-00008`` with ``user_factors.npy``, ``item_factors.npy`` and a manifest
(schema ``wals.checkpoint`` v1) that is written last and holds the files' SHA-256, the history, the
parameters, and a digest of the training matrix. The one before is removed only after that, so that there is
a whole one from the first on.
"""

import dataclasses
import hashlib
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.files import MANIFEST, Schema, begin_artifact, finish_artifact, read_manifest, replacing, sha256
from trainer.matrix import InteractionMatrix, load_array
from trainer.model import Iteration

SCHEMA = Schema("wals.checkpoint", 1)

_FILES = ("user_factors.npy", "item_factors.npy")
# What may differ between the run that wrote a checkpoint and the one that goes on from it.
_FREE_PARAMETERS = {"num_iters", "num_threads", "min_rel_progress"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class State:
    """Where a training run stands after an iteration."""

    user_factors: NDArray[np.float32]
    item_factors: NDArray[np.float32]
    history: tuple[Iteration, ...]


class Checkpoints:
    """The checkpoints of one training run in a folder."""

    def __init__(self, folder: Path, every: int) -> None:
        """Name the folder.

        Args:
            folder: kept for this run alone.
            every: iterations between checkpoints, at least 1.

        Raises:
            InputError: ``every`` is below 1.
        """
        if every < 1:
            raise InputError("checkpoint_every", every, "is below 1", "give a number of iterations")
        self._folder = folder
        self._every = every

    def due(self, iteration: int) -> bool:
        """Tell whether the iteration of this number, from 1, ends with a checkpoint."""
        return iteration % self._every == 0

    def save(self, state: State, config: TrainConfig, data: str) -> None:
        """Write a checkpoint and then remove the earlier ones.

        Args:
            state: to go on from.
            config: parameters of the run.
            data: `fingerprint` of its matrix.

        Raises:
            InputError: the folder cannot be written.
        """
        folder = self._folder / f"iteration-{len(state.history):05d}"
        earlier = self._whole()
        begin_artifact(folder)
        for name, factors in zip(_FILES, (state.user_factors, state.item_factors), strict=True):
            with replacing(folder / name) as temporary, temporary.open("wb") as file:
                np.save(file, factors, allow_pickle=False)
        content = {
            "config": config.model_dump(),
            "data": data,
            "history": [dataclasses.asdict(iteration) for iteration in state.history],
            "sha256": {name: sha256(folder / name) for name in _FILES},
        }
        finish_artifact(folder, SCHEMA, content)
        for old in earlier:
            if old != folder:
                (old / MANIFEST).unlink(missing_ok=True)
                shutil.rmtree(old)

    def load(self, config: TrainConfig, data: str) -> State | None:
        """Return the newest whole checkpoint, or None when there is none.

        Raises:
            InputError: it is of other parameters or other data, or a file of it was damaged.
        """
        whole = self._whole()
        if not whole:
            return None
        folder = whole[-1]
        manifest = read_manifest(folder, SCHEMA)
        self._refuse_other(manifest, config, data, folder)
        users, items = (load_array(folder / name, manifest["sha256"][name]) for name in _FILES)
        history = tuple(Iteration(**iteration) for iteration in manifest["history"])
        logger.info("going on from the checkpoint of iteration %d", len(history))
        return State(np.array(users), np.array(items), history)

    def _whole(self) -> list[Path]:
        return sorted(path.parent for path in self._folder.glob(f"iteration-*/{MANIFEST}"))

    @staticmethod
    def _refuse_other(manifest: dict[str, Any], config: TrainConfig, data: str, folder: Path) -> None:
        for name, value in config.model_dump().items():
            if name not in _FREE_PARAMETERS and manifest["config"].get(name) != value:
                raise InputError(
                    name,
                    value,
                    f"is not the {manifest['config'].get(name)!r} of the checkpoint {folder}",
                    "give the same parameters or remove the checkpoint",
                )
        if manifest["data"] != data:
            raise InputError(
                "checkpoint", str(folder), "is of another matrix", "give the same data or remove it"
            )


def fingerprint(matrix: InteractionMatrix) -> str:
    """Return a digest of the matrix that does not depend on how it is cut into shards."""
    digest = hashlib.sha256(f"{matrix.rows} {matrix.columns}".encode())
    for counts_then in ("counts", "indices", "values"):
        for shard in matrix.by_row:
            array = np.diff(shard.indptr) if counts_then == "counts" else getattr(shard, counts_then)
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
