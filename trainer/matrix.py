"""The interaction matrix: users by items, compressed by row and by column, in memory-mapped shards.

As an artifact (schema ``wals.matrix`` v1) it is a folder with both orientations:

    by_row/00000.indptr.npy     int64, offsets into the shard's entries, from 0
    by_row/00000.indices.npy    int32 (int64 past 2^31 columns), strictly ascending within a row
    by_row/00000.values.npy     float32, finite
    by_column/…                 the same for the transposed matrix
    _manifest.json               rows, columns, entries; first row, rows, entries and SHA-256 of each shard
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, overload

import numpy as np
from numpy.typing import NDArray

from trainer.arrays import load_array, save_array, unload
from trainer.errors import InputError
from trainer.files import (
    Count,
    Digest,
    Manifest,
    Schema,
    allow_open_files,
    begin_artifact,
    finish_artifact,
    having,
    read_identified,
    remove_left_behind,
)

if TYPE_CHECKING:
    from scipy import sparse

SCHEMA = Schema("wals.matrix", 1)

Orientation = Literal["by_row", "by_column"]

_PARTS = ("indptr", "indices", "values")
_INT32_LIMIT = 2**31
_LOADERS = 8
"""Threads that read files: of a mounted bucket, opening one takes a tenth of a second."""

_SETTLERS = 4
"""Threads that wait until a file is on disk or in a mounted bucket."""

_CHECKED_AT_ONCE = 1 << 17  # entries, whose masks then stay in the processor's cache
_REBUILD = "build the matrix again"


class _ShardEntry(Manifest):
    first: Count
    rows: Count
    entries: Count
    sha256: Annotated[dict[str, Digest], having(*_PARTS)]


class _MatrixManifest(Manifest):
    rows: Count
    columns: Count
    entries: Count
    by_row: tuple[_ShardEntry, ...]
    by_column: tuple[_ShardEntry, ...]


def kept_offsets(indptr: NDArray[Any], kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the offsets of rows of which only some entries are kept.

    Args:
        indptr: (rows + 1,) offsets of all entries.
        kept: (entries,) whether an entry is kept.
    """
    offsets: NDArray[np.int64] = np.concatenate([[0], np.cumsum(kept)])[indptr]
    return offsets


