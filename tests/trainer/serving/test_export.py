import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from tests.saved_models import Serve, assert_agrees, serving
from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.files import MANIFEST, sha256
from trainer.matrix import InteractionMatrix, Shard
from trainer.model import Model
from trainer.serving.export import export
from trainer.training import fit
from trainer.vocabulary import Vocabulary

USERS, ITEMS = 30, 25
CONFIGS = {
    "implicit": TrainConfig(latent_factors=6, num_iters=3, alpha=0.5, solver="cholesky"),
    "linear": TrainConfig(
        latent_factors=5, num_iters=3, feedback="explicit", unobs_weight=0.01, regularization=0.07,
        regularization_exponent=0.0, solver="cholesky",
    ),
    "log": TrainConfig(
        latent_factors=5, num_iters=3, feedback="explicit", wt_type=1, feature_wt_exp=0.5, solver="cholesky"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


def trained(config: TrainConfig) -> Model:
    """Return a model whose users are integers and whose items are text with letters beyond ASCII."""
    random = np.random.default_rng(3)
    dense = np.where(random.random((USERS, ITEMS)) < 0.3, random.integers(1, 6, (USERS, ITEMS)), 0.0)
    dense[4] = 0
    dense[5] = 1
    matrix = InteractionMatrix.from_scipy(sparse.csr_array(dense))
    users = Vocabulary.of(np.arange(USERS) * 7 - 50)
    items = Vocabulary.of([f"item {number}, ü\tß" for number in range(ITEMS)])
    return fit(matrix, config, users=users, items=items)


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {name: trained(config) for name, config in CONFIGS.items()}


@pytest.fixture(scope="module")
def folders(models: dict[str, Model], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {name: tmp_path_factory.mktemp(name) for name in models}
    for name, folder in folders.items():
        export(models[name], folder)
    return folders


def test_serves_what_the_model_recommends(
    models: dict[str, Model], folders: dict[str, Path], serve: Serve
) -> None:
    everyone = [str(user) for user in models["linear"].users.ids.to_pylist()]
    items = models["linear"].items.ids.to_pylist()
    histories = [[items[3], items[9], items[20]], [items[9], "", "no such item"], [items[9], items[9], ""]]
    shard = Shard(0, np.array([0, 3, 4, 5]), np.array([3, 9, 20, 9, 9], np.int32), np.ones(5, np.float32))
    requests: list[tuple[str, dict[str, Any], Callable[[Model], Any]]] = [
        (
            "recommend",
            {"user_ids": everyone, "k": ITEMS + 2},
            lambda model: model.recommend(np.arange(USERS), ITEMS + 2),
        ),
        ("recommend", {"user_ids": everyone[:2], "k": [5, 5]}, lambda model: model.recommend([0, 1], 5)),
        ("serving_default", {"user_ids": everyone[:1], "k": 3}, lambda model: model.recommend([0], 3)),
        ("recommend_for_items", {"item_ids": histories, "k": 8}, lambda model: model.recommend_for(shard, 8)),
        (
            "similar_items",
            {"item_ids": items, "k": ITEMS},
            lambda model: model.similar_items(np.arange(ITEMS), ITEMS),
        ),
    ]
    asked = [(folders[name], signature, inputs) for name in models for signature, inputs, _ in requests]
    answers = iter(serve(*asked))
    for model in models.values():
        for _, _, ask in requests:
            assert_agrees(next(answers), model, ask(model))


def test_what_is_unknown_gets_an_empty_list_and_asking_for_nothing_an_error(
    folders: dict[str, Path], serve: Serve
) -> None:
    folder = folders["implicit"]
    *answers, refused = serve(
        (folder, "recommend", {"user_ids": ["no such user", ""], "k": 2}),
        (folder, "recommend_for_items", {"item_ids": [["no such item", ""], ["", ""]], "k": 2}),
        (folder, "similar_items", {"item_ids": ["no such item", ""], "k": 2}),
        (folder, "recommend", {"user_ids": ["-50"], "k": 0}),
    )
    nothing = {"item_ids": [["", ""], ["", ""]], "scores": [[0.0, 0.0], [0.0, 0.0]]}
    assert answers == [nothing] * 3
    assert "k must be at least 1" in refused["error"]


def test_the_manifest_has_the_checksum_of_every_file(folders: dict[str, Path]) -> None:
    folder = folders["linear"]
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {*manifest["sha256"], "_manifest.json"}
    assert all(sha256(folder / name) == digest for name, digest in manifest["sha256"].items())
    assert (manifest["users"], manifest["items"], manifest["latent_factors"]) == (USERS, ITEMS, 5)


def small_model(items: list[str]) -> Model:
    config = TrainConfig(latent_factors=2, num_iters=1, solver="cholesky")
    matrix = InteractionMatrix.from_scipy(sparse.csr_array(np.eye(len(items))))
    return fit(matrix, config, items=Vocabulary.of(items))


@pytest.mark.parametrize("item", ["two\nlines", "carriage\rreturn"])
def test_an_id_with_a_line_break_is_refused_and_the_folder_unchanged(tmp_path: Path, item: str) -> None:
    export(small_model(["a", "b"]), tmp_path)
    before = (tmp_path / MANIFEST).read_bytes()
    with pytest.raises(InputError, match=r"items .*: has a line break"):
        export(small_model(["a", item]), tmp_path)
    assert (tmp_path / MANIFEST).read_bytes() == before


def test_a_second_export_replaces_the_first(tmp_path: Path, serve: Serve) -> None:
    export(small_model(["a", "b", "c"]), tmp_path)
    export(small_model(["x", "y"]), tmp_path)
    (answer,) = serve((tmp_path, "similar_items", {"item_ids": ["x", "a"], "k": 1}))
    assert answer["item_ids"] == [["y"], [""]]
