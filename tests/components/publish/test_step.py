"""Publishing: the Parquet that other systems read."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from components.publish import step
from tests.components.steps import publish
from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.files import sha256
from trainer.matrix import InteractionMatrix
from trainer.model import Model, Seen, seen_of
from trainer.vocabulary import Vocabulary

SEEN = np.array([[1, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 1]], np.float32)
SCORES = np.array([[9, 1, 2, 3], [5, 6, 7, 8], [1, 4, 3, 2]], np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    Model(
        TrainConfig(latent_factors=3),
        np.eye(3, dtype=np.float32),
        np.ascontiguousarray(SCORES.T),
        Vocabulary(pa.array(["ada", "bob", "zoë"])),
        Vocabulary(pa.array([10, 20, 30, 40])),
        seen_of(InteractionMatrix.from_scipy(sparse.csr_array(SEEN)).by_row),
    ).save(tmp_path / "model")
    return tmp_path / "model"


def test_users_get_their_best_unseen_items_by_their_own_ids(model: Path, tmp_path: Path) -> None:
    metadata = publish(model=model, recommendations=tmp_path / "out", top_k=2)
    rows = pq.read_table(tmp_path / "out").to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("ada", 40, 3.0, 1),
        ("ada", 30, 2.0, 2),
        ("bob", 10, 5.0, 1),  # the only item bob has not seen
        ("zoë", 20, 4.0, 1),
        ("zoë", 30, 3.0, 2),
    ]
    assert metadata["rows"] == 5
    assert metadata["users"] == 3


def test_users_without_training_interactions_get_none(model: Path, tmp_path: Path) -> None:
    loaded = Model.load(model)
    unknown = dataclasses.replace(loaded, seen=Seen(np.array([0, 1, 4, 4]), loaded.seen.indices[:4]))
    unknown.save(tmp_path / "colder")
    metadata = publish(model=tmp_path / "colder", recommendations=tmp_path / "out", top_k=2)
    assert set(pq.read_table(tmp_path / "out")["user_id"].to_pylist()) == {"ada", "bob"}
    assert metadata["users"] == 2


def test_many_users_are_written_in_shards_that_the_manifest_describes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(model=model, recommendations=tmp_path / "one", top_k=2)
    monkeypatch.setattr(step, "_ROWS_PER_SHARD", 4)
    publish(model=model, recommendations=tmp_path / "many", top_k=2)
    manifest = json.loads((tmp_path / "many" / "_manifest.json").read_text("utf-8"))
    assert [shard["rows"] for shard in manifest["shards"]] == [3, 2]
    for shard in manifest["shards"]:
        assert sha256(tmp_path / "many" / shard["path"]) == shard["sha256"]
    assert pq.read_table(tmp_path / "many").equals(pq.read_table(tmp_path / "one"))


def test_nothing_is_published_for_bad_input(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="top_k 0"):
        publish(model=model, recommendations=tmp_path / "out", top_k=0)
    factors = model / "item_factors.npy"
    factors.write_bytes(factors.read_bytes()[:-4])
    with pytest.raises(InputError, match="item_factors"):
        publish(model=model, recommendations=tmp_path / "out", top_k=2)
    assert not (tmp_path / "out").exists()


def test_a_failed_attempt_leaves_no_artifact(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(model=model, recommendations=tmp_path / "out", top_k=2)

    def disk_full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(step.pq, "write_table", disk_full)
        with pytest.raises(OSError, match="No space"):
            publish(model=model, recommendations=tmp_path / "out", top_k=1)
    assert not (tmp_path / "out" / "_manifest.json").exists()
    assert publish(model=model, recommendations=tmp_path / "out", top_k=1)["rows"] == 3
