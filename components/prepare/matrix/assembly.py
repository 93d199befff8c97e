"""From encoded interactions in any order to matrices, in memory bounded by blocks of rows.

The interactions are first dealt out to blocks of consecutive rows; each block is then sorted and merged on
its own. The resulting entries are dealt out again, by columns, for the transposed matrix.
"""

import contextlib
import logging
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.prepare.matrix.kernels import (
    ENTRY,
    MAX,
    MEAN,
    SUM,
    compress,
    count,
    deal,
    deal_entries,
    keep_last,
    place,
    place_entries,
)
from components.threads import ordered_map
from trainer.arrays import unload
from trainer.matrix import MatrixWriter
from trainer.progress import progress
from trainer.scratch import release

logger = logging.getLogger(__name__)

_SHARD_INTERACTIONS = 1 << 22
"""Makes files of 16 MB: in a mounted bucket, each takes as long to open as a few MB to read."""

_MIN_BLOCK = 1 << 18
"""Interactions that fit, with their copy, in the cache of one core."""

_MAX_BLOCK = 1 << 20

_MAX_BLOCKS = 512
"""Each block is a place to write to, and more of them would not fit in the cache."""

_BYTES_IN_MEMORY = 1 << 26
"""Bytes of the interactions, and of the entries of each matrix; the rest goes to a file, which stays in the
system's cache where there is room."""

_RULES: Mapping[str, int] = {"sum": SUM, "mean": MEAN, "max": MAX, "last": MAX}


@dataclass(frozen=True)
class Encoded:
    """Interactions with dense indices, in batches and in any order.

    Attributes:
        batches: batches of interactions; the length of each is its number of interactions.
        dtype: dtype of the interactions: `INTERACTION`, or `TIMED_INTERACTION` if only the last of a pair
            counts.
        write: function that writes a batch to an array of that dtype; safe in any thread.
    """

    batches: Iterable[Any]
    dtype: np.dtype[Any]
    write: Callable[[Any, NDArray[Any]], None]


@dataclass(frozen=True)
class Block:
    """The indices from ``first`` up to ``end`` along an axis; the block's ``number`` among all."""

    number: int
    first: int
    end: int


@dataclass(frozen=True)
class BlockGroup:
    """Consecutive blocks that are written as one shard of a matrix; the group's ``number`` among all."""

    number: int
    blocks: Sequence[Block]

    @property
    def first(self) -> int:
        """The first index."""
        return self.blocks[0].first

    @property
    def end(self) -> int:
        """The index after the last one."""
        return self.blocks[-1].end


@dataclass(frozen=True)
class Dealt:
    """Interactions, or entries of a matrix, in the order of their blocks.

    Attributes:
        array: (n,).
        ends: (blocks,) the end of each block in the array.
    """

    array: NDArray[Any]
    ends: NDArray[np.int64]


