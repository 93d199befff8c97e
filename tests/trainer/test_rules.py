"""Business rules: exact lists within them, compared with a search that tries the items in turn."""

import re
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.matrix import Shard
from trainer.model import Model, Seen
from trainer.rules import Rules
from trainer.vocabulary import Vocabulary


def in_turn(scores: np.ndarray, k: int, hidden: set[int], rules: Rules) -> list[int]:
    """Return the k best items that the rules allow, taking each in turn."""
    allowed = range(len(scores)) if rules.eligible is None else rules.eligible.tolist()
    listed: list[int] = []
    of_category: Counter[int] = Counter()
    for item in sorted(set(allowed) - hidden, key=lambda item: (-scores[item], item)):
        category = -1 if rules.categories is None else int(rules.categories[item])
        full = rules.max_per_category and category >= 0 and of_category[category] >= rules.max_per_category
        if scores[item] < rules.min_score or full or len(listed) == k:
            continue
        of_category[category] += 1
        listed.append(item)
    return listed


@given(
    st.integers(1, 6), st.integers(1, 300), st.integers(1, 40), st.integers(0, 2**32 - 1),
    st.floats(0, 1), st.none() | st.floats(0, 1), st.integers(1, 9), st.integers(0, 4),
    st.sampled_from([-np.inf, -2.0, 0.0, 1.0, 1.5]),
)  # fmt: skip
@settings(deadline=None, max_examples=150)
def test_lists_are_those_of_a_search_in_turn(
    n: int,
    count: int,
    k: int,
    seed: int,
    hidden: float,
    eligible: float | None,
    categories: int,
    most: int,
    min_score: float,
) -> None:
    random = np.random.default_rng(seed)
    # Small integers make scores exact and ties frequent.
    queries = random.integers(-2, 3, (n, 3)).astype(np.float32)
    items = random.integers(-2, 3, (count, 3)).astype(np.float32)
    rows = [np.flatnonzero(random.random(count) < hidden) for _ in range(n)]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    indices = np.concatenate(rows).astype(np.int32)
    masked = Shard(0, indptr, indices, np.ones(len(indices), np.float32))
    rules = Rules(
        None if eligible is None else np.flatnonzero(random.random(count) < eligible).astype(np.int32),
        random.integers(-1, categories, count).astype(np.int32),
        most,
        min_score,
    )
    ranked, scores = rules.top_k(queries, items, k, masked=masked)
    for query, row, listed, listed_scores in zip(queries, rows, ranked.tolist(), scores, strict=True):
        expected = in_turn(items @ query, k, set(row.tolist()), rules)
        assert listed == expected + [-1] * (k - len(expected))
        np.testing.assert_array_equal(listed_scores[: len(expected)], items[expected] @ query)
        assert np.isneginf(listed_scores[len(expected) :]).all()


def test_a_list_is_full_although_its_category_fills_the_best_places() -> None:
    # The best 500 items are of one category, of which two may be shown.
    items = np.arange(1000, 0, -1, dtype=np.float32)[:, None]
    categories = np.repeat(np.arange(2, dtype=np.int32), 500)
    rules = Rules(categories=categories, max_per_category=2)
    ranked, _ = rules.top_k(np.ones((1, 1), np.float32), items, 4)
    assert ranked.tolist() == [[0, 1, 500, 501]]


@pytest.fixture
def model() -> Model:
    """Two users of five items: the first has seen item 10, the second nothing."""
    return Model(
        TrainConfig(latent_factors=2),
        np.array([[1, 0], [0, 1]], np.float32),
        np.array([[9, 1], [5, 5], [4, 6], [3, 7], [1, 9]], np.float32),
        Vocabulary(pa.array(["ada", "bob"])),
        Vocabulary(pa.array([10, 20, 30, 40, 50])),
        Seen(np.array([0, 1, 1]), np.array([0], np.int32)),
    )


CATEGORIES = pa.array(["red", "red", "blue", "blue", None])

RULES: dict[str, tuple[dict[str, Any], list[list[int]]]] = {
    "none": ({}, [[20, 30, 40], [50, 40, 30]]),
    "blocked, with an unknown id": ({"blocked": pa.array(["20", "70", "x"])}, [[30, 40, 50], [50, 40, 30]]),
    "available": ({"available": pa.array(["10", "50", "40"])}, [[40, 50], [50, 40, 10]]),
    "available but blocked": (
        {"available": pa.array(["20", "50"]), "blocked": pa.array(["50"])},
        [[20], [20]],
    ),
    "one of a category, any number without": (
        {"categories": CATEGORIES, "max_per_category": 1},
        [[20, 30, 50], [50, 40, 20]],
    ),
    "one of a category among the available": (
        {"categories": CATEGORIES, "max_per_category": 1, "available": pa.array(["30", "40", "50"])},
        [[30, 50], [50, 40]],
    ),
    "score": ({"min_score": 4.0}, [[20, 30], [50, 40, 30]]),
    "an empty block list": ({"blocked": pa.array([], pa.string())}, [[20, 30, 40], [50, 40, 30]]),
}


@pytest.mark.parametrize(("given_rules", "expected"), RULES.values(), ids=RULES)
def test_a_model_recommends_within_the_rules(
    model: Model, given_rules: dict[str, Any], expected: list[list[int]]
) -> None:
    indices, _ = model.recommend([0, 1], 3, rules=Rules.of(model.items, **given_rules))
    assert [model.items.take(row[row >= 0]) for row in indices] == expected


def test_a_new_users_recommendations_and_similar_items_keep_to_the_rules_too(model: Model) -> None:
    rules = Rules.of(
        model.items,
        blocked=pa.array(["20"]),
        categories=CATEGORIES,
        max_per_category=1,
    )
    history = Shard(0, np.array([0, 1]), np.array([0], np.int32), np.ones(1, np.float32))
    indices, _ = model.recommend_for(history, 5, rules=rules)
    assert 1 not in indices
    assert len({2, 3} & set(indices[0].tolist())) == 1
    similar, _ = model.similar_items([1], 5, rules=rules)
    assert sorted(similar[0].tolist()) == [-1, 0, 2, 3, 4], "neighbours of a blocked item, of any category"


@pytest.mark.parametrize(
    ("given_rules", "line"),
    [
        ({"available": pa.array(["x"])}, "items '5': are all blocked or unavailable"),
        ({"blocked": pa.array(["10", "20", "30", "40", "50"])}, "items '5': are all blocked"),
        ({"max_per_category": 2}, "max_per_category 2: requires the categories"),
        (
            {"max_per_category": 2, "categories": pa.nulls(5, pa.string())},
            "max_per_category 2: requires the categories",
        ),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(model: Model, given_rules: Any, line: str) -> None:
    with pytest.raises(InputError, match=re.escape(line)):
        Rules.of(model.items, **given_rules)
