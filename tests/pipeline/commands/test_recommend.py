"""`wals recommend` and `wals similar`, on a small model with a catalogue."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from tests.pipeline.conftest import Wals
from tests.pipeline.test_cli import modules_after
from trainer import InteractionMatrix, Model, Recommender, TrainConfig, fit
from trainer.catalogue import CatalogueTables, write_catalogue
from trainer.vocabulary import Vocabulary

TITLES = pa.table(
    {
        "item_id": ["1", "2", "a,b"],
        "title": ["<b>One</b>", "Two", None],
        "category": ["x", "x", "y"],
    }
)


@pytest.fixture(scope="module")
def fitted() -> Model:
    values = np.random.default_rng(1).random((12, 7)) < 0.4
    values[11] = False
    return fit(
        InteractionMatrix.from_scipy(sparse.csr_array(values.astype(np.float32))),
        TrainConfig(latent_factors=4),
        users=Vocabulary.of(range(12)),
        items=Vocabulary.of(["1", "2", "3", "4", "5", "6", "a,b"]),
    )


@pytest.fixture
def model(fitted: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    fitted.save(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    return fitted


def test_a_basket_of_ids(wals: Wals, model: Model) -> None:
    rows = wals("recommend", "--model", "model", "--items", '3, "a,b",3', "-k", 3, "--json").json["items"]
    expected = Recommender(model).for_basket(["3", "a,b"], 3)
    assert [row["item"] for row in rows] == expected["item_id"].to_pylist()
    assert [row["score"] for row in rows] == expected["score"].to_pylist()
    assert list(rows[0]) == ["rank", "item", "score"]
    result = wals("recommend", "--model", "model", "--items", "3", "-k", 2)
    shown = [line.split("│")[2].strip() for line in result.stdout.splitlines() if line.startswith("│")]
    assert shown == Recommender(model).for_basket("3", 2)["item_id"].to_pylist()


def test_similar_items(wals: Wals, model: Model) -> None:
    rows = wals("similar", "--model", "model", "--item", "a,b", "--json").json["items"]
    expected = Recommender(model).similar("a,b")
    assert [row["item"] for row in rows] == expected["similar_item_id"].to_pylist()
    assert len(rows) == 6
    assert rows[0]["score"] == pytest.approx(expected["score"][0].as_py())


def test_the_catalogue_next_to_the_model_gives_titles_and_rules(wals: Wals, model: Model) -> None:
    lists = {"blocked": pa.array(["1"]), "available": pa.array(["1", "2", "a,b", "6"])}
    write_catalogue(Path("catalogue"), CatalogueTables(TITLES, **lists))
    rows = wals("similar", "--model", "model", "--item", "3", "--json").json["items"]
    assert {row["item"]: row["title"] for row in rows} == {"2": "Two", "a,b": None, "6": None}
    result = wals("recommend", "--model", "model", "--items", "3")
    assert sorted(line.split("│")[3].strip() for line in result.stdout.splitlines() if line[0] == "│") == [
        *("6", "Two", "a,b")
    ]
    write_catalogue(Path("other"), CatalogueTables(TITLES, available=pa.array(["1", "2", "a,b"])))
    arguments = ("recommend", "--model", "model", "--catalogue", "other", "--items", "3", "--json")
    assert len(wals(*arguments).json["items"]) == 3
    assert len(wals(*arguments, "--max-per-category", 1).json["items"]) == 2
    best = wals(*arguments).json["items"][0]
    assert wals(*arguments, "--min-score", best["score"] - 1e-6).json["items"] == [best]


@pytest.mark.usefixtures("model")
def test_the_folder_of_a_run_is_not_that_of_its_model(wals: Wals) -> None:
    result = wals("similar", "--model", ".", "--item", "1")
    assert result.exit_code == 2
    assert result.stderr == "wals: error: model '.': is the folder of a run; give model\n"


def test_nothing_that_is_left_is_said(wals: Wals, model: Model) -> None:
    result = wals("recommend", "--model", "model", "--user", "11")
    assert (result.exit_code, result.stdout) == (0, "No item is left to recommend\n")
    assert wals("recommend", "--model", "model", "--user", "11", "--json").json["items"] == []


@pytest.mark.usefixtures("model")
def test_a_ranking_imports_nothing_that_it_does_without() -> None:
    loaded = modules_after(["recommend", "--model", "model", "--items", "3"], {})
    assert "numba" in loaded
    assert not {"pandas", "scipy.linalg", "cffi", "duckdb", "kfp"} & loaded


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("recommend",), "give either --user or --items"),
        (("recommend", "--user", 1, "--items", "1"), "give either --user or --items"),
        (
            ("recommend", "--items", "1,9"),
            "item '9': is unknown to the model; give an item of the interactions",
        ),
        (("recommend", "--items", ""), "items '': is an empty basket; give at least one item"),
        (
            ("recommend", "--user", "ann"),
            "user 'ann': is unknown to the model; give a user of the interactions",
        ),
        (("similar", "--item", "9"), "item '9': is unknown to the model"),
        (("similar", "--item", "1", "--catalogue", "model"), "'model/_manifest.json': is ('wals.model', 1)"),
        (("recommend", "--items", "1", "--max-per-category", 1), "requires the categories of the items"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    wals: Wals, model: Model, arguments: tuple[object, ...], line: str
) -> None:
    result = wals(*arguments, "--model", "model")
    assert (result.exit_code, result.stdout) == (2, "")
    assert line in result.stderr
    assert result.stderr.count("\n") == 1