def _memory(length: int) -> NDArray[np.uint8]:
    """Return new memory in small pages.

    NumPy asks for huge pages, which a virtual machine must first get from its host: 0.4 to 1.8 s per GB,
    compared with 0.4 s for small ones.
    """
    private = mmap.mmap(-1, max(length, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(private, np.uint8, length)


class _Workspace:
    """Memory that is reused for each block, because allocating it takes longer than using it."""

    def __init__(self) -> None:
        self._memory: dict[str, NDArray[np.uint8]] = {}

    def array(self, name: str, size: int, dtype: Any) -> NDArray[Any]:
        """Return an uninitialised array, in the same memory at each call with the same name."""
        length = size * np.dtype(dtype).itemsize
        if name not in self._memory or len(self._memory[name]) < length:
            self._memory[name] = _memory(length * 5 // 4)
        return self._memory[name][:length].view(dtype)


class _Workspaces:
    """A workspace for each thread that uses one at the same time."""

    def __init__(self) -> None:
        self._idle: list[_Workspace] = []

    @contextlib.contextmanager
    def one(self) -> Iterator[_Workspace]:
        """Yield a workspace that no other thread uses."""
        try:
            workspace = self._idle.pop()
        except IndexError:
            workspace = _Workspace()
        yield workspace
        self._idle.append(workspace)


class Blocks:
    """Interactions, or entries of a matrix, by blocks of consecutive indices; on disk if there are many.

    Attributes:
        groups: all blocks in order, in the groups that become shards.
        starts: (size of the axis + 1,) the number of interactions before each index.
        block_of: (size of the axis,) the block of each index.
    """

    def __init__(self, folder: Path, dtype: np.dtype[Any], counts: NDArray[np.int64], others: int) -> None:
        """Choose the blocks.

        Args:
            folder: folder for a temporary file, which removes itself.
            dtype: dtype of the interactions or entries.
            counts: (size of the axis,) interactions of each index, for blocks of about equal size. An index
                is never divided, so one with very many interactions makes a large block.
            others: size of the other axis.
        """
        self.dtype = dtype
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        starts = self.starts[:-1]
        size = _block_size(int(self.starts[-1]), others)
        _, block_of = np.unique(starts // size, return_inverse=True)
        self.block_of = block_of.astype(np.int32)
        bounds = [*np.flatnonzero(np.diff(block_of, prepend=-1)).tolist(), len(counts)]
        blocks = [Block(number, *ends) for number, ends in enumerate(pairwise(bounds))]
        by_shard = groupby(blocks, lambda block: int(starts[block.first]) // _SHARD_INTERACTIONS)
        self.groups = [BlockGroup(number, list(members)) for number, (_, members) in enumerate(by_shard)]
        self._in_memory: list[Dealt] = []
        self._bytes_in_memory = 0
        self._in_file: list[tuple[int, NDArray[np.int64]]] = []
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - `close` closes it

    def allocate(self, size: int) -> Dealt:
        """Return room for ``size`` interactions or entries to be dealt; safe in any thread."""
        ends = np.zeros(self.groups[-1].blocks[-1].number + 1, np.int64)
        return Dealt(_memory(size * self.dtype.itemsize).view(self.dtype), ends)

    def add(self, dealt: Dealt) -> None:
        """Append to the blocks, in order."""
        self._bytes_in_memory += dealt.array.nbytes
        # Once dealing spills to disk it never returns to memory, so the order holds.
        if self._bytes_in_memory <= _BYTES_IN_MEMORY:
            self._in_memory.append(dealt)
            return
        # What is released begins with a page.
        self._file.seek(-(-self._file.tell() // mmap.PAGESIZE) * mmap.PAGESIZE)
        self._in_file.append((self._file.tell(), dealt.ends))
        self._file.write(dealt.array.data)
        self._file.flush()

    def take(self, block: Block, workspace: _Workspace) -> list[NDArray[Any]]:
        """Return the content of a block in pieces, in the order in which they were added.

        Args:
            block: one of the blocks.
            workspace: provides the memory for reading from the file.
        """
        pieces = [dealt.array[slice(*_span(block, dealt.ends))] for dealt in self._in_memory]
        spans = [(offset, *_span(block, ends)) for offset, ends in self._in_file]
        read = workspace.array("read", sum(end - start for _, start, end in spans), self.dtype)
        filled = 0
        for offset, start, end in spans:
            self._read(offset + start * self.dtype.itemsize, read[filled : filled + end - start])
            filled += end - start
        return [*pieces, read]

    def _read(self, offset: int, piece: NDArray[Any]) -> None:
        """Read from the file; safe in several threads at once."""
        left = piece.view(np.uint8).data
        while len(left):
            read = os.preadv(self._file.fileno(), [left], offset)
            offset += read
            left = left[read:]

    def unload(self, group: BlockGroup) -> None:
        """Free the memory of a group that has been taken; safe in any thread."""
        for dealt in self._in_memory:
            unload(dealt.array[slice(*_span_of_group(group, dealt.ends))])

    def release(self, group: BlockGroup) -> None:
        """Free the space on disk of a group, when it and all groups before it have been taken."""
        for offset, ends in self._in_file:
            start, end = _span_of_group(group, ends)
            first = start * self.dtype.itemsize // mmap.PAGESIZE * mmap.PAGESIZE
            release(self._file.fileno(), offset + first, end * self.dtype.itemsize - first)

    def close(self) -> None:
        """Free the space on disk."""
        self._file.close()


def _span(block: Block, ends: NDArray[np.int64]) -> tuple[int, int]:
    """Return the start and the end of a block in a `Dealt.array`."""
    return int(ends[block.number - 1]) if block.number else 0, int(ends[block.number])


def _span_of_group(group: BlockGroup, ends: NDArray[np.int64]) -> tuple[int, int]:
    """Return the start and the end of a group's blocks in a `Dealt.array`."""
    return _span(group.blocks[0], ends)[0], _span(group.blocks[-1], ends)[1]


def _block_size(interactions: int, others: int) -> int:
    """Return the approximate number of interactions for a block.

    Args:
        interactions: number of all interactions.
        others: size of the other axis, which is traversed for each block.
    """
    size = _MIN_BLOCK
    while size < _MAX_BLOCK and (size * _MAX_BLOCKS < interactions or size < others):
        size *= 2
    return size


@contextlib.contextmanager
def deal_rows(
    encoded: Encoded, scratch: Path, user_counts: NDArray[np.int64], item_counts: NDArray[np.int64]
) -> Iterator[Blocks]:
    """Yield the interactions by blocks of rows.

    Args:
        encoded: the interactions.
        scratch: a local folder for data that does not fit in memory.
        user_counts: (rows,) interactions of each row in all parts.
        item_counts: (columns,) interactions of each column in all parts.
    """
    workspaces = _Workspaces()
    with contextlib.closing(Blocks(scratch, encoded.dtype, user_counts, len(item_counts))) as by_row:
        for dealt in ordered_map(partial(_dealt, workspaces, by_row, encoded), encoded.batches):
            by_row.add(dealt)
        yield by_row


def assemble(
    by_row: Blocks,
    scratch: Path,
    item_counts: NDArray[np.int64],
    parts: Sequence[Path],
    duplicates: str,
) -> list[dict[str, Any]]:
    """Write one matrix for each part of a split.

    Args:
        by_row: from `deal_rows`; with times if ``duplicates`` is "last".
        scratch: a local folder for data that does not fit in memory.
        item_counts: (columns,) interactions of each column in all parts.
        parts: folder of the matrix of part 0, 1, …
        duplicates: how several values of a pair become one; one of `options.Duplicates`. A pair in several
            parts belongs to the lowest of them, and only its values there count.

    Returns:
        The manifests of the matrices.
    """
    users, items = len(by_row.block_of), len(item_counts)
    workspaces = _Workspaces()
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(MatrixWriter(folder, users, items)) for folder in parts]
        by_column = [
            stack.enter_context(contextlib.closing(Blocks(scratch, ENTRY, item_counts, users))) for _ in parts
        ]
        total = len(by_row.groups) + sum(len(transposed.groups) for transposed in by_column)
        with progress("shard", total, logger) as advance:
            write_rows = partial(_write_rows, workspaces, by_row, by_column, writers, duplicates)
            for group, of_parts in zip(by_row.groups, ordered_map(write_rows, by_row.groups), strict=True):
                by_row.release(group)
                for transposed, dealt in zip(by_column, of_parts, strict=True):
                    transposed.add(dealt)
                advance("by row")
            for writer, transposed in zip(writers, by_column, strict=True):
                write_columns = partial(_write_columns, workspaces, transposed, writer)
                written = ordered_map(write_columns, transposed.groups)
                for group, _ in zip(transposed.groups, written, strict=True):
                    transposed.release(group)
                    advance("by column")
        return [writer.finish() for writer in writers]


def _dealt(workspaces: _Workspaces, by_row: Blocks, encoded: Encoded, batch: Any) -> Dealt:
    dealt = by_row.allocate(len(batch))
    with workspaces.one() as workspace:
        interactions = workspace.array("interactions", len(batch), encoded.dtype)
        encoded.write(batch, interactions)
        deal(interactions, by_row.block_of, dealt.ends, dealt.array)
    return dealt


def _write_rows(
    workspaces: _Workspaces,
    by_row: Blocks,
    by_column: Sequence[Blocks],
    writers: Sequence[MatrixWriter],
    duplicates: str,
    group: BlockGroup,
) -> list[Dealt]:
    """Sort, merge and write a shard of each part, and return its entries dealt by column."""
    parts, columns = len(writers), len(by_column[0].block_of)
    size = int(by_row.starts[group.end] - by_row.starts[group.first])
    counts = np.zeros((parts, group.end - group.first), np.int64)
    entries = np.zeros(parts, np.int64)
    with workspaces.one() as workspace:
        indices = workspace.array("indices", parts * size, np.int32).reshape(parts, size)
        values = workspace.array("values", parts * size, np.float32).reshape(parts, size)
        for block in group.blocks:
            interactions = _sorted(workspace, by_row, columns, block)
            if duplicates == "last":
                interactions = interactions[: keep_last(interactions)]
            compress(interactions, _RULES[duplicates], group.first, counts, indices, values, entries)
        by_row.unload(group)
        return [
            _write_part(writer, transposed, group, counts[part], indices[part, :end], values[part, :end])
            for part, (writer, transposed, end) in enumerate(zip(writers, by_column, entries, strict=True))
        ]


def _write_part(
    writer: MatrixWriter,
    transposed: Blocks,
    group: BlockGroup,
    counts: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
) -> Dealt:
    indptr = _offsets(counts)
    writer.add_rows(group.number, group.first, indptr, indices, values)
    dealt = transposed.allocate(len(indices))
    deal_entries(group.first, indptr, indices, values, transposed.block_of, dealt.ends, dealt.array)
    return dealt


def _sorted(workspace: _Workspace, by_row: Blocks, columns: int, block: Block) -> NDArray[Any]:
    """Return the interactions of a block, sorted by row and then by column."""
    pieces = by_row.take(block, workspace)
    counts = np.zeros(columns, np.int64)
    for piece in pieces:
        count(piece["column"], 0, counts)
    places = np.cumsum(counts) - counts
    size = sum(len(piece) for piece in pieces)
    by_column = workspace.array("by_column", size, by_row.dtype)
    for piece in pieces:
        place(piece, piece["column"], 0, places, by_column)
    interactions = workspace.array("by_row", size, by_row.dtype)
    places = by_row.starts[block.first : block.end] - by_row.starts[block.first]
    place(by_column, by_column["row"], block.first, places, interactions)
    return interactions


def _write_columns(
    workspaces: _Workspaces, transposed: Blocks, writer: MatrixWriter, group: BlockGroup
) -> None:
    """Sort a shard by column and write it; its entries are in the order of rows, which each column keeps."""
    indptr = np.zeros(group.end - group.first + 1, np.int64)
    size = int(transposed.starts[group.end] - transposed.starts[group.first])
    with workspaces.one() as workspace:
        indices = workspace.array("indices", size, np.int32)
        values = workspace.array("values", size, np.float32)
        placed = 0
        for block in group.blocks:
            pieces = transposed.take(block, workspace)
            counts = np.zeros(block.end - block.first, np.int64)
            for entries in pieces:
                count(entries["column"], block.first, counts)
            ends = placed + np.cumsum(counts)
            indptr[block.first - group.first + 1 : block.end - group.first + 1] = ends
            places = ends - counts
            for entries in pieces:
                place_entries(entries, block.first, places, indices, values)
            placed = int(ends[-1])
        transposed.unload(group)
        writer.add_columns(group.number, group.first, indptr, indices[:placed], values[:placed])


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)])