def gathered(indptr: NDArray[Any], rows: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the offsets of some rows, in their order, and the places of their entries.

    Args:
        indptr: (all rows + 1,) offsets of all entries.
        rows: (rows,) indices of rows.

    Returns:
        (rows + 1,) offsets, and (entries,) places among all entries.
    """
    starts, counts = indptr[rows], indptr[rows + 1] - indptr[rows]
    offsets: NDArray[np.int64] = np.concatenate([[0], np.cumsum(counts)])
    return offsets, np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts)


@dataclass(frozen=True)
class Shard:
    """Consecutive rows of a compressed sparse matrix.

    Attributes:
        first: index in the whole matrix of the shard's first row.
        indptr: (rows + 1,) int64; the entries of row ``first + i`` are ``indptr[i]:indptr[i + 1]``.
        indices: (entries,) int32 or int64, the columns, strictly ascending within a row.
        values: (entries,) float32.
    """

    first: int
    indptr: NDArray[np.int64]
    indices: NDArray[Any]
    values: NDArray[np.float32]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.indptr) - 1

    @property
    def entries(self) -> int:
        """Number of entries."""
        return len(self.indices)

    def only(self, kept: NDArray[np.bool_]) -> Self:
        """Return the same rows with some of their entries.

        Args:
            kept: (entries,) whether to keep an entry.
        """
        return type(self)(self.first, kept_offsets(self.indptr, kept), self.indices[kept], self.values[kept])

    def take(self, rows: NDArray[Any]) -> Self:
        """Return some rows, in that order, as the first ones of a matrix.

        Args:
            rows: (n,) indices of rows, from 0 for the first one of this shard.
        """
        indptr, places = gathered(self.indptr, rows)
        return type(self)(0, indptr, self.indices[places], self.values[places])

    def check(self, columns: int) -> None:
        """Check that solvers can trust the arrays.

        Args:
            columns: width of the whole matrix.

        Raises:
            InputError: offsets do not match the entries, an index is out of range, entries of a row are
                unsorted or duplicate, or a value is not finite; the message names the row.
        """
        indptr = self.indptr
        if (
            len(indptr) == 0
            or indptr[0] != 0
            or indptr[-1] != len(self.indices)
            or len(self.values) != len(self.indices)
            or np.any(np.diff(indptr) < 0)
        ):
            raise InputError(
                "matrix", f"indptr of the shard from row {self.first}", "does not match the entries", _REBUILD
            )
        for start in range(0, self.entries, _CHECKED_AT_ONCE):
            self._check_entries(start, min(start + _CHECKED_AT_ONCE, self.entries), columns)

    def _check_entries(self, start: int, stop: int, columns: int) -> None:
        indices, values = self.indices[start:stop], self.values[start:stop]
        self._refuse(start, ~np.isfinite(values), values, "is not a finite value", "fix or remove the entry")
        self._refuse(
            start, (indices < 0) | (indices >= columns), indices, f"is not an index below {columns}", _REBUILD
        )
        before = max(start - 1, 0)
        rising = np.zeros(stop - before, bool)
        rising[1:] = np.diff(self.indices[before:stop]) > 0
        firsts = self.indptr[slice(*np.searchsorted(self.indptr, [before, stop]))]
        rising[firsts - before] = True
        self._refuse(
            start,
            ~rising[start - before :],
            indices,
            "is not above the index before it in its row",
            "sort each row and merge its duplicates",
        )

    def _refuse(
        self, start: int, wrong: NDArray[np.bool_], shown: NDArray[Any], problem: str, remedy: str
    ) -> None:
        if wrong.any():
            at = int(np.argmax(wrong))
            row = self.first + int(np.searchsorted(self.indptr, start + at, side="right")) - 1
            raise InputError(f"matrix row {row}", shown[at].item(), problem, remedy)


def rows_between(shards: Sequence[Shard], first: int, stop: int) -> Iterator[Shard]:
    """Yield the rows from ``first`` up to ``stop``, which may be in several shards, without copying entries.

    Args:
        shards: shards of consecutive rows.
        first: the first row.
        stop: the row after the last one.
    """
    for shard in shards:
        low, high = max(first, shard.first), min(stop, shard.first + shard.rows)
        if low < high:
            offsets = shard.indptr[low - shard.first : high - shard.first + 1]
            entries = slice(offsets[0], offsets[-1])
            yield Shard(low, offsets - offsets[0], shard.indices[entries], shard.values[entries])


class MappedShards(Sequence[Shard]):
    """Shards whose arrays are mapped: iterating over them gives back the memory of each after its turn.

    They are read again from their files when they are needed, so that changes to the arrays do not last.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards

    def __len__(self) -> int:
        return len(self._shards)

    @overload
    def __getitem__(self, place: int) -> Shard: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Shard]: ...
    def __getitem__(self, place: int | slice) -> Shard | Sequence[Shard]:
        return self._shards[place]

    def __iter__(self) -> Iterator[Shard]:
        for shard in self._shards:
            try:
                yield shard
            finally:
                # The offsets are few, and are read more often.
                unload(shard.indices)
                unload(shard.values)


