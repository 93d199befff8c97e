"""From encoded interactions in any order to matrices, in memory bounded by blocks of rows.

The interactions are first dealt into files, one for each block of consecutive rows, and each block is then
sorted and merged on its own. What it yields is dealt again, by columns, for the transposed matrix.
"""

import contextlib
import logging
import os
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from components.prepare.kernels import (
    INTERACTION,
    MAX,
    MEAN,
    SUM,
    compress,
    count,
    deal,
    keep_last,
    merge_repeats,
    place,
    place_entries,
)
from components.threads import ordered_map
from trainer.matrix import MatrixWriter
from trainer.progress import progress

logger = logging.getLogger(__name__)

_BLOCK_INTERACTIONS = 1 << 20
"""A block and its copy stay in the processor's cache."""

_BYTES_IN_MEMORY = 1 << 29

_RULES: Mapping[str, int] = {"sum": SUM, "mean": MEAN, "max": MAX, "last": MAX}

DUPLICATES = tuple(_RULES)
"""The ways to make one value of the interactions of a user with an item."""

Axis = Literal["row", "column"]


@dataclass(frozen=True)
class Block:
    """The indices from ``first`` up to ``end`` along an axis; the block's ``number`` among all."""

    number: int
    first: int
    end: int


@dataclass(frozen=True)
class Dealt:
    """Interactions in the order of their blocks.

    Attributes:
        interactions: (n,).
        ends: (blocks,) where those of each block end.
    """

    interactions: NDArray[Any]
    ends: NDArray[np.int64]


