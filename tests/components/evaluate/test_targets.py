"""The held-out entries that are judged, of all users or of some drawn at random."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse

from components.evaluate.targets import Targets
from trainer.matrix import InteractionMatrix, rows_between

USERS = 60


@pytest.fixture
def matrix() -> InteractionMatrix:
    """60 users, every third of whom has no entries."""
    dense = sparse.random_array((USERS, 30), density=0.2, rng=np.random.default_rng(0), dtype=np.float32)
    dense = dense.toarray()
    dense[::3] = 0
    return InteractionMatrix.from_scipy(sparse.csr_array(dense))


def in_shards(matrix: InteractionMatrix, *firsts: int) -> InteractionMatrix:
    bounds = [*firsts, matrix.rows]
    shards = [
        shard
        for first, stop in itertools.pairwise(bounds)
        for shard in rows_between(matrix.by_row, first, stop)
    ]
    return InteractionMatrix(matrix.rows, matrix.columns, shards, matrix.by_column)


@pytest.mark.parametrize("most", [0, 1, 12, 39, 40])
@pytest.mark.parametrize("firsts", [[0], [0, 7, 8, 50]])
def test_they_are_those_of_the_users_in_shards_too(
    matrix: InteractionMatrix, most: int, firsts: list[int]
) -> None:
    targets = Targets.of(in_shards(matrix, *firsts)).drawn(most)
    known = np.flatnonzero(matrix.row_counts())
    assert len(targets.users) == (most or len(known))
    assert np.isin(targets.users, known).all()
    assert (np.diff(targets.users) > 0).all()
    assert_array_equal(targets.users, Targets.of(matrix).drawn(most).users)
    for place, user in enumerate(targets.users):
        entries = slice(*targets.indptr[place : place + 2])
        items, values = matrix.row(user)
        assert_array_equal(targets.items[entries], items)
        assert_array_equal(targets.values[entries], values)
    assert targets.indptr[-1] == targets.entries == len(targets.values)


def test_every_user_is_as_likely_to_be_drawn() -> None:
    # Neither the first nor the last ones: their mean is near the middle.
    users = 100_000
    matrix = InteractionMatrix.from_scipy(sparse.csr_array(np.ones((users, 1), np.float32)))
    drawn = Targets.of(matrix).drawn(1000).users
    # The standard error of the mean is 0.009 of the range.
    assert abs(drawn.mean() / users - 0.5) < 0.04


def test_without_some_users_others_are_drawn_besides_the_same_ones(matrix: InteractionMatrix) -> None:
    targets = Targets.of(matrix)
    before = targets.drawn(20).users
    gone = before[::4]
    left, _ = targets.only(np.repeat(~np.isin(targets.users, gone), np.diff(targets.indptr)))
    after = left.drawn(20).users
    assert len(after) == 20
    assert set(before) - set(gone) <= set(after)
