"""From encoded interactions in any order to matrices, in memory bounded by blocks of rows.

The interactions are first dealt into files, one for each block of consecutive rows, and each block is then
sorted and merged on its own. What it yields is dealt again, by columns, for the transposed matrix.
"""

import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
    keep_last,
    merge_repeats,
    of_part,
    stable_sort,
)
from components.threads import ordered_map
from trainer.files import allow_open_files
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
    """The interactions of the indices from ``first`` up to ``end`` along an axis.

    Attributes:
        first: index.
        end: index after the last one.
        file: of the interactions, in no order.
    """

    first: int
    end: int
    file: IO[bytes]

    def read(self, dtype: Any) -> NDArray[Any]:
        """Return the interactions; once, as the file is closed."""
        with self.file:
            self.file.seek(0)
            return np.frombuffer(self.file.read(), dtype)


class Blocks:
    """Interactions dealt into blocks of consecutive indices along an axis, on disk where they are many."""

    def __init__(self, folder: Path, axis: Axis, counts: NDArray[np.int64]) -> None:
        """Choose the blocks.

        Args:
            folder: for their files, which need no removal.
            axis: along which to deal.
            counts: (size of the axis,) interactions of each index, to make blocks of about equal size. An
                index is never divided, so one with very many interactions makes a large block.
        """
        self._axis = axis
        starts = np.cumsum(counts) - counts
        _, block_of = np.unique(starts // _BLOCK_INTERACTIONS, return_inverse=True)
        self._block_of = block_of.astype(np.int32)
        bounds = [*np.flatnonzero(np.diff(block_of, prepend=-1)).tolist(), len(counts)]
        in_memory = _BYTES_IN_MEMORY // (len(bounds) - 1)
        self.blocks = [Block(first, end, _scratch_file(folder, in_memory)) for first, end in pairwise(bounds)]

    def add(self, interactions: NDArray[Any]) -> None:
        """Append interactions to the blocks that they belong to, in their order."""
        block_of = self._block_of[interactions[self._axis]]
        dealt = stable_sort(interactions, block_of, 0, len(self.blocks))
        ends = np.cumsum(np.bincount(block_of, minlength=len(self.blocks)))
        for block, part in zip(self.blocks, np.split(dealt, ends[:-1]), strict=True):
            block.file.write(part.data)


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
    allow_open_files()
    writers = [MatrixWriter(folder, len(user_counts), len(item_counts)) for folder in parts]
    by_row = Blocks(scratch, "row", user_counts)
    dtype = INTERACTION
    for batch in batches:
        dtype = batch.dtype
        by_row.add(batch)
    by_column = [Blocks(scratch, "column", item_counts) for _ in parts]

    def rows(block: Block) -> list[tuple[NDArray[Any], CompressedRows]]:
        interactions = block.read(dtype)
        interactions = stable_sort(interactions, interactions["column"], 0, len(item_counts))
        interactions = stable_sort(interactions, interactions["row"], block.first, block.end - block.first)
        if duplicates == "last":
            interactions = interactions[: keep_last(interactions)]
        interactions = interactions[: merge_repeats(interactions, _RULES[duplicates])]
        chosen = [of_part(interactions, part) for part in range(len(parts))]
        return [(part, _compressed(part, block, "row", "column")) for part in chosen]

    def columns(block: Block) -> CompressedRows:
        # They were added row after row, and a stable sort leaves them so within each column.
        interactions = block.read(dtype)
        size = block.end - block.first
        interactions = stable_sort(interactions, interactions["column"], block.first, size)
        return _compressed(interactions, block, "column", "row")

    total = len(by_row.blocks) + sum(len(transposed.blocks) for transposed in by_column)
    with progress("shard", total, logger) as tell:
        for of_parts in ordered_map(rows, by_row.blocks):
            for (interactions, shard), writer, transposed in zip(of_parts, writers, by_column, strict=True):
                writer.add_rows(*shard)
                transposed.add(interactions)
            tell("by row")
        for writer, transposed in zip(writers, by_column, strict=True):
            for shard in ordered_map(columns, transposed.blocks):
                writer.add_columns(*shard)
                tell("by column")
    return [writer.finish() for writer in writers]


CompressedRows = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]


def _compressed(interactions: NDArray[Any], block: Block, major: Axis, minor: Axis) -> CompressedRows:
    shard: CompressedRows = compress(
        interactions, interactions[major], interactions[minor], block.first, block.end - block.first
    )
    return shard


def _scratch_file(folder: Path, in_memory: int) -> IO[bytes]:
    """Open a file that is in memory up to a size, and is gone when it is closed."""
    return tempfile.SpooledTemporaryFile(in_memory, dir=str(folder))
