"""Hostile manifests: an artifact is opened as it was written, or refused in one line."""

import contextlib
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from components.artifacts.interactions import SCHEMA as INTERACTIONS
from tests.components.steps import prepare
from trainer.checkpoint import Checkpoints
from trainer.config import TrainConfig
from trainer.errors import WalsError
from trainer.files import MANIFEST, begin_artifact, finish_artifact, sha256
from trainer.matrix import InteractionMatrix
from trainer.model import Model
from trainer.training import fit
from trainer.vocabulary import Vocabulary, load_vocabularies, save_vocabularies

pytestmark = pytest.mark.attack

CONFIG = TrainConfig(latent_factors=2, num_iters=2)
ENTRIES = sparse.csr_array(np.array([[1, 0, 2], [0, 3, 0], [4, 0, 5], [0, 6, 7]], np.float32))

HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from(["", "../../etc/passwd", "/etc/passwd", "part-00001.parquet", "0" * 64, "\x1b]0;x\x07"]),
    st.lists(st.none(), max_size=2),
    st.dictionaries(st.sampled_from(["first", "path", "sha256"]), st.integers(-3, 3), max_size=2),
)


def matrix(folder: Path) -> Callable[[], object]:
    InteractionMatrix.from_scipy(ENTRIES).save(folder)
    return lambda: InteractionMatrix.open(folder).to_scipy().toarray().tolist()


def model(folder: Path) -> Callable[[], object]:
    fit(InteractionMatrix.from_scipy(ENTRIES), CONFIG).save(folder)

    def use() -> object:
        opened = Model.load(folder)
        return opened.recommend([0, 1, 2, 3], 2)[0].tolist(), opened.item_counts.tolist()

    return use


def vocabulary(folder: Path) -> Callable[[], object]:
    save_vocabularies(folder, Vocabulary.of(["a", "b"]), Vocabulary.of([1, 2, 3]))
    return lambda: [side.ids.to_pylist() for side in load_vocabularies(folder)]


def checkpoint(folder: Path) -> Callable[[], object]:
    known = InteractionMatrix.from_scipy(ENTRIES)
    fit(known, CONFIG, checkpoints=Checkpoints(folder.parent, 2))
    (folder.parent / "iteration-00002").rename(folder)

    def use() -> object:
        folder.rename(folder.parent / "iteration-00002")
        try:
            return fit(known, CONFIG, checkpoints=Checkpoints(folder.parent, 9)).item_factors.tolist()
        finally:
            (folder.parent / "iteration-00002").rename(folder)

    return use


def interactions(folder: Path) -> Callable[[], object]:
    begin_artifact(folder)
    rows = {"user_id": [1, 1, 2, 2, 3], "item_id": [1, 2, 1, 3, 2], "rating": np.ones(5, np.float32)}
    pq.write_table(pa.table(rows), folder / "part-00000.parquet")
    shard = {"path": "part-00000.parquet", "rows": 5, "sha256": sha256(folder / "part-00000.parquet")}
    columns = [{"name": "user_id", "type": "int64"}, {"name": "item_id", "type": "int64"}]
    content = {"rows": 5, "columns": columns, "rows_without_time": 0, "shards": [shard]}
    finish_artifact(folder, INTERACTIONS, content)

    def use() -> object:
        names = ("training", "holdout", "vocabulary", "profile")
        outputs = {name: folder.parent / name for name in names}
        prepare(interactions=folder, profile_report=folder.parent / "r.html", holdout_fraction=0.3, **outputs)
        return InteractionMatrix.open(outputs["training"]).to_scipy().toarray().tolist()

    return use


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in a JSON document."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in inside for place in places(part, (*path, key)))]


def changed(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    """Return a document with another value at a place; the place is deleted if the value is `places`."""
    if not place:
        return value
    made = copy.deepcopy(content)
    holder = made
    for key in place[:-1]:
        holder = holder[key]
    if value is places:
        del holder[place[-1]]
    else:
        holder[place[-1]] = value
    return made


@pytest.mark.parametrize("build", [matrix, model, vocabulary, checkpoint, interactions])
def test_a_changed_manifest_changes_nothing_or_is_refused(
    build: Callable[[Path], Callable[[], object]], tmp_path: Path
) -> None:
    folder = tmp_path / "artifact"
    use = build(folder)
    before = use()
    content = json.loads((folder / MANIFEST).read_text("utf-8"))
    examples = 6 if build is interactions else 30

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(place=st.sampled_from(places(content)[1:]), value=st.one_of(HOSTILE, st.just(places)))
    def attack(place: tuple[Any, ...], value: Any) -> None:
        (folder / MANIFEST).write_text(json.dumps(changed(content, place, value)), "utf-8")
        with contextlib.suppress(WalsError):
            assert use() == before

    attack()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "[" * 100_000, '{"schema": "wals.matrix", "schema_version": 1.0}', "\xff"],
)
def test_what_is_no_manifest_is_refused(text: str, tmp_path: Path) -> None:
    use = matrix(tmp_path / "artifact")
    (tmp_path / "artifact" / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(WalsError, match=r"wals\.matrix"):
        use()


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("seen.indices.npy", np.array([0, 2, 1, 0, 2, 1, 99], np.int32)),
        ("seen.indices.npy", np.array([0, 2, 1, 0, 2, 1, -1], np.int32)),
        ("seen.indptr.npy", np.array([0, 2, 3, 5, 8], np.int64)),
        ("seen.indptr.npy", np.array([0, 9, 3, 5, 7], np.int64)),
        ("seen.indptr.npy", np.array([0, 7], np.int64)),
        ("item_factors.npy", np.zeros((3, 2), np.float64)),
    ],
)
def test_arrays_that_kernels_would_run_away_with_are_refused(
    name: str, array: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    use = model(tmp_path / "artifact")
    np.save(tmp_path / "artifact" / name, array)
    content = json.loads((tmp_path / "artifact" / MANIFEST).read_text("utf-8"))
    content["sha256"][name] = sha256(tmp_path / "artifact" / name)
    (tmp_path / "artifact" / MANIFEST).write_text(json.dumps(content), "utf-8")
    with pytest.raises(WalsError, match="train the model again"):
        use()