@dataclass(frozen=True)
class InteractionMatrix:
    """Users (rows) by items (columns), with float32 values, stored by row and by column.

    Attributes:
        rows: number of users.
        columns: number of items.
        by_row: shards of the matrix in row order.
        by_column: shards of the transposed matrix in column order.
        folder: folder of the artifact; None for a matrix that was not opened from one.
        checksum: checksum of the artifact, which others that were made with or from it carry; likewise.
    """

    rows: int
    columns: int
    by_row: Sequence[Shard]
    by_column: Sequence[Shard]
    folder: Path | None = None
    checksum: str | None = None

    @property
    def entries(self) -> int:
        """Number of entries."""
        return sum(shard.entries for shard in self.by_row)

    def row_counts(self) -> NDArray[np.int64]:
        """Return the number of entries of each row, (rows,) int64."""
        return _counts(self.by_row)

    def column_counts(self) -> NDArray[np.int64]:
        """Return the number of entries of each column, (columns,) int64."""
        return _counts(self.by_column)

    @classmethod
    def from_scipy(cls, matrix: Any) -> Self:
        """Return the matrix of a SciPy sparse matrix or array of any format; a canonical CSR is not copied.

        Raises:
            InputError: a row has unsorted or duplicate entries, or a value is not finite.
        """
        by_row = matrix.tocsr()
        rows, columns = by_row.shape
        row_shard = _shard_of(by_row, columns)
        row_shard.check(columns)
        return cls(rows, columns, [row_shard], [_shard_of(by_row.T.tocsr(), rows)])

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the artifact in ``folder``; its arrays are memory-mapped; see `MappedShards`.

        Raises:
            InputError: it is not a complete ``wals.matrix`` artifact, a file is truncated or changed, or the
                entries are invalid (see `Shard.check`).
        """
        allow_open_files()
        manifest, checksum = read_identified(folder, SCHEMA, _MatrixManifest)
        rows, columns = manifest.rows, manifest.columns
        return cls(
            rows,
            columns,
            _open_orientation(folder, "by_row", manifest.by_row, rows, columns),
            _open_orientation(folder, "by_column", manifest.by_column, columns, rows),
            folder,
            checksum,
        )

    def check_same_run(self, artifact: str, folder: Path, training: str | None) -> None:
        """Check that an artifact was made with or from this training matrix.

        Args:
            artifact: what the artifact is.
            folder: its folder.
            training: checksum of its training matrix; None if it has none, which is accepted.

        Raises:
            InputError: it belongs to another matrix.
        """
        if training and self.checksum and training != self.checksum:
            problem = f"is not from the run of the training matrix {str(self.folder)!r}"
            raise InputError(artifact, str(folder), problem, "give artifacts of one run")

    def row(self, row: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Return the columns and the values of a row's entries."""
        shard = next(shard for shard in self.by_row if shard.first <= row < shard.first + shard.rows)
        entries = slice(*shard.indptr[row - shard.first : row - shard.first + 2])
        return shard.indices[entries], shard.values[entries]

    def to_scipy(self) -> "sparse.csr_array[np.float32]":
        """Return the matrix as one CSR array in memory."""
        from scipy import sparse  # slow to import, and preparation does not need it

        indptr = np.concatenate([[0], np.cumsum(self.row_counts())])
        indices = np.concatenate([shard.indices for shard in self.by_row])
        values = np.concatenate([shard.values for shard in self.by_row])
        return sparse.csr_array((values, indices, indptr), shape=(self.rows, self.columns))

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the matrix as an artifact; see `MatrixWriter`."""
        with MatrixWriter(folder, self.rows, self.columns) as writer:
            for shards, add in ((self.by_row, writer.add_rows), (self.by_column, writer.add_columns)):
                for number, shard in enumerate(shards):
                    add(number, shard.first, shard.indptr, shard.indices, shard.values)
            return writer.finish()


class MatrixWriter:
    """Writes a ``wals.matrix`` artifact shard by shard, so that the matrix need not fit in memory.

    In a ``with`` block, call `add_rows` for all shards of rows and `add_columns` for all shards of the
    transposed matrix, in any order and from any thread, then `finish`. After the block, nothing is written
    anymore.
    """

    def __init__(self, folder: Path, rows: int, columns: int) -> None:
        """Begin the artifact.

        Args:
            folder: folder to write; an artifact that is already there becomes invalid at once.
            rows: number of users.
            columns: number of items.

        Raises:
            InputError: the folder cannot be written.
        """
        begin_artifact(folder)
        self._folder = folder
        self._shape: dict[str, tuple[int, int]] = {
            "by_row": (rows, columns),
            "by_column": (columns, rows),
        }
        self._shards: dict[str, dict[int, dict[str, Any]]] = {"by_row": {}, "by_column": {}}
        for orientation in self._shards:
            (folder / orientation).mkdir(exist_ok=True)
            remove_left_behind(folder / orientation)
        # While one file is being flushed to disk, the next ones can be written.
        self._executor = ThreadPoolExecutor(_SETTLERS)
        self._settling: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        # Files that are being flushed would otherwise appear while the folder of a failed job is removed.
        self._executor.shutdown()

    def add_rows(
        self, number: int, first: int, indptr: NDArray[Any], indices: NDArray[Any], values: NDArray[Any]
    ) -> None:
        """Write consecutive rows as one shard.

        Args:
            number: number of the shard, from 0 in the order of the rows.
            first: index of its first row.
            indptr: (rows + 1,) offsets into the other two, from 0.
            indices: (entries,) columns, strictly ascending within a row.
            values: (entries,).

        Raises:
            InputError: the arrays are invalid; see `Shard.check`.
        """
        self._add("by_row", number, first, indptr, indices, values)

    def add_columns(
        self, number: int, first: int, indptr: NDArray[Any], indices: NDArray[Any], values: NDArray[Any]
    ) -> None:
        """Write consecutive columns as one shard; like `add_rows`, for the transposed matrix."""
        self._add("by_column", number, first, indptr, indices, values)

    def finish(self) -> dict[str, Any]:
        """Write the manifest, which completes the artifact, and return it.

        Raises:
            InputError: rows or columns are missing, or the orientations differ in their number of entries.
        """
        for settling in self._settling:
            settling.result()
        shards = {name: [part[number] for number in sorted(part)] for name, part in self._shards.items()}
        for orientation, (major, _) in self._shape.items():
            written = 0
            for shard in shards[orientation]:
                written += shard["rows"] if shard["first"] == written else 0
            if written != major:
                problem = f"does not cover the {major} rows of {orientation}"
                raise InputError(
                    "matrix", written, problem, "write every row once, numbering shards in row order"
                )
        entries = {name: sum(shard["entries"] for shard in part) for name, part in shards.items()}
        if entries["by_row"] != entries["by_column"]:
            problem = "has different numbers of entries by row and by column"
            raise InputError("matrix", entries, problem, "write the same matrix in both orientations")
        rows, columns = self._shape["by_row"]
        content = {"rows": rows, "columns": columns, "entries": entries["by_row"], **shards}
        finish_artifact(self._folder, SCHEMA, content)
        return content

    def _add(
        self,
        orientation: Orientation,
        number: int,
        first: int,
        indptr: NDArray[Any],
        indices: NDArray[Any],
        values: NDArray[Any],
    ) -> None:
        columns = self._shape[orientation][1]
        shard = Shard(
            first,
            np.asarray(indptr, np.int64),
            np.asarray(indices, _index_type(columns)),
            np.asarray(values, np.float32),
        )
        shard.check(columns)
        paths = {part: _part_path(self._folder, orientation, number, part) for part in _PARTS}
        digests = {
            part: save_array(path, getattr(shard, part), self._settle_later) for part, path in paths.items()
        }
        self._shards[orientation][number] = {
            "first": first,
            "rows": shard.rows,
            "entries": shard.entries,
            "sha256": digests,
        }

    def _settle_later(self, settle: Callable[[], None]) -> None:
        self._settling.append(self._executor.submit(settle))


def _open_orientation(
    folder: Path, orientation: Orientation, entries: Sequence[_ShardEntry], major: int, minor: int
) -> Sequence[Shard]:
    types: dict[str, np.dtype[Any]] = dict(
        zip(_PARTS, (np.dtype(np.int64), np.dtype(_index_type(minor)), np.dtype(np.float32)), strict=True)
    )

    def load(numbered: tuple[int, _ShardEntry]) -> Shard:
        number, entry = numbered
        arrays = []
        for part in _PARTS:
            path = _part_path(folder, orientation, number, part)
            array = load_array(path, entry.sha256[part])
            # Kernels read these arrays without looking.
            if array.ndim != 1 or array.dtype != types[part]:
                problem = f"is {array.dtype} in {array.ndim} dimensions, not {np.dtype(types[part])} in one"
                raise InputError("matrix", str(path), problem, _REBUILD)
            arrays.append(array)
        return Shard(entry.first, *arrays)

    with ThreadPoolExecutor(_LOADERS) as executor:
        shards = MappedShards(list(executor.map(load, enumerate(entries))))
    rows = 0
    for shard in shards:
        if shard.first != rows:
            raise InputError(
                "matrix",
                str(folder),
                f"has a shard from row {shard.first}, not {rows}, {orientation}",
                _REBUILD,
            )
        shard.check(minor)
        rows += shard.rows
    if rows != major:
        raise InputError("matrix", str(folder), f"does not have {major} rows {orientation}", _REBUILD)
    return shards


def _part_path(folder: Path, orientation: Orientation, number: int, part: str) -> Path:
    return folder / orientation / f"{number:05d}.{part}.npy"


def _index_type(columns: int) -> type[np.int32] | type[np.int64]:
    return np.int32 if columns <= _INT32_LIMIT else np.int64


def _shard_of(csr: Any, columns: int) -> Shard:
    return Shard(
        0,
        np.asarray(csr.indptr, np.int64),
        np.asarray(csr.indices, _index_type(columns)),
        np.asarray(csr.data, np.float32),
    )


def _counts(shards: Sequence[Shard]) -> NDArray[np.int64]:
    return np.concatenate([np.diff(shard.indptr) for shard in shards] or [np.zeros(0, np.int64)])
