from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse, stats

from trainer.baselines import ItemCosine, Random, Recommender
from trainer.matrix import InteractionMatrix, Shard
from trainer.model import seen_of
from trainer.popularity import Popularity

USERS, ITEMS = 60, 40


def matrix_of(seed: int, density: float = 0.15) -> sparse.csr_array:
    """Return a matrix in which the last user and the last item have no entries."""
    random = np.random.default_rng(seed)
    dense = random.random((USERS, ITEMS)) < density * np.linspace(2, 0, ITEMS)
    dense[-1] = dense[:, -1] = False
    return sparse.csr_array(dense.astype(np.float32))


def in_shards(matrix: InteractionMatrix, rows: int) -> InteractionMatrix:
    """Return the matrix with shards of this number of rows."""

    def cut(shard: Shard, first: int) -> Shard:
        last = min(first + rows, shard.rows)
        entries = slice(shard.indptr[first], shard.indptr[last])
        indptr = shard.indptr[first : last + 1] - shard.indptr[first]
        return Shard(first, indptr, shard.indices[entries], shard.values[entries])

    shards = [
        [cut(side[0], first) for first in range(0, side[0].rows, rows)]
        for side in (matrix.by_row, matrix.by_column)
    ]
    return InteractionMatrix(matrix.rows, matrix.columns, *shards)


def all_users(matrix: InteractionMatrix) -> tuple[NDArray[Any], Shard]:
    users = np.arange(matrix.rows)
    return users, seen_of(matrix.by_row).rows(users)


def recommenders(matrix: InteractionMatrix) -> dict[str, Recommender]:
    return {
        "popularity": Popularity(matrix.column_counts()),
        "random": Random(matrix.columns, seed=3),
        "item_cosine": ItemCosine(matrix, neighbours=5),
    }


@pytest.mark.parametrize("name", ["popularity", "random", "item_cosine"])
@pytest.mark.parametrize("k", [1, 10, ITEMS, ITEMS + 3])
def test_lists_hold_k_distinct_unmasked_items_or_all_that_remain(name: str, k: int) -> None:
    matrix = InteractionMatrix.from_scipy(matrix_of(1))
    users, masked = all_users(matrix)
    lists = recommenders(matrix)[name].recommend(users, k, masked)
    assert lists.shape == (USERS, k)
    assert lists.dtype == np.int32
    for user, row in enumerate(lists):
        own = masked.indices[masked.indptr[user] : masked.indptr[user + 1]]
        listed = row[row >= 0]
        assert len(listed) == min(k, ITEMS - len(own))
        assert (row[len(listed) :] == -1).all()
        assert len(np.unique(listed)) == len(listed)
        assert not np.isin(listed, own).any()
        assert listed.max(initial=0) < ITEMS


@pytest.mark.parametrize("name", ["popularity", "random", "item_cosine"])
def test_a_users_list_does_not_depend_on_who_else_is_asked_for(name: str) -> None:
    matrix = InteractionMatrix.from_scipy(matrix_of(2))
    recommender = recommenders(matrix)[name]
    users, masked = all_users(matrix)
    whole = recommender.recommend(users, 7, masked)
    some = np.array([41, 5, 59])
    rows = seen_of(matrix.by_row).rows(some)
    np.testing.assert_array_equal(recommender.recommend(some, 7, rows), whole[some])
    nobody = recommender.recommend(users[:0], 7, seen_of(matrix.by_row).rows(users[:0]))
    assert nobody.shape == (0, 7)


def test_popularity_ranks_by_count_and_equals_by_index() -> None:
    masked = Shard(0, np.array([0, 0, 2]), np.array([1, 3], np.int32), np.ones(2, np.float32))
    lists = Popularity(np.array([2, 5, 0, 2, 9])).recommend(np.arange(2), 4, masked)
    assert lists.tolist() == [[4, 1, 0, 3], [4, 0, 2, -1]]


def test_random_lists_are_uniform_and_belong_to_the_seed() -> None:
    users = np.arange(20_000)
    masked = Shard(0, np.arange(20_001), np.full(20_000, 2, np.int32), np.ones(20_000, np.float32))
    lists = Random(7, seed=0).recommend(users, 3, masked)
    for place in range(3):
        counts = np.bincount(lists[:, place], minlength=7)
        assert counts[2] == 0
        assert stats.chisquare(np.delete(counts, 2)).pvalue > 1e-4
    pairs = np.bincount(lists[:, 0] * 7 + lists[:, 1], minlength=49)
    assert stats.chisquare(pairs[pairs > 0]).pvalue > 1e-4
    assert np.count_nonzero(pairs) == 6 * 5
    np.testing.assert_array_equal(Random(7, seed=0).recommend(users, 3, masked), lists)
    assert (Random(7, seed=1).recommend(users, 3, masked) != lists).any()


