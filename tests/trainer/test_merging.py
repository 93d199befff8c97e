"""Merging matrices: the same entries as a sum, in both orientations, however the shards are divided."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from trainer.errors import InputError
from trainer.matrix import InteractionMatrix, Shard
from trainer.merging import merge

ROWS, COLUMNS = 23, 17


def divided(csr: sparse.csr_array, bounds: Sequence[int]) -> list[Shard]:
    """Return the shards of a matrix whose rows are divided at ``bounds``."""
    shards = []
    for first, end in pairwise(bounds):
        part = csr[first:end]
        indices, values = part.indices.astype(np.int32), part.data.astype(np.float32)
        shards.append(Shard(first, part.indptr.astype(np.int64), indices, values))
    return shards


def matrix_of(dense: np.ndarray, rows: Sequence[int], columns: Sequence[int]) -> InteractionMatrix:
    csr = sparse.csr_array(dense)
    return InteractionMatrix(*dense.shape, divided(csr, rows), divided(csr.T.tocsr(), columns))


def split(seed: int, parts: int) -> list[np.ndarray]:
    """Return random entries, zeros for their absence, in several matrices that share none."""
    random = np.random.default_rng(seed)
    of = random.integers(0, 2 * parts, (ROWS, COLUMNS))
    of[4], of[:, 3] = parts, parts  # in none of them
    values = random.integers(1, 6, (ROWS, COLUMNS))
    return [np.where(of == part, values, 0) for part in range(parts)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_the_merged_matrix_has_every_entry_once(seed: int, parts: int, tmp_path: Path) -> None:
    bounds = [
        ([0, 9, 16, ROWS], [0, 1, COLUMNS]),
        ([0, ROWS], [0, COLUMNS]),
        ([0, 4, 12, ROWS], [0, 8, COLUMNS]),
    ]
    dense = split(seed, parts)
    matrices = [matrix_of(part, *at) for part, at in zip(dense, bounds, strict=False)]
    merged = merge(matrices, tmp_path)
    whole = sparse.csr_array(sum(dense))
    expected = matrix_of(whole.toarray(), *bounds[0])
    assert merged.entries == whole.nnz
    for ours, theirs in ((merged.by_row, expected.by_row), (merged.by_column, expected.by_column)):
        assert [shard.first for shard in ours] == [shard.first for shard in theirs]
        for shard, other in zip(ours, theirs, strict=True):
            for part in ("indptr", "indices", "values"):
                np.testing.assert_array_equal(getattr(shard, part), getattr(other, part))


def test_an_entry_of_two_matrices_is_refused(tmp_path: Path) -> None:
    one, other = np.zeros((2, ROWS, COLUMNS), int)
    one[11, 2], other[11, 2] = 1, 2
    with pytest.raises(InputError, match="matrix row 11: has the entry 2 in two of the matrices to merge"):
        merge([matrix_of(part, [0, 9, ROWS], [0, COLUMNS]) for part in (one, other)], tmp_path)


def test_matrices_of_different_shapes_are_refused(tmp_path: Path) -> None:
    one, other = (InteractionMatrix.from_scipy(sparse.csr_array(np.ones((4, n)))) for n in (3, 2))
    with pytest.raises(InputError, match="matrix '4 x 2': cannot be merged with one of 4 x 3"):
        merge([one, other], tmp_path)
