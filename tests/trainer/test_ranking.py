import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.matrix import Shard
from trainer.ranking import top_k


def brute_force(queries: np.ndarray, items: np.ndarray, k: int, masked: list[list[int]]) -> list[list[int]]:
    ranked = []
    for query, hidden in zip(queries, masked, strict=True):
        scores = items @ query
        order = sorted(set(range(len(items))) - set(hidden), key=lambda item: (-scores[item], item))[:k]
        ranked.append(order + [-1] * (k - len(order)))
    return ranked


@pytest.mark.parametrize(
    ("few_queries", "items_at_once"), [(64, 1024), (0, 70)], ids=["in order", "the longest first"]
)
@given(
    st.integers(1, 9), st.integers(1, 300), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0, 1)
)  # fmt: skip
@settings(deadline=None, max_examples=80)
def test_matches_a_full_sort_with_ties_and_masks(
    few_queries: int, items_at_once: int, n: int, count: int, k: int, seed: int, hidden: float
) -> None:
    random = np.random.default_rng(seed)
    # Small integers make scores exact and ties frequent.
    queries = random.integers(-2, 3, (n, 3)).astype(np.float32)
    items = random.integers(-2, 3, (count, 3)).astype(np.float32)
    rows = [np.flatnonzero(random.random(count) < hidden) for _ in range(n)]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    indices = np.concatenate(rows).astype(np.int32)
    masked = Shard(0, indptr, indices, np.ones(len(indices), np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.ranking._FEW_QUERIES", few_queries)
        patch.setattr("trainer.ranking._ITEMS_AT_ONCE", items_at_once)
        patch.setattr("trainer.ranking._BLOCK_BYTES", 4 * 1024)
        ranked, scores = top_k(queries, items, k, masked=masked)
    assert ranked.tolist() == brute_force(queries, items, k, [row.tolist() for row in rows])
    for i, row in enumerate(ranked):
        listed = row[row >= 0]
        np.testing.assert_array_equal(scores[i, : len(listed)], items[listed] @ queries[i])
        assert np.isneginf(scores[i, len(listed) :]).all()


def test_more_queries_than_a_block_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    queries = random.standard_normal((50, 8), np.float32)
    items = random.standard_normal((30, 8), np.float32)
    whole = top_k(queries, items, 5)
    monkeypatch.setattr("trainer.ranking._BLOCK_BYTES", 30 * 4 * 7)
    np.testing.assert_array_equal(top_k(queries, items, 5)[0], whole[0])
