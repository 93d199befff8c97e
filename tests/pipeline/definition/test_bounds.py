"""Numbers that no machine could serve, from every place where a person can give them."""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from components.artifacts.holdout import SCHEMA
from pipeline.definition.pipelines import PIPELINES
from tests.components.profiles import profile
from tests.components.steps import evaluate, publish
from tests.pipeline.conftest import Wals
from trainer.catalogue import CatalogueTables, no_items, write_catalogue
from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.files import finish_artifact
from trainer.matrix import InteractionMatrix
from trainer.model import Model, seen_of
from trainer.vocabulary import Vocabulary

INTEGERS = [
    (pipeline.name, parameter.name)
    for pipeline in PIPELINES.values()
    for parameter in pipeline.parameters.values()
    if (parameter.type is int or parameter.name == "latent_factors") and not parameter.choices
]


@pytest.mark.parametrize(
    "value", [2**53, 2**63, 10**20, 10**400], ids=lambda value: f"{len(str(value))} digits"
)
@pytest.mark.parametrize(("pipeline", "name"), INTEGERS)
def test_every_integer_has_an_upper_bound(pipeline: str, name: str, value: int) -> None:
    parameter = PIPELINES[pipeline].parameters[name]
    for given, text in ((value, False), (str(value), True)):
        with pytest.raises(InputError, match=f"^{name} .*: is above") as refused:
            parameter.parse(given, text=text)
        assert "e+" not in str(refused.value)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """A model of three users and four items with its matrices."""
    seen = InteractionMatrix.from_scipy(sparse.csr_array(np.eye(3, 4, dtype=np.float32)))
    seen.save(tmp_path / "training")
    held_out = sparse.csr_array(np.eye(3, 4, k=1, dtype=np.float32))
    InteractionMatrix.from_scipy(held_out).save(tmp_path / "holdout" / "targets")
    finish_artifact(tmp_path / "holdout", SCHEMA, {})
    factors = np.eye(3, dtype=np.float32), np.eye(4, 3, dtype=np.float32)
    users, items = Vocabulary(pa.array([1, 2, 3])), Vocabulary(pa.array([10, 20, 30, 40]))
    Model(TrainConfig(latent_factors=3), *factors, users, items, seen_of(seen.by_row)).save(
        tmp_path / "model"
    )
    write_catalogue(tmp_path / "catalogue", CatalogueTables(no_items()))
    profile().save(tmp_path / "profile")
    return {name: tmp_path / name for name in ("model", "training", "holdout", "catalogue", "profile")}


def test_lists_longer_than_the_items_are_those_of_all_items(
    folders: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for k in (4, 100_000):
        outputs = {
            name: tmp_path / f"{name}{k}" for name in ("recommendations", "similar_items", "embeddings")
        }
        publish(model=folders["model"], catalogue=folders["catalogue"], **outputs, top_k=k, similar_k=k)
    assert pq.read_table(tmp_path / "recommendations4") == pq.read_table(tmp_path / "recommendations100000")
    assert pq.read_table(tmp_path / "recommendations4").num_rows == 9
    short, long = (
        evaluate(**folders, evaluation=tmp_path / f"e{k}", report=tmp_path / f"{k}.html", eval_k=k).metrics
        for k in (4, 100_000)
    )
    assert long["ndcg_at_100000"] == short["ndcg_at_4"]
    assert long["recall_at_100000"] == short["recall_at_4"] == 1
    assert caplog.messages == [
        f"{name} 100000 is above the number of items, 4, which is used instead"
        for name in ("top_k", "similar_k", "eval_k")
    ]


@pytest.mark.parametrize("user", ["9" * 20, "-" + "9" * 20, "9" * 5000, str(2**63), str(-(2**63) - 1)])
def test_an_id_of_many_digits_is_refused_in_one_line(user: str, folders: dict[str, Path], wals: Wals) -> None:
    result = wals("recommend", "--model", folders["model"], f"--user={user}")
    assert result.exit_code == 2
    assert result.stderr.startswith("wals: error: user ")
    assert result.stderr.count("\n") == 1
    with pytest.raises(InputError):
        Vocabulary(pa.array([1, 2])).index_of([10**20])


@pytest.mark.parametrize("k", [10**6, 10**12, 10**30])
def test_more_recommendations_than_items_are_all_items(k: int, folders: dict[str, Path], wals: Wals) -> None:
    result = wals("recommend", "--model", folders["model"], "--user", 1, "-k", k, "--json")
    assert result.exit_code == 0, result.stderr
    assert len(result.json["items"]) == 3
