"""Recommendations by ids are those of the model by indices."""

import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import sparse

import trainer.catalogue
import trainer.recommender
from trainer import InteractionMatrix, Model, Recommender, TrainConfig, fit
from trainer.catalogue import CatalogueTables, write_catalogue
from trainer.errors import InputError
from trainer.vocabulary import Vocabulary

USERS = Vocabulary.of(range(100, 140))
ITEMS = Vocabulary.of([f"sku {number:02d}" for number in range(25)])
EMPTY = 39
"""The last user and item have no interactions."""


@pytest.fixture(scope="module")
def model() -> Model:
    matrix = sparse.random_array((40, 25), density=0.2, format="lil", rng=np.random.default_rng(0))
    matrix[EMPTY, :] = 0
    matrix[:, 24] = 0
    return fit(
        InteractionMatrix.from_scipy(matrix.tocsr()), TrainConfig(latent_factors=8), users=USERS, items=ITEMS
    )


@pytest.fixture(scope="module")
def catalogue() -> pa.Table:
    return pa.table(
        {
            "item_id": ["other", *(f"sku {number:02d}" for number in range(0, 25, 2))],
            "title": ["Other", *(f"<b>{number}</b>" for number in range(0, 25, 2))],
            "category": ["x"] * 14,
        }
    )


