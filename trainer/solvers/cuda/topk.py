"""The best items of queries on a GPU: cuBLAS makes the scores of a block of queries, a kernel selects."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.errors import translated
from trainer.matrix import Shard
from trainer.solvers.cuda.device import Device, Kernels
from trainer.solvers.cuda.memory import Scores, copied_rows, padded_items

SOURCE = Path(__file__).with_name("topk.cu")
KERNELS = ("select_best",)
"""The kernels in it."""

MAX_K = 1024
"""Longest list whose candidates shared memory has room for."""

_SLOTS = 4 * MAX_K
# Those of the model and the champion, which take turns.
_KEPT = 2

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """How the kernel is compiled and launched; the lists are the same.

    Attributes:
        threads: threads that select for a query, a multiple of 32.
        unroll: vectors of 4 scores that a thread loads at once, up to 8.
        slots_per_place: keys that are sorted at once for each place of a list, as far as there is room.
        scores_bytes: size of a block of scores.
    """

    threads: int = 256
    unroll: int = 4
    slots_per_place: int = 8
    scores_bytes: int = 1 << 30

    def macros(self, k: int) -> dict[str, int]:
        """Return the macros of ``topk.cu`` for lists of k, up to `MAX_K`."""
        return {"THREADS": self.threads, "UNROLL": self.unroll, "SLOTS": self.slots(k)}

    def slots(self, k: int) -> int:
        """Return the keys that are sorted at once."""
        wanted = 1 << (self.slots_per_place * k - 1).bit_length()
        return min(max(wanted, 2 * self.threads), _SLOTS)

    def shared_bytes(self, k: int) -> int:
        """Return the shared memory of a block: the keys, and how many there are."""
        return 8 * self.slots(k) + 4


class _Items(NamedTuple):
    """Factors of items on the device.

    Attributes:
        source: (items, d) float32 of this machine.
        padded: (stride, d) float32 on the device; rows of zeros follow the items.
    """

    source: NDArray[np.float32]
    padded: Any


class CudaTopK:
    """Ranks on a GPU. The items' factors stay there for the calls that follow, and must not change.

    Attributes:
        device: the GPU.
    """

    def __init__(self, device: Device, selection: Selection | None = None) -> None:
        """Set the device.

        Args:
            device: the GPU.
            selection: how the kernel is launched.
        """
        self.device = device
        self._selection = selection or Selection()
        self._items: list[_Items] = []
        self._compiled: dict[int, Kernels] = {}

    def top_k(
        self,
        queries: NDArray[np.float32],
        items: NDArray[np.float32],
        k: int,
        masked: Shard,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]] | None:
        """Return the k items with the largest inner products with each query.

        Args:
            queries: (n, d) float32 factors.
            items: (items, d) float32 factors.
            k: number of items, from 1 to `MAX_K`.
            masked: n rows of items that must not be returned.

        Returns:
            As `trainer.ranking.top_k`; None if the factors do not fit the device.

        Raises:
            WalsError: the device failed.
        """
        indices = np.empty((len(queries), k), np.int32)
        scores = np.empty((len(queries), k), np.float32)
        with translated(*self.device.failures()):
            longest = int(np.diff(masked.indptr).max(initial=0))
            found = self._on_device(items, Scores(len(items), items.shape[1], k, longest))
            if found is None:
                return None
            padded, block = found
            for start in range(0, len(queries), block):
                part = slice(start, min(start + block, len(queries)))
                rows = Shard(0, masked.indptr[part.start : part.stop + 1], masked.indices, masked.values)
                best = self._block(queries[part], padded, len(items), k, rows)
                for array, values in zip((indices, scores), best, strict=True):
                    array[part] = values.get() if hasattr(values, "get") else values
        return indices, scores

    def _on_device(self, items: NDArray[np.float32], size: Scores) -> tuple[Any, int] | None:
        """Return the items on the device, and the queries of a block; None if they do not fit."""
        place = next((place for place, kept in enumerate(self._items) if kept.source is items), None)
        own = place is not None
        if place is not None:
            self._items.append(self._items.pop(place))
        for others in range(min(len(self._items) - own, _KEPT - 1), -1, -1):
            del self._items[: len(self._items) - own - others]
            memory = self.device.memory()
            block = size.block(memory[0], self._selection.scores_bytes, uploaded=own)
            if block:
                break
        else:
            return None
        if not own:
            logger.info("%s", size.shown(block, memory))
            self._items.append(_Items(items, self._uploaded(items)))
        return self._items[-1].padded, block

    def _uploaded(self, items: NDArray[np.float32]) -> Any:
        xp, (count, d) = self.device.xp, items.shape
        padded = xp.zeros((padded_items(count), d), xp.float32)
        step = copied_rows(d)
        for start in range(0, count, step):
            part = slice(start, min(start + step, count))
            padded[part] = xp.asarray(np.ascontiguousarray(items[part]))
        return padded

    def _block(
        self, queries: NDArray[np.float32], padded: Any, items: int, k: int, masked: Shard
    ) -> tuple[Any, Any]:
        """Rank a block of queries; ``masked`` has their offsets into all entries."""
        xp = self.device.xp
        count, stride = len(queries), len(padded)
        first, last = int(masked.indptr[0]), int(masked.indptr[-1])
        indptr = xp.asarray((masked.indptr - first).astype(np.int64, copy=False))
        hidden = xp.asarray(masked.indices[first:last].astype(np.int32, copy=False))
        scores = xp.empty((count, stride), xp.float32)
        xp.matmul(xp.asarray(np.ascontiguousarray(queries)), padded.T, out=scores)
        indices, best = xp.empty((count, k), xp.int32), xp.empty((count, k), xp.float32)
        numbers = (np.int32(items), np.int32(stride))
        arguments = (scores, *numbers, indptr, hidden, np.int32(k), indices, best)
        selection = self._selection
        shared = selection.shared_bytes(k)
        self._kernels(k).launch("select_best", count, selection.threads, arguments, shared=shared)
        return indices, best

    def _kernels(self, k: int) -> Kernels:
        slots = self._selection.slots(k)
        if slots not in self._compiled:
            source, macros = SOURCE.read_text("utf-8"), self._selection.macros(k)
            self._compiled[slots] = self.device.compile(source, KERNELS, macros)
        return self._compiled[slots]
