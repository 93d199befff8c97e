"""Merging matrices of the same shape that share no entry, in memory bounded by a shard."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from trainer.errors import InputError
from trainer.matrix import InteractionMatrix, MatrixWriter, Shard, rows_between

_SAME_RUN = "give matrices that one run wrote"


def merge(matrices: Sequence[InteractionMatrix], folder: Path) -> InteractionMatrix:
    """Write a matrix with the entries of several matrices, and open it.

    Args:
        matrices: at least one; the shards of the first divide the merged one as well.
        folder: local folder for the ``wals.matrix`` artifact, to which the arrays of the result are mapped.

    Raises:
        InputError: the shapes differ, or an entry is in two of the matrices.
    """
    first = matrices[0]
    for other in matrices[1:]:
        if (other.rows, other.columns) != (first.rows, first.columns):
            raise InputError(
                "matrix",
                f"{other.rows} x {other.columns}",
                f"cannot be merged with one of {first.rows} x {first.columns}",
                _SAME_RUN,
            )
    with MatrixWriter(folder, first.rows, first.columns) as writer:
        by_row, by_column = [m.by_row for m in matrices], [m.by_column for m in matrices]
        for number, shard in enumerate(_merged(by_row, "row", first.columns)):
            writer.add_rows(number, shard.first, shard.indptr, shard.indices, shard.values)
        for number, shard in enumerate(_merged(by_column, "column", first.rows)):
            writer.add_columns(number, shard.first, shard.indptr, shard.indices, shard.values)
        writer.finish()
    return InteractionMatrix.open(folder)


def _merged(orientations: Sequence[Sequence[Shard]], side: str, minors: int) -> Iterator[Shard]:
    """Yield the merged shards of one orientation, whose rows are the matrices' rows or columns (``side``)."""
    for shard in orientations[0]:
        end = shard.first + shard.rows
        others = [piece for shards in orientations[1:] for piece in rows_between(shards, shard.first, end)]
        yield _merge_rows(shard, [piece for piece in others if piece.entries], side, minors)


def _merge_rows(shard: Shard, others: Sequence[Shard], side: str, minors: int) -> Shard:
    """Return the rows of a shard with the entries that other pieces have in them."""
    if not others:
        return shard
    pieces = [shard, *others]
    rows = np.concatenate(
        [
            np.repeat(np.arange(piece.rows) + (piece.first - shard.first), np.diff(piece.indptr))
            for piece in pieces
        ]
    )
    indices = np.concatenate([piece.indices for piece in pieces])
    keys = rows * minors + indices
    # A stable sort finds the pieces' ascending runs, and only merges them.
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    repeated = keys[1:] == keys[:-1]
    if repeated.any():
        row, minor = divmod(int(keys[int(np.argmax(repeated))]), minors)
        problem = f"has the entry {minor} in two of the matrices to merge"
        raise InputError(f"matrix {side}", shard.first + row, problem, _SAME_RUN)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shard.rows))])
    values = np.concatenate([piece.values for piece in pieces])
    return Shard(shard.first, indptr, indices[order], values[order])