def similarities_of(matrix: sparse.csr_array) -> NDArray[np.float64]:
    """Return the cosines of all pairs of different items."""
    binary = (matrix != 0).toarray().astype(np.float64)
    norms = np.maximum(np.linalg.norm(binary, axis=0), 1)
    cosines = binary.T @ binary / np.outer(norms, norms)
    np.fill_diagonal(cosines, 0)
    return cosines


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("neighbours", [3, ITEMS])
def test_item_cosine_matches_a_dense_product(seed: int, neighbours: int) -> None:
    ratings = matrix_of(seed)
    # Whatever the value: a rating of 5 is one interaction.
    ratings.data[::2] = 5
    matrix = InteractionMatrix.from_scipy(ratings)
    cosines = similarities_of(ratings)
    if neighbours < ITEMS:
        # Which of several equal neighbours are kept is up to rounding: make all differ, by a common user.
        least = np.sort(cosines, axis=1)[:, -neighbours]
        kept = np.where(cosines >= least[:, None] - 1e-6, cosines, 0)
        ambiguous = (kept > 0).sum(axis=1) > neighbours
    else:
        kept, ambiguous = cosines, np.zeros(ITEMS, bool)
    users, masked = all_users(matrix)
    lists = ItemCosine(matrix, neighbours).recommend(users, 6, masked)
    judged = 0
    for user in users:
        own = masked.indices[masked.indptr[user] : masked.indptr[user + 1]]
        if ambiguous[own].any():
            continue
        judged += 1
        scores = kept[own].sum(axis=0)
        scores[own] = 0
        best = np.sort(scores)[::-1][:6]
        np.testing.assert_allclose(scores[lists[user]], best, atol=1e-6)
    assert judged > 5


def test_item_cosine_of_a_matrix_in_shards_is_the_same() -> None:
    matrix = InteractionMatrix.from_scipy(matrix_of(5))
    users, masked = all_users(matrix)
    np.testing.assert_array_equal(
        ItemCosine(in_shards(matrix, 7), 4).recommend(users, 9, masked),
        ItemCosine(matrix, 4).recommend(users, 9, masked),
    )


def test_item_cosine_scores_by_the_history_whatever_else_is_masked() -> None:
    matrix = InteractionMatrix.from_scipy(matrix_of(6))
    users, history = all_users(matrix)
    # The best item of each user is masked as well.
    first = ItemCosine(matrix).recommend(users, 8, history)
    rows = [
        np.sort(np.append(history.indices[history.indptr[user] : history.indptr[user + 1]], first[user, 0]))
        for user in users
    ]
    indices = np.concatenate(rows).astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    masked = Shard(0, indptr, indices, np.ones(len(indices), np.float32))
    lists = ItemCosine(matrix).recommend_for(history, 7, masked)
    np.testing.assert_array_equal(lists, first[:, 1:])


def test_item_cosine_fills_up_with_popular_items() -> None:
    # Items 0 and 1 share a user; items 2 and 3 have users of their own, item 3 more of them.
    ratings = sparse.csr_array(
        np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]], np.float32)
    )
    matrix = InteractionMatrix.from_scipy(ratings)
    users = np.array([1, 4])
    masked = Shard(0, np.array([0, 1, 1]), np.array([0], np.int32), np.ones(1, np.float32))
    lists = ItemCosine(matrix).recommend(users, 4, masked)
    # A history that was not in training counts, because the masked items are the user's.
    assert lists.tolist() == [[1, 3, 2, -1], [3, 0, 1, 2]]


def test_item_cosine_among_many_items_without_users_is_the_same() -> None:
    """Of few interactions among many items, only those of items with common users are looked at."""
    few = matrix_of(6)
    many = few.copy()
    many.resize((USERS, 100_000))
    narrow, wide = InteractionMatrix.from_scipy(few), InteractionMatrix.from_scipy(many)
    users, masked = all_users(narrow)
    np.testing.assert_array_equal(
        ItemCosine(wide, 4).recommend(users, 9, masked),
        ItemCosine(narrow, 4).recommend(users, 9, masked),
    )
