"""One side of the matrix on the device: its rows' problems, and its entries, kept there or streamed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from trainer.matrix import Shard
from trainer.solvers.cuda.device import Device
from trainer.solvers.cuda.layout import Bins, Tuning
from trainer.weighting import HalfProblem

_COPIED_AT_ONCE = 1 << 24
_SLOTS = 2


@dataclass(frozen=True)
class Block:
    """Consecutive rows of a side whose entries are on the device.

    Attributes:
        first_entry: number of the side's entries before the block.
        indices: (entries,) int32 minor rows.
        values: (entries,) float32.
        bins: the block's rows by length.
    """

    first_entry: int
    indices: Any
    values: Any
    bins: Bins


class Entries(Protocol):
    """The entries of a side."""

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks of rows in order; kernels must be started before the next block is asked for."""
        ...


@dataclass(frozen=True)
class Kept:
    """Entries that stay on the device."""

    block: Block

    def blocks(self) -> Iterator[Block]:
        """Yield the only block."""
        yield self.block


class Side:
    """The rows of one side, their problems and their entries.

    Attributes:
        rows: number of rows.
        problem: weights and regularisation of the rows.
        regularization: (rows,) float32 on the device.
    """

    def __init__(self, xp: Any, indptr: Any, entries: Entries, problem: HalfProblem) -> None:
        """Copy the problems.

        Args:
            xp: module of the device's arrays.
            indptr: (rows + 1,) int64 on the device, offsets of the rows' entries.
            entries: the entries.
            problem: weights and regularisation of the rows.
        """
        self.rows, self.problem = len(indptr) - 1, problem
        self._indptr, self._entries = indptr, entries
        self._major_weight = xp.asarray(problem.major_weight)
        self._minor_weight = xp.asarray(problem.minor_weight)
        self.regularization = xp.asarray(problem.regularization)

    @classmethod
    def of(
        cls, device: Device, shards: Sequence[Shard], problem: HalfProblem, tuning: Tuning, block: int
    ) -> Self:
        """Copy shards to the device, or prepare to stream them.

        Args:
            device: the GPU.
            shards: the side's rows, in order.
            problem: weights and regularisation of the rows.
            tuning: see there.
            block: entries of a streamed block, at least as many as the longest row has; 0 to keep them all.
        """
        counts = np.concatenate([np.diff(shard.indptr) for shard in shards])
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        indptr = device.xp.asarray(offsets)
        split_from = tuning.split_from(int(offsets[-1]), device.multiprocessors)

        def bins(first: int, last: int) -> Bins:
            return Bins.of(device.xp, indptr, first, last, tuning, split_from)

        entries: Entries
        if block:
            bounds = _bounds(offsets, block)
            entries = _Streamed(device, shards, offsets, bounds, [bins(*pair) for pair in bounds], block)
        else:
            indices, values = _copied(device.xp, shards)
            entries = Kept(Block(0, indices, values, bins(0, len(counts))))
        return cls(device.xp, indptr, entries, problem)

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks of rows; see `Entries`."""
        return self._entries.blocks()

    def arguments(self, block: Block) -> tuple[Any, ...]:
        """Return the first arguments of ``PROBLEM`` in ``kernels.cu``, up to ``regularization``."""
        problem = self.problem
        return (
            *(self._indptr, block.indices, block.values, np.int64(block.first_entry)),
            *(self._major_weight, self._minor_weight, np.float32(problem.value_weight)),
            *(np.float32(problem.unobs_weight), np.int32(problem.binary), self.regularization),
        )


def _copied(xp: Any, shards: Sequence[Shard]) -> tuple[Any, Any]:
    """Return the indices and the values of all shards on the device."""
    entries = sum(shard.entries for shard in shards)
    indices, values = xp.empty(entries, xp.int32), xp.empty(entries, xp.float32)
    start = 0
    for shard in shards:
        for begin in range(0, shard.entries, _COPIED_AT_ONCE):
            part = slice(begin, min(begin + _COPIED_AT_ONCE, shard.entries))
            place = slice(start + part.start, start + part.stop)
            indices[place] = xp.asarray(shard.indices[part].astype(np.int32, copy=False))
            values[place] = xp.asarray(shard.values[part])
        start += shard.entries
    return indices, values


class _Streamed:
    """Entries that are copied block by block, each while the kernels work on the one before."""

    def __init__(
        self,
        device: Device,
        shards: Sequence[Shard],
        indptr: NDArray[np.int64],
        bounds: list[tuple[int, int]],
        bins: list[Bins],
        size: int,
    ) -> None:
        """Allocate two slots of ``size`` entries on both sides of the bus."""
        self._shards, self._indptr, self._bounds, self._bins = shards, indptr, bounds, bins
        self._copies = device.copies()
        kinds = (np.int32, np.float32)
        self._pinned = [[self._copies.pinned(size, kind) for kind in kinds] for _ in range(_SLOTS)]
        self._arrays = [[device.xp.empty(size, kind) for kind in kinds] for _ in range(_SLOTS)]

    def blocks(self) -> Iterator[Block]:
        """Copy and yield the blocks."""
        for number, ((first, last), bins) in enumerate(zip(self._bounds, self._bins, strict=True)):
            slot = number % _SLOTS
            start, stop = int(self._indptr[first]), int(self._indptr[last])
            self._copies.wait(slot)
            sources = [pinned[: stop - start] for pinned in self._pinned[slot]]
            self._read(start, stop, *sources)
            indices, values = (array[: stop - start] for array in self._arrays[slot])
            self._copies.start(slot, list(zip((indices, values), sources, strict=True)))
            yield Block(start, indices, values, bins)
            self._copies.used(slot)

    def _read(self, start: int, stop: int, indices: NDArray[np.int32], values: NDArray[np.float32]) -> None:
        """Read the entries from ``start`` up to ``stop`` of the whole side."""
        before = 0
        for shard in self._shards:
            low, high = max(start, before), min(stop, before + shard.entries)
            if low < high:
                indices[low - start : high - start] = shard.indices[low - before : high - before]
                values[low - start : high - start] = shard.values[low - before : high - before]
            before += shard.entries


def _bounds(indptr: NDArray[np.int64], size: int) -> list[tuple[int, int]]:
    """Return runs of rows with ``size`` entries at most."""
    bounds, first, rows = [], 0, len(indptr) - 1
    while first < rows:
        last = int(np.searchsorted(indptr, indptr[first] + size, side="right")) - 1
        bounds.append((first, last))
        first = last
    return bounds