class Blocks:
    """Interactions by blocks of consecutive indices along an axis, on disk where they are many.

    Attributes:
        blocks: all of them, in order.
        dtype: of the interactions.
        starts: (size of the axis + 1,) the number of interactions before each index.
    """

    def __init__(self, folder: Path, axis: Axis, counts: NDArray[np.int64]) -> None:
        """Choose the blocks.

        Args:
            folder: for their file, which needs no removal.
            axis: along which to deal.
            counts: (size of the axis,) interactions of each index, to make blocks of about equal size. An
                index is never divided, so one with very many interactions makes a large block.
        """
        self._axis = axis
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        starts = self.starts[:-1]
        _, block_of = np.unique(starts // _BLOCK_INTERACTIONS, return_inverse=True)
        self._block_of = block_of.astype(np.int32)
        bounds = [*np.flatnonzero(np.diff(block_of, prepend=-1)).tolist(), len(counts)]
        self.blocks = [Block(number, *ends) for number, ends in enumerate(pairwise(bounds))]
        self._added: list[tuple[NDArray[Any] | int, NDArray[np.int64]]] = []
        self.dtype = INTERACTION
        self._bytes_in_memory = 0
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - `close` closes it

    def deal(self, interactions: NDArray[Any], parts: range, size: int) -> Dealt:
        """Order the ``size`` interactions of some parts of the split by their blocks; in any thread."""
        ends = np.zeros(len(self.blocks), np.int64)
        dealt = np.empty(size, interactions.dtype)
        deal(interactions, parts[0], parts[-1], interactions[self._axis], self._block_of, ends, dealt)
        return Dealt(dealt, ends)

    def add(self, dealt: Dealt) -> None:
        """Append interactions to the blocks that they belong to, in their order."""
        interactions = dealt.interactions
        self.dtype = interactions.dtype
        self._bytes_in_memory += interactions.nbytes
        if self._bytes_in_memory <= _BYTES_IN_MEMORY:
            self._added.append((interactions, dealt.ends))
            return
        self._bytes_in_memory -= interactions.nbytes
        self._added.append((self._file.tell(), dealt.ends))
        self._file.write(interactions.data)
        self._file.flush()

    def take(self, block: Block) -> list[NDArray[Any]]:
        """Return the interactions of a block, divided, in the order in which they were added."""
        pieces = []
        for where, ends in self._added:
            start = ends[block.number - 1] if block.number else 0
            end = ends[block.number]
            if start < end:
                pieces.append(
                    self._read(where + int(start) * self.dtype.itemsize, end - start)
                    if isinstance(where, int)
                    else where[start:end]
                )
        return pieces

    def _read(self, offset: int, size: int) -> NDArray[Any]:
        """Read interactions from the file; threads may do so at once."""
        interactions = np.empty(size, self.dtype)
        left = interactions.view(np.uint8).data
        while len(left):
            read = os.preadv(self._file.fileno(), [left], offset)
            offset += read
            left = left[read:]
        return interactions

    def close(self) -> None:
        """Give the disk's space back."""
        self._file.close()


class _Workspace(threading.local):
    """Memory that a thread uses for one block after the other: to get it anew takes longer than to use it."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def array(self, name: str, size: int, dtype: Any) -> NDArray[Any]:
        """Return an array of any content, which is the same memory when it is next asked for."""
        if name not in self._arrays or len(self._arrays[name]) < size:
            self._arrays[name] = np.empty(max(size, _BLOCK_INTERACTIONS * 5 // 4), dtype)
        return self._arrays[name][:size]


def assemble(
    batches: Iterable[NDArray[Any]],
    scratch: Path,
    user_counts: NDArray[np.int64],
    item_counts: NDArray[np.int64],
    parts: Sequence[Path],
    duplicates: str,
) -> list[dict[str, Any]]:
    """Write one matrix for each part of a split.

    Args:
        batches: arrays of dtype `INTERACTION` (`TIMED_INTERACTION` where ``duplicates`` is "last"), in any
            order.
        scratch: a local folder for what does not fit in memory.
        user_counts: (rows,) interactions of each row in all parts.
        item_counts: (columns,) interactions of each column in all parts.
        parts: folder of the matrix of part 0, 1, …
        duplicates: how the values of a pair that comes more than once become one; one of `DUPLICATES`. A
            pair in several parts belongs to the lowest of them, and only its values there count.

    Returns:
        The manifests of the matrices.
    """
    writers = [MatrixWriter(folder, len(user_counts), len(item_counts)) for folder in parts]
    with contextlib.ExitStack() as open_blocks:
        by_row = Blocks(scratch, "row", user_counts)
        open_blocks.callback(by_row.close)
        for dealt in ordered_map(lambda batch: by_row.deal(batch, range(len(parts)), len(batch)), batches):
            by_row.add(dealt)
        by_column = [Blocks(scratch, "column", item_counts) for _ in parts]
        for transposed in by_column:
            open_blocks.callback(transposed.close)
        total = len(by_row.blocks) + sum(len(transposed.blocks) for transposed in by_column)
        with progress("shard", total, logger) as tell:
            for of_parts in ordered_map(
                partial(_rows, _Workspace(), by_row, by_column, duplicates), by_row.blocks
            ):
                for (shard, dealt), writer, transposed in zip(of_parts, writers, by_column, strict=True):
                    transposed.add(dealt)
                    writer.add_rows(*shard)
                tell("by row")
            for writer, transposed in zip(writers, by_column, strict=True):
                for shard in ordered_map(partial(_columns, transposed), transposed.blocks):
                    writer.add_columns(*shard)
                    tell("by column")
    return [writer.finish() for writer in writers]


CompressedRows = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]


def _rows(
    workspace: _Workspace, by_row: Blocks, by_column: Sequence[Blocks], duplicates: str, block: Block
) -> list[tuple[CompressedRows, Dealt]]:
    """Sort and merge a block; return it, for each part, by row and dealt by column."""
    interactions = _sorted(workspace, by_row, len(by_column[0].starts) - 1, block)
    if duplicates == "last":
        interactions = interactions[: keep_last(interactions)]
    interactions = interactions[: merge_repeats(interactions, _RULES[duplicates])]
    of_parts = []
    for part, transposed in enumerate(by_column):
        counts = np.zeros(block.end - block.first, np.int64)
        indices = np.empty(len(interactions), np.int32)
        values = np.empty(len(interactions), np.float32)
        entries = compress(interactions, part, block.first, counts, indices, values)
        shard = (_offsets(counts), indices[:entries], values[:entries])
        of_parts.append((shard, transposed.deal(interactions, range(part, part + 1), entries)))
    return of_parts


def _sorted(workspace: _Workspace, by_row: Blocks, columns: int, block: Block) -> NDArray[Any]:
    """Return a block by row, and by column within each row."""
    pieces = by_row.take(block)
    counts = np.zeros(columns, np.int64)
    for piece in pieces:
        count(piece["column"], 0, counts)
    places = np.cumsum(counts) - counts
    size = int(counts.sum())
    by_column = workspace.array("by_column", size, by_row.dtype)
    for piece in pieces:
        place(piece, piece["column"], 0, places, by_column)
    places = by_row.starts[block.first : block.end] - by_row.starts[block.first]
    interactions = workspace.array("by_row", size, by_row.dtype)
    place(by_column, by_column["row"], block.first, places, interactions)
    return interactions


def _columns(transposed: Blocks, block: Block) -> CompressedRows:
    """Sort a block by column: it was added row after row, and stays so in each column."""
    pieces = transposed.take(block)
    counts = np.zeros(block.end - block.first, np.int64)
    for piece in pieces:
        count(piece["column"], block.first, counts)
    indptr = _offsets(counts)
    indices = np.empty(indptr[-1], np.int32)
    values = np.empty(indptr[-1], np.float32)
    places = indptr[:-1].copy()
    for piece in pieces:
        place_entries(piece, block.first, places, indices, values)
    return indptr, indices, values


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)])
