"""Checkpoints of a step, which another attempt finds: on another machine, or in another run of the same data.

Layout, in the given folder or beside the model::

    checkpoints-KEY/_manifest.json      how the training began (schema ``wals.beginning`` v1)
    checkpoints-KEY/iteration-00008/    its newest state (schema ``wals.checkpoint`` v1)

The key is made of the data, the parameters as the user gave them, and what the training starts from. So runs
can share a folder: none resumes, or fails on, what a run of other data left there. It is not made of the
values that were chosen for parameters at ``auto``, because another machine may choose others; they are kept.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.registry import Store, open_store
from components.train.options import CheckpointOptions
from trainer.checkpoint import FILES, Checkpoints, State
from trainer.choice import Choice
from trainer.config import TrainConfig
from trainer.errors import WalsError
from trainer.files import (
    MANIFEST,
    Manifest,
    Schema,
    begin_artifact,
    finish_artifact,
    make_writable,
    read_manifest,
)
from trainer.mounts import is_mounted_bucket
from trainer.options import AUTO
from trainer.scratch import scratch_folder

SCHEMA = Schema("wals.beginning", 1)

_SECONDS = 300.0
_ITERATION = re.compile(r"iteration-\d{5}", re.ASCII)

logger = logging.getLogger(__name__)


class _BeginningManifest(Manifest):
    config: dict[str, Any]
    choice: Choice | None
    warm_start: str


@dataclass(frozen=True)
class Beginning:
    """How a training began.

    Attributes:
        config: its parameters.
        choice: how parameters were chosen; None if they were all given.
        warm_start: version or address of the model that it started from; "" for random factors.
    """

    config: TrainConfig
    choice: Choice | None
    warm_start: str = ""


class StepCheckpoints(Checkpoints):
    """The checkpoints of one training, with how it began."""

    def __init__(self, folder: Path, every: int, *, seconds: float = 0.0, store: Store | None = None) -> None:
        """Set where and how often to save, and fetch the newest checkpoint of a store.

        Args:
            folder: local folder, used by this training only.
            every: iterations between checkpoints, at least 1.
            seconds: time between checkpoints, at least.
            store: store that keeps a copy of the folder under its name.

        Raises:
            InputError: the store cannot be used.
            WalsError: the store cannot be reached.
        """
        super().__init__(folder, every, seconds=seconds)
        self._store = store
        self._beginning: Beginning | None = None
        if store:
            self._fetch(store)

    def beginning(self) -> Beginning | None:
        """Return how the training began that there is a checkpoint of; None if there is none.

        Raises:
            InputError: the record of it is missing or damaged.
        """
        if not self.complete():
            return None
        found = read_manifest(self.folder, SCHEMA, _BeginningManifest)
        return Beginning(TrainConfig(**found.config), found.choice, found.warm_start)

    def begin(self, beginning: Beginning) -> None:
        """Take note of how the training begins, which the first checkpoint records."""
        self._beginning = beginning

    def save(self, state: State, config: TrainConfig, data: str) -> None:
        """See `Checkpoints.save`. A store that fails costs the checkpoint, and not the training."""
        if self._beginning and not self.complete():
            begin_artifact(self.folder)
            content = {
                "config": self._beginning.config.model_dump(),
                "choice": dataclasses.asdict(self._beginning.choice) if self._beginning.choice else None,
                "warm_start": self._beginning.warm_start,
            }
            finish_artifact(self.folder, SCHEMA, content)
        super().save(state, config, data)
        if self._store:
            try:
                self._put(self._store)
            except WalsError as error:
                logger.warning("the checkpoint of iteration %d is not kept: %s", len(state.history), error)
            self.rest()

    def remove(self) -> None:
        """See `Checkpoints.remove`."""
        super().remove()
        if self._store:
            try:
                self._store.remove(self.folder.name)
            except WalsError as error:
                logger.warning("the checkpoints are not removed: %s", error)

    def _put(self, store: Store) -> None:
        """Copy the newest checkpoint, whose manifest completes it, and remove the earlier ones."""
        newest, root = self.complete()[-1].name, self.folder.name
        for path in (MANIFEST, *(f"{newest}/{name}" for name in (*FILES, MANIFEST))):
            store.put(self.folder / path, f"{root}/{path}")
        for name in store.folders(root):
            if _ITERATION.fullmatch(name) and name != newest:
                store.remove(f"{root}/{name}/{MANIFEST}")
                store.remove(f"{root}/{name}")

    def _fetch(self, store: Store) -> None:
        root = self.folder.name
        names = sorted(filter(_ITERATION.fullmatch, store.folders(root)), reverse=True)
        for name in names:
            if store.read(f"{root}/{name}/{MANIFEST}") is None:
                continue
            for path in (MANIFEST, *(f"{name}/{file}" for file in (*FILES, MANIFEST))):
                target = self.folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                store.get(f"{root}/{path}", target)
            return


@contextlib.contextmanager
def checkpoints_of(
    options: CheckpointOptions, model: Path, identifying: Mapping[str, Any]
) -> Iterator[StepCheckpoints | None]:
    """Yield the checkpoints of a training; None if it writes none.

    Args:
        options: when and where to save.
        model: folder of the model that the training will write.
        identifying: what tells the training from others, as JSON values.

    Raises:
        InputError: the folder cannot be used.
        WalsError: the store cannot be reached.
    """
    place, automatic = options.checkpoint_dir, options.checkpoint_every == AUTO
    every = 1 if automatic else int(options.checkpoint_every)
    # Elsewhere, a retry seldom sees what the attempt before it left beside the model.
    if not every or (automatic and not place and not is_mounted_bucket(model)):
        yield None
        return
    seconds = _SECONDS if automatic else 0.0
    name = f"checkpoints-{_key(identifying)}"
    if "://" not in place:
        folder = Path(place) if place else model.parent
        # Before the training, and not after its first minutes.
        make_writable(folder)
        yield StepCheckpoints(folder / name, every, seconds=seconds)
        return
    with scratch_folder() as scratch:
        store = open_store("checkpoint_dir", place)
        yield StepCheckpoints(scratch / name, every, seconds=seconds, store=store)


def _key(identifying: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identifying, sort_keys=True).encode()).hexdigest()[:16]
