"""Examples of what users get: who is shown, and what is said of their items."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from components.evaluate.examples import Examples, examples_of
from trainer.config import TrainConfig
from trainer.matrix import InteractionMatrix
from trainer.model import Model, seen_of
from trainer.vocabulary import Vocabulary

USERS, ITEMS = 30, 12


def matrix(rows: np.ndarray) -> InteractionMatrix:
    return InteractionMatrix.from_scipy(sparse.csr_array(rows.astype(np.float32)))


@pytest.fixture
def known() -> np.ndarray:
    """User u has u // 3 interactions, the one with item i of value i + 1."""
    items = np.arange(ITEMS)
    return np.where(items < np.arange(USERS)[:, None] // 3, items + 1, 0)


@pytest.fixture
def targets() -> np.ndarray:
    """Users with an odd index have the last two items to be found."""
    held_out = np.zeros((USERS, ITEMS))
    held_out[1::2, -2:] = 1
    return held_out


def described(titles: dict[int, str | None] | None = None, category: str | None = "Comedy") -> pa.Table:
    names = {item: f"Film {item}" for item in range(ITEMS)} | (titles or {})
    return pa.table(
        {
            "title": pa.array([names[item] for item in range(ITEMS)], pa.string()),
            "category": pa.array([category] * ITEMS, pa.string()),
        }
    )


def of(known: np.ndarray, targets: np.ndarray, catalogue: pa.Table, feedback: str = "explicit") -> Examples:
    # Every user prefers the items from the last to the first.
    model = Model(
        TrainConfig(latent_factors=1, feedback=feedback),
        np.ones((USERS, 1), np.float32),
        np.arange(ITEMS, dtype=np.float32)[:, None],
        Vocabulary.of([f"user {user:02}" for user in range(USERS)]),
        Vocabulary.of_range(ITEMS),
        seen_of(matrix(known).by_row),
    )
    users = np.flatnonzero(targets.any(axis=1))
    entries = sparse.csr_array(targets[users])
    held_out = SimpleNamespace(users=users, indptr=entries.indptr, items=entries.indices)
    return examples_of(model, matrix(known), held_out, catalogue)


def test_the_users_are_spread_over_activity(known: np.ndarray, targets: np.ndarray) -> None:
    shown = of(known, targets, described()).users
    # The judged users, 3, 5 ... 29, have 1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7, 8, 9, 9 interactions.
    assert [user.known for user in shown] == [1, 3, 4, 6, 7, 9]
    assert len({user.id for user in shown}) == 6
    assert all(int(user.id.removeprefix("user ")) % 2 for user in shown)


def test_an_example_has_what_a_user_liked_and_gets(known: np.ndarray, targets: np.ndarray) -> None:
    busiest = of(known, targets, described()).users[-1]
    assert [(item.title, item.note) for item in busiest.liked] == [
        (f"Film {item}", f"rated {item + 1}") for item in (8, 7, 6, 5, 4)
    ]
    assert [(item.title, item.note) for item in busiest.recommended] == [
        ("Film 11", "held out: found"),
        ("Film 10", "held out: found"),
        ("Film 9", ""),
    ]
    assert (busiest.held_out, busiest.found) == (2, 2)
    assert busiest.liked[0].category == "Comedy"


def test_interactions_without_a_value_have_no_note(known: np.ndarray, targets: np.ndarray) -> None:
    (user, *_) = of(known > 0, targets, described(), "implicit").users
    assert [item.note for item in user.liked] == [""]
    (user, *_) = of(known * 3, targets, described(), "implicit").users
    assert [item.note for item in user.liked] == ["value 3"]


@pytest.mark.parametrize("title", [None, "", "   "])
def test_an_item_without_a_title_has_its_id(
    known: np.ndarray, targets: np.ndarray, title: str | None
) -> None:
    found = of(known, targets, described({8: title}, None)).users[-1].liked[0]
    assert (found.title, found.category) == ("8", "")


def test_the_most_popular_items_have_their_neighbours(known: np.ndarray, targets: np.ndarray) -> None:
    places = of(known, targets, described()).neighbourhoods
    assert [place.item.title for place in places] == [f"Film {item}" for item in range(6)]
    for place in places:
        assert 0 < len(place.similar) <= 5
        assert place.item not in place.similar


def test_nobody_is_shown_if_nobody_is_known(known: np.ndarray, targets: np.ndarray) -> None:
    assert of(np.zeros_like(known), targets, described()).users == ()


def test_a_few_users_are_each_shown_once(known: np.ndarray, targets: np.ndarray) -> None:
    few = np.zeros_like(targets)
    few[[10, 20]] = targets[1]
    assert [user.id for user in of(known, few, described()).users] == ["user 10", "user 20"]


def test_the_same_arguments_give_the_same_examples(known: np.ndarray, targets: np.ndarray) -> None:
    assert of(known, targets, described()) == of(known, targets, described())


def test_the_items_of_all_lists_are_found(known: np.ndarray, targets: np.ndarray) -> None:
    found = of(known, targets, described())
    assert {item.id for item in found.items()} == {str(item) for item in range(ITEMS)}
    assert list(replace(found, users=(), neighbourhoods=()).items()) == []