def test_recommendations_are_the_models(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    found = Recommender.load(str(tmp_path)).recommend([103, 101], 5)
    indices, scores = model.recommend([3, 1], 5)
    assert found.schema.names == ["user_id", "item_id", "score", "rank"]
    assert found["user_id"].to_pylist() == [103] * 5 + [101] * 5
    assert found["item_id"].to_pylist() == ITEMS.take(indices.ravel())
    assert found["score"].to_pylist() == scores.ravel().tolist()
    assert found["rank"].to_pylist() == [1, 2, 3, 4, 5] * 2


@pytest.mark.parametrize(
    "users", [103, "103", np.int64(103), [103], ["103"], np.array([103]), pd.Series([103]), pa.array(["103"])]
)
def test_ids_in_any_form(model: Model, users: Any) -> None:
    recommender = Recommender(model)
    assert recommender.recommend(users, 5).equals(recommender.recommend([103], 5))


def test_a_list_has_at_most_all_items_that_are_left(model: Model) -> None:
    found = Recommender(model).recommend([103, 139, 101], 1_000_000)
    counts = np.diff(model.seen.indptr)
    assert found["user_id"].value_counts().to_pylist() == [
        {"values": 103, "counts": 25 - counts[3]},
        {"values": 101, "counts": 25 - counts[1]},
    ]
    assert Recommender(model).recommend([], 5).num_rows == 0


def test_a_basket_is_folded_in_with_the_value_one(model: Model) -> None:
    history = InteractionMatrix.from_scipy(sparse.csr_array(([1.0, 1.0], ([0, 0], [2, 7])), (1, 25))).by_row[
        0
    ]
    indices, scores = model.recommend_for(history, 4)
    found = Recommender(model).for_basket(["sku 07", "sku 02", "sku 07"], 4)
    assert found.schema.names == ["item_id", "score", "rank"]
    assert found["item_id"].to_pylist() == ITEMS.take(indices[0])
    assert found["score"].to_pylist() == scores[0].tolist()
    assert Recommender(model).for_basket("sku 07").num_rows == 10


def test_similar_items_are_the_models(model: Model) -> None:
    found = Recommender(model).similar(["sku 07", "sku 24"], 3)
    indices, scores = model.similar_items([7], 3)
    assert found.schema.names == ["item_id", "similar_item_id", "score", "rank"]
    # An item without interactions has no factors, and so no neighbours.
    assert found["item_id"].to_pylist() == ["sku 07"] * 3
    assert found["similar_item_id"].to_pylist() == ITEMS.take(indices[0])
    assert found["score"].to_pylist() == scores[0].tolist()


def test_titles_and_rules_hold_everywhere(model: Model, catalogue: pa.Table, tmp_path: Path) -> None:
    model.save(tmp_path)
    allowed = {"sku 04", "sku 05", "sku 06", "sku 08"}
    lists = {"blocked": ["sku 07", "none"], "available": ["sku 07", *sorted(allowed)]}
    known = CatalogueTables.of(catalogue, **lists)
    recommender = Recommender.load(tmp_path, catalogue=known, max_per_category=2)
    for found, column in (
        (recommender.recommend(EMPTY - 1 + 100), "item_id"),
        (recommender.for_basket("sku 01"), "item_id"),
        (recommender.similar("sku 01"), "similar_item_id"),
    ):
        listed = found.select([column, "title"]).to_pylist()
        assert {row[column] for row in listed} <= allowed
        for row in listed:
            number = int(row[column][-2:])
            assert row["title"] == (None if number % 2 else f"<b>{number}</b>")
        # Those with an even number are in one category, which matters to recommendations only.
        assert len([row for row in listed if row["title"]]) == (2 if column == "item_id" else 3)


@pytest.mark.parametrize("given", [None, "elsewhere", Path("elsewhere")])
def test_the_catalogue_next_to_the_model_or_a_given_one_is_used(
    model: Model, catalogue: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    model.save(tmp_path / "run" / "model")
    write_catalogue(tmp_path / "run" / "catalogue", CatalogueTables.of(catalogue, blocked=["sku 02"]))
    write_catalogue(tmp_path / "elsewhere", CatalogueTables.of(blocked=["sku 04"]))
    left_out = set(ITEMS.ids.to_pylist()) - set(
        Recommender.load("run/model", catalogue=given).for_basket("sku 01", 25)["item_id"].to_pylist()
    )
    assert left_out == {"sku 01", "sku 04" if given else "sku 02"}
    titles = Recommender.load("run/model", catalogue=given).titles
    assert (titles is None) == bool(given)


def test_without_a_catalogue_there_are_no_titles(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    assert Recommender.load(tmp_path / "model").titles is None


def test_factors_are_those_whose_inner_products_are_the_scores(model: Model) -> None:
    recommender = Recommender(model)
    users, items = recommender.user_factors([103, 101]), recommender.item_factors(["sku 07", "sku 24"])
    assert users.schema.names == ["user_id", "factor"]
    assert items.schema.names == ["item_id", "factor"]
    assert users["user_id"].to_pylist() == [103, 101]
    products = np.stack(users["factor"].to_numpy()) @ np.stack(items["factor"].to_numpy()).T
    scores = model.predict([3, 3, 1, 1], [7, 24, 7, 24]).reshape(2, 2)
    np.testing.assert_allclose(products, scores, rtol=1e-5)
    # The last item has no interactions.
    assert not products[:, 1].any()
    with pytest.raises(InputError, match="user 7: is unknown to the model"):
        recommender.user_factors([103, 7])


def test_the_examples_of_the_docstrings(
    sample_run: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(sample_run)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for module, least in ((trainer.recommender, 8), (trainer.catalogue, 2)):
        known = {"recommender": Recommender.load("runs/latest/model")}
        found = doctest.testmod(module, optionflags=options, extraglobs=known)
        assert found.attempted >= least
        assert found.failed == 0


def test_scores_too_low_are_left_out(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    best = Recommender(model).recommend(103, 5)
    least = best["score"][1].as_py()
    found = Recommender.load(tmp_path, min_score=least).recommend(103, 5)
    assert found.equals(best.slice(0, 2))


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda r: r.recommend(7), "user 7: is unknown to the model; give a user of the interactions"),
        (lambda r: r.recommend("ann"), "user 'ann': is unknown to the model; give a user"),
        (
            lambda r: r.recommend([101, 7, 8, None]),
            "user 7: is unknown to the model, and so are 2 others; give",
        ),
        (
            lambda r: r.recommend([101, "ann"]),
            r"user \[101, 'ann'\]: are not ids of one type; give integers, or",
        ),
        (lambda r: r.for_basket(["sku 01", "x"]), "item 'x': is unknown to the model; give an item of the"),
        (lambda r: r.for_basket([]), "items '': is an empty basket; give at least one item"),
        (lambda r: r.similar("x"), "item 'x': is unknown to the model; give an item"),
        (lambda r: r.similar("sku 01", 0), "k 0: is below 1; give an integer"),
    ],
)
def test_what_is_unknown_is_one_line(model: Model, call: Any, line: str) -> None:
    with pytest.raises(InputError, match=f"^{line}"):
        call(Recommender(model))
