"""Splitting the entries of a sparse matrix into those to train on and those held out."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from trainer.matrix import kept_offsets


@dataclass(frozen=True)
class Split:
    """Entries to train on and entries held out.

    Attributes:
        train: (users, items) float32.
        test: (users, items) float32.
    """

    train: sparse.csr_array[np.float32]
    test: sparse.csr_array[np.float32]

    @classmethod
    def by(cls, matrix: sparse.csr_array[np.float32], held_out: NDArray[np.bool_]) -> Self:
        """Split a matrix by its entries.

        Args:
            matrix: (users, items) of all entries.
            held_out: (entries,) whether an entry is held out, in the order of ``matrix.data``.
        """
        return cls(_entries(matrix, ~held_out), _entries(matrix, held_out))

    @classmethod
    def exact(cls, matrix: sparse.csr_array[np.float32], fraction: float, seed: int) -> Self:
        """Hold out an exact share of the entries, rounded down, each as likely as any other.

        Args:
            matrix: (users, items) of all entries.
            fraction: share to hold out, from 0 to below 1.
            seed: seed of the choice; the same seed chooses the same entries.
        """
        held_out = np.zeros(matrix.nnz, bool)
        chosen = np.random.default_rng(seed).choice(matrix.nnz, int(matrix.nnz * fraction), replace=False)
        held_out[chosen] = True
        return cls.by(matrix, held_out)


def _entries(matrix: sparse.csr_array[np.float32], chosen: NDArray[np.bool_]) -> sparse.csr_array[np.float32]:
    indptr = kept_offsets(matrix.indptr, chosen)
    return sparse.csr_array((matrix.data[chosen], matrix.indices[chosen], indptr), shape=matrix.shape)
