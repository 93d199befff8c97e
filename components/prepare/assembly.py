"""From encoded interactions in any order to matrices, in memory bounded by blocks of rows.

The interactions are first dealt into files, one for each block of consecutive rows, and each block is then
sorted and merged on its own. What it yields is dealt again, by columns, for the transposed matrix.
"""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from components.prepare.kernels import (
    INTERACTION,
    MAX,
    MEAN,
    SUM,
    compress,
    deal,
    keep_last,
    merge_repeats,
    of_part,
    stable_sort,
)
from components.threads import ordered_map
from trainer.matrix import MatrixWriter
from trainer.progress import progress

logger = logging.getLogger(__name__)

_BLOCK_INTERACTIONS = 1 << 22
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
        size: of the axis.
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
        self.size = len(counts)
        starts = np.cumsum(counts) - counts
        _, block_of = np.unique(starts // _BLOCK_INTERACTIONS, return_inverse=True)
        self._block_of = block_of.astype(np.int32)
        bounds = [*np.flatnonzero(np.diff(block_of, prepend=-1)).tolist(), len(counts)]
        self.blocks = [Block(number, *ends) for number, ends in enumerate(pairwise(bounds))]
        self._pieces: list[list[NDArray[Any] | range]] = [[] for _ in self.blocks]
        self._dtype = INTERACTION
        self._bytes_in_memory = 0
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - `close` closes it

    def deal(self, interactions: NDArray[Any]) -> Dealt:
        """Order interactions by their blocks, for `add`; may run in any thread."""
        ends = np.zeros(len(self.blocks), np.int64)
        dealt = np.empty_like(interactions)
        deal(interactions, interactions[self._axis], self._block_of, ends, dealt)
        return Dealt(dealt, ends)

    def add(self, dealt: Dealt) -> None:
        """Append interactions to the blocks that they belong to, in their order."""
        interactions = dealt.interactions
        self._dtype = interactions.dtype
        self._bytes_in_memory += interactions.nbytes
        offset = self._file.tell() // self._dtype.itemsize
        spilled = self._bytes_in_memory > _BYTES_IN_MEMORY
        if spilled:
            self._bytes_in_memory -= interactions.nbytes
            self._file.write(interactions.data)
            self._file.flush()
        start = 0
        for pieces, end in zip(self._pieces, dealt.ends.tolist(), strict=True):
            pieces.append(range(offset + start, offset + end) if spilled else interactions[start:end])
            start = end

    def read(self, block: Block) -> NDArray[Any]:
        """Return the interactions of a block in the order in which they were added; once."""
        pieces, self._pieces[block.number] = self._pieces[block.number], []
        whole = np.empty(sum(len(piece) for piece in pieces), self._dtype)
        start = 0
        for piece in pieces:
            part = whole[start : start + len(piece)]
            if isinstance(piece, range):
                _read_at(self._file, piece.start * self._dtype.itemsize, part)
            else:
                part[:] = piece
            start += len(piece)
        return whole

    def close(self) -> None:
        """Give the disk's space back."""
        self._file.close()


def _read_at(file: IO[bytes], offset: int, target: NDArray[Any]) -> None:
    """Fill an array with a file's bytes from an offset on; threads may do so at once."""
    bytes_ = memoryview(target.view(np.uint8))
    while len(bytes_):
        count = os.preadv(file.fileno(), [bytes_], offset)
        offset += count
        bytes_ = bytes_[count:]


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
        for dealt in ordered_map(by_row.deal, batches):
            by_row.add(dealt)
        by_column = [Blocks(scratch, "column", item_counts) for _ in parts]
        for transposed in by_column:
            open_blocks.callback(transposed.close)
        total = len(by_row.blocks) + sum(len(transposed.blocks) for transposed in by_column)
        with progress("shard", total, logger) as tell:
            for of_parts in ordered_map(partial(_rows, by_row, by_column, duplicates), by_row.blocks):
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
    by_row: Blocks, by_column: Sequence[Blocks], duplicates: str, block: Block
) -> list[tuple[CompressedRows, Dealt]]:
    """Sort and merge a block; return it, for each part, by row and dealt by column."""
    interactions = by_row.read(block)
    spare = np.empty_like(interactions)
    stable_sort(interactions, interactions["column"], 0, by_column[0].size, spare)
    stable_sort(spare, spare["row"], block.first, block.end - block.first, interactions)
    if duplicates == "last":
        interactions = interactions[: keep_last(interactions)]
    interactions = interactions[: merge_repeats(interactions, _RULES[duplicates])]
    of_parts = []
    for part, transposed in enumerate(by_column):
        chosen = spare[: of_part(interactions, part, spare)]
        of_parts.append((_compressed(chosen, block, "row", "column"), transposed.deal(chosen)))
    return of_parts


def _columns(transposed: Blocks, block: Block) -> CompressedRows:
    """Sort a block by column: it was added row after row, and a stable sort leaves it so in each column."""
    interactions = transposed.read(block)
    ordered = np.empty_like(interactions)
    stable_sort(interactions, interactions["column"], block.first, block.end - block.first, ordered)
    return _compressed(ordered, block, "column", "row")


def _compressed(interactions: NDArray[Any], block: Block, major: Axis, minor: Axis) -> CompressedRows:
    indptr = np.zeros(block.end - block.first + 1, np.int64)
    indices = np.empty(len(interactions), np.int32)
    values = np.empty(len(interactions), np.float32)
    compress(interactions, interactions[major], interactions[minor], block.first, indptr, indices, values)
    return indptr, indices, values
