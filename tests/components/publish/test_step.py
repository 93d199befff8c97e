"""Publishing: the files that other systems read."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from components.publish import step
from tests.components.steps import publish as publish_step
from tests.trainer.emulation.device import EmulatedDevice, give, require_compiler
from trainer.catalogue import CatalogueTables, no_items, write_catalogue
from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.files import sha256
from trainer.matrix import InteractionMatrix
from trainer.model import Model, Seen, seen_of
from trainer.vocabulary import Vocabulary

SEEN = np.array([[1, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 1]], np.float32)
SCORES = np.array([[9, 1, 2, 3], [5, 6, 7, 8], [1, 4, 3, 2]], np.float32)
ITEMS = pa.table(
    {
        "item_id": ["10", "20", "30"],
        "title": ["Ten", "Twenty", None],
        "category": ["red", "red", 'bl"ue\n'],
    }
)
PARTS = ("recommendations", "similar_items", "embeddings")


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


def publish(model: Path, out: Path, catalogue: CatalogueTables | None = None, **options: Any) -> Any:
    """Publish a model with a catalogue, by default an empty one, into folders of ``out``."""
    write_catalogue(out / "catalogue", catalogue or CatalogueTables(no_items()))
    return run(model, out, **options)


def run(model: Path, out: Path, **options: Any) -> Any:
    """Run the step with the catalogue in ``out``."""
    folders = {part: out / part for part in PARTS}
    return publish_step(model=model, catalogue=out / "catalogue", **folders, **options)


def rows(folder: Path) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in pq.read_table(folder).to_pylist()]


def datapoints(out: Path) -> list[dict[str, Any]]:
    text = (out / "embeddings" / "vector_search" / "items.json").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_users_get_their_best_unseen_items_by_their_own_ids(model: Path, tmp_path: Path) -> None:
    metadata = publish(model, tmp_path, top_k=2)
    assert rows(tmp_path / "recommendations") == [
        ("ada", 40, 3.0, 1),
        ("ada", 30, 2.0, 2),
        ("bob", 10, 5.0, 1),  # the only item bob has not seen
        ("zoë", 20, 4.0, 1),
        ("zoë", 30, 3.0, 2),
    ]
    assert metadata["recommendations"]["rows"] == 5
    assert metadata["recommendations"]["users"] == 3


def test_items_get_their_nearest_by_cosine(model: Path, tmp_path: Path) -> None:
    publish(model, tmp_path, similar_k=2)
    unit = SCORES.T / np.linalg.norm(SCORES.T, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    nearest = np.argsort(-cosines, axis=1)[:, :2]
    found = rows(tmp_path / "similar_items")
    assert [row[:2] + row[3:] for row in found] == [
        (10 * (item + 1), 10 * (int(other) + 1), rank)
        for item in range(4)
        for rank, other in enumerate(nearest[item], 1)
    ]
    np.testing.assert_allclose(
        [row[2] for row in found], np.take_along_axis(cosines, nearest, 1).ravel(), 1e-6
    )


def test_a_gpu_makes_the_same_lists(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_compiler()
    catalogue = CatalogueTables(ITEMS, blocked=pa.array(["30"]))
    publish(model, tmp_path / "cpu", catalogue, min_score=2.0)
    device = EmulatedDevice()
    give(monkeypatch, device)
    publish(model, tmp_path / "gpu", catalogue, min_score=2.0)
    assert [name for kernels in device.compiled for name in kernels.launched] == ["select_best"] * 2
    for part in PARTS[:2]:
        tables = [pq.read_table(tmp_path / where / part).to_pydict() for where in ("cpu", "gpu")]
        scores = [table.pop("score") for table in tables]
        assert tables[1] == tables[0]
        assert scores[1] == pytest.approx(scores[0])


def test_embeddings_are_the_factors_by_id(model: Path, tmp_path: Path) -> None:
    publish(model, tmp_path)
    users, items = (
        pq.read_table(tmp_path / "embeddings" / f"{side}-00000.parquet") for side in ("users", "items")
    )
    assert users.to_pylist() == [
        {"id": "ada", "embedding": [1, 0, 0]},
        {"id": "bob", "embedding": [0, 1, 0]},
        {"id": "zoë", "embedding": [0, 0, 1]},
    ]
    assert items["id"].to_pylist() == [10, 20, 30, 40]
    assert items["embedding"].to_pylist() == SCORES.T.tolist()


def test_vector_search_gets_the_same_floats_and_the_categories(model: Path, tmp_path: Path) -> None:
    # A third, an integer beyond a float's digits, and numbers with exponents.
    factors = np.array(
        [[1 / 3, 2**24 + 1, -0.0], [1e-45, 1e18, 1], [0.1, -1e-7, 1e15], [4, 5, 6]], np.float32
    )
    dataclasses.replace(Model.load(model), item_factors=factors).save(tmp_path / "other")
    publish(tmp_path / "other", tmp_path, CatalogueTables(ITEMS))
    written = datapoints(tmp_path)
    assert [point.pop("id") for point in written] == ["10", "20", "30", "40"]
    np.testing.assert_array_equal(
        np.array([point.pop("embedding") for point in written], np.float32), factors
    )
    assert written == [
        {"restricts": [{"namespace": "category", "allow": ["red"]}], "crowding_tag": "red"},
        {"restricts": [{"namespace": "category", "allow": ["red"]}], "crowding_tag": "red"},
        {"restricts": [{"namespace": "category", "allow": ['bl"ue\n']}], "crowding_tag": 'bl"ue\n'},
        {},
    ]


def test_the_folder_for_vector_search_holds_nothing_else(model: Path, tmp_path: Path) -> None:
    publish(model, tmp_path)
    assert [path.name for path in (tmp_path / "embeddings" / "vector_search").iterdir()] == ["items.json"]


def test_the_catalogues_rules_hold_in_all_that_is_published(model: Path, tmp_path: Path) -> None:
    catalogue = CatalogueTables(ITEMS, pa.array(["40"]), pa.array(["10", "20", "40", "70"]))
    publish(model, tmp_path, catalogue, top_k=4)
    assert {row[1] for row in rows(tmp_path / "recommendations")} == {10, 20}
    similar = rows(tmp_path / "similar_items")
    assert {row[0] for row in similar} == {10, 20, 30, 40}, "an item that may not be shown has neighbours"
    assert {row[1] for row in similar} == {10, 20}
    assert [point["id"] for point in datapoints(tmp_path)] == ["10", "20"]
    items = pq.read_table(tmp_path / "embeddings" / "items-00000.parquet")
    assert items["id"].to_pylist() == [10, 20, 30, 40]


def test_options_bound_categories_and_scores(model: Path, tmp_path: Path) -> None:
    publish(model, tmp_path, CatalogueTables(ITEMS), top_k=4, max_per_category=1, min_score=1.5)
    assert [row[:2] for row in rows(tmp_path / "recommendations")] == [
        ("ada", 40),
        ("ada", 30),
        ("bob", 10),
        ("zoë", 20),
        ("zoë", 30),
    ]


def test_what_the_model_knows_nothing_about_is_left_out(model: Path, tmp_path: Path) -> None:
    loaded = Model.load(model)
    user_factors, item_factors = loaded.user_factors.copy(), loaded.item_factors.copy()
    user_factors[2], item_factors[1] = 0, 0
    dataclasses.replace(
        loaded,
        user_factors=user_factors,
        item_factors=item_factors,
        seen=Seen(np.array([0, 1, 4, 4]), loaded.seen.indices[:4]),
    ).save(tmp_path / "colder")
    metadata = publish(tmp_path / "colder", tmp_path, top_k=2)
    assert {row[0] for row in rows(tmp_path / "recommendations")} == {"ada", "bob"}
    assert {row[0] for row in rows(tmp_path / "similar_items")} == {10, 30, 40}
    assert metadata["recommendations"]["users"] == metadata["embeddings"]["users"] == 2
    assert metadata["embeddings"]["items"] == 3
    assert [point["id"] for point in datapoints(tmp_path)] == ["10", "30", "40"]


def test_blocks_are_written_in_shards_that_the_manifests_describe(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(model, tmp_path / "one", top_k=2, similar_k=2)
    monkeypatch.setattr(step, "_ROWS_PER_SHARD", 4)
    monkeypatch.setattr(step, "_FLOATS_PER_SHARD", 6)
    monkeypatch.setattr(step, "_FLOATS_AT_ONCE", 6)
    publish(model, tmp_path / "many", top_k=2, similar_k=2)
    shards = {"recommendations": [3, 2], "similar_items": [4, 4], "embeddings": [2, 1, 2, 2]}
    for part in PARTS:
        manifest = json.loads((tmp_path / "many" / part / "_manifest.json").read_text("utf-8"))
        assert [shard["rows"] for shard in manifest["shards"]] == shards[part]
        for shard in manifest["shards"]:
            assert sha256(tmp_path / "many" / part / shard["path"]) == shard["sha256"]
        if part == "embeddings":
            listed = manifest["vector_search"]
            assert sha256(tmp_path / "many" / part / listed["path"]) == listed["sha256"]
            assert datapoints(tmp_path / "many") == datapoints(tmp_path / "one")
        else:
            assert rows(tmp_path / "many" / part) == rows(tmp_path / "one" / part)


def test_nothing_is_published_for_bad_input(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="top_k 0"):
        publish(model, tmp_path, top_k=0)
    with pytest.raises(InputError, match="max_per_category 1: requires the categories"):
        publish(model, tmp_path, max_per_category=1)
    with pytest.raises(InputError, match="no item is left to recommend"):
        publish(model, tmp_path, CatalogueTables(ITEMS, available=pa.array(["99"])))
    factors = model / "item_factors.npy"
    factors.write_bytes(factors.read_bytes()[:-4])
    with pytest.raises(InputError, match="item_factors"):
        publish(model, tmp_path, top_k=2)
    assert not any((tmp_path / part).exists() for part in PARTS)


def test_rules_that_leave_nobody_anything_publish_no_empty_lists(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="recommendations 0: none is left"):
        publish(model, tmp_path, min_score=100.0)
    assert not any((tmp_path / part / "_manifest.json").exists() for part in PARTS)


def test_a_failed_attempt_leaves_no_artifact(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(model, tmp_path, top_k=2)

    def disk_full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(step.pq, "write_table", disk_full)
        with pytest.raises(OSError, match="No space"):
            run(model, tmp_path, top_k=1)
    assert not any((tmp_path / part / "_manifest.json").exists() for part in PARTS)
    assert publish(model, tmp_path, top_k=1)["recommendations"]["rows"] == 3
