"""The refit: the evaluated model and everything it was judged on in, the model that is delivered out."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from components.artifacts.holdout import HISTORY, SCHEMA, TARGETS
from components.train.options import RefitOptions, TrainStepOptions
from components.train.refit import refit
from components.train.step import train
from tests.saved_models import assert_agrees, serving
from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.files import MANIFEST, finish_artifact
from trainer.matrix import InteractionMatrix, Shard
from trainer.model import Model
from trainer.training import fit
from trainer.vocabulary import Vocabulary, save_vocabularies

USERS, ITEMS = 30, 12
CONFIGS = {
    "implicit": TrainConfig(latent_factors=5, num_iters=6, alpha=0.3),
    "linear": TrainConfig(latent_factors=5, num_iters=6, feedback="explicit", regularization=0.05),
    "log": TrainConfig(latent_factors=5, num_iters=6, feedback="explicit", wt_type=1, solver="cholesky"),
}
EVERYTHING = sparse.csr_array(
    np.random.default_rng(5).integers(1, 6, (USERS, ITEMS))
    * (np.random.default_rng(6).random((USERS, ITEMS)) < 0.5)
)


def parts_of(split: str) -> list[np.ndarray]:
    """Return the training, targets and, with split ``users``, history of `EVERYTHING`."""
    random = np.random.default_rng(7)
    dense = EVERYTHING.toarray()
    if split != "users":
        targets = random.random(dense.shape) < 0.2
        return [np.where(targets, 0, dense), np.where(targets, dense, 0)]
    held_out = np.arange(USERS)[:, None] % 4 == 1
    targets = held_out & (random.random(dense.shape) < 0.3)
    return [np.where(chosen, dense, 0) for chosen in (~held_out, targets, held_out & ~targets)]


def write_run(folder: Path, config: TrainConfig | TrainStepOptions, split: str = "random") -> dict[str, Path]:
    """Write the artifacts of a run up to its evaluation, and return them as inputs of the refit."""
    names = {name: folder / name for name in ("judged", "training", "holdout", "vocabulary")}
    training, *held_out = parts_of(split)
    InteractionMatrix.from_scipy(sparse.csr_array(training)).save(names["training"])
    for part, dense in zip((TARGETS, HISTORY), held_out, strict=False):
        InteractionMatrix.from_scipy(sparse.csr_array(dense)).save(names["holdout"] / part)
    finish_artifact(names["holdout"], SCHEMA, {"split": split})
    save_vocabularies(
        names["vocabulary"],
        Vocabulary.of(range(100, 100 + USERS)),
        Vocabulary.of([f"item {i:02}" for i in range(ITEMS)]),
    )
    options = config if isinstance(config, TrainStepOptions) else TrainStepOptions(**config.model_dump())
    train(options, matrix=names["training"], vocabulary=names["vocabulary"], model=names["judged"])
    return names


def refitted(inputs: dict[str, Path], folder: Path, **options: object) -> Model:
    refit(RefitOptions(**options), **inputs, model=folder / "model", saved_model=folder / "saved_model")
    return Model.load(folder / "model")


@pytest.mark.parametrize("split", ["random", "users"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_it_continues_with_everything_from_the_judged_factors(
    config: TrainConfig, split: str, tmp_path: Path
) -> None:
    inputs = write_run(tmp_path, config, split)
    model = refitted(inputs, tmp_path, refit_iters=2)
    judged = Model.load(inputs["judged"])
    expected = fit(
        InteractionMatrix.from_scipy(EVERYTHING),
        config.replace(num_iters=2),
        users=judged.users,
        items=judged.items,
        warm_start=judged,
    )
    assert model.config == expected.config
    assert [iteration.objective for iteration in model.history] == [
        iteration.objective for iteration in expected.history
    ]
    np.testing.assert_array_equal(model.user_factors, expected.user_factors)
    np.testing.assert_array_equal(model.item_factors, expected.item_factors)
    np.testing.assert_array_equal(model.seen.indptr, EVERYTHING.indptr)
    np.testing.assert_array_equal(model.seen.indices, EVERYTHING.indices)


def test_nobody_who_was_held_out_is_left_without_recommendations(tmp_path: Path) -> None:
    inputs = write_run(tmp_path, CONFIGS["implicit"], "users")
    held_out = np.arange(1, USERS, 4)
    assert not Model.load(inputs["judged"]).user_factors[held_out].any()
    model = refitted(inputs, tmp_path)
    items, scores = model.recommend(held_out, 3)
    assert (items >= 0).all()
    assert (scores[:, 0] > 0).all()
    for user, best in zip(held_out, items, strict=True):
        assert not EVERYTHING.toarray()[user, best].any()


def test_the_values_that_were_chosen_for_the_judged_model_are_kept(tmp_path: Path) -> None:
    inputs = write_run(tmp_path, TrainStepOptions(num_iters=4))
    judged = Model.load(tmp_path / "judged")
    assert judged.choice
    assert judged.choice.score
    options = RefitOptions(refit_iters=1)
    metadata = refit(options, **inputs, model=tmp_path / "model", saved_model=tmp_path / "saved_model")
    delivered = Model.load(tmp_path / "model")
    assert delivered.config == judged.config.replace(num_iters=1)
    assert delivered.choice == judged.choice
    assert metadata["model"]["auto"] == "latent_factors, regularization, unobs_weight, alpha"
    assert metadata["model"]["regularization"] == judged.config.regularization


def test_the_metadata_are_those_of_a_trained_model(tmp_path: Path) -> None:
    inputs = write_run(tmp_path, CONFIGS["implicit"])
    options = RefitOptions(refit_iters=3)
    metadata = refit(options, **inputs, model=tmp_path / "model", saved_model=tmp_path / "saved_model")
    assert metadata["model"].keys() == {
        *("users", "items", "entries", "iterations", "objective"),
        *("latent_factors", "regularization", "unobs_weight", "alpha"),
        *("checksum", "schema_version"),
    }
    assert metadata["model"]["entries"] == EVERYTHING.nnz
    assert metadata["model"]["iterations"] == 3
    assert metadata["saved_model"] == {}
    assert not (tmp_path / "saved_model").exists()


def test_without_iterations_the_judged_model_is_delivered_to_the_byte(tmp_path: Path) -> None:
    inputs = write_run(tmp_path, CONFIGS["implicit"])
    refitted(inputs, tmp_path, refit_iters=0)
    files = {path.name for path in inputs["judged"].iterdir()}
    assert {path.name for path in (tmp_path / "model").iterdir()} == files
    for name in files:
        assert (tmp_path / "model" / name).read_bytes() == (inputs["judged"] / name).read_bytes()


def test_a_run_that_settles_early_keeps_that_rule(tmp_path: Path) -> None:
    inputs = write_run(tmp_path, CONFIGS["implicit"].replace(min_rel_progress=0.5))
    assert len(refitted(inputs, tmp_path, refit_iters=50).history) == 2


def other_vocabulary(folder: Path, inputs: dict[str, Path]) -> None:
    users, items = Vocabulary.of(range(USERS)), Vocabulary.of([f"item {i:02}" for i in range(ITEMS)])
    save_vocabularies(folder, users, items)
    inputs["vocabulary"] = folder


def other_training(folder: Path, inputs: dict[str, Path]) -> None:
    # Like a model that was trained outside of a pipeline, which is told by what it has seen.
    dataclasses.replace(Model.load(inputs["judged"]), training=None).save(inputs["judged"])
    InteractionMatrix.from_scipy(EVERYTHING).save(folder)
    inputs["training"] = folder


def other_split(folder: Path, inputs: dict[str, Path]) -> None:
    InteractionMatrix.from_scipy(EVERYTHING[::-1]).save(folder / TARGETS)
    finish_artifact(folder, SCHEMA, {})
    inputs["holdout"] = folder


def other_shape(folder: Path, inputs: dict[str, Path]) -> None:
    InteractionMatrix.from_scipy(EVERYTHING[:-1]).save(folder / TARGETS)
    finish_artifact(folder, SCHEMA, {})
    inputs["holdout"] = folder


def unfinished(folder: Path, inputs: dict[str, Path]) -> None:
    (inputs["holdout"] / MANIFEST).rename(folder / MANIFEST)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_vocabulary, "vocabulary '.*': has other users than the model; give artifacts of one run"),
        (other_training, "training '.*': is not what the model was trained on; give artifacts of one run"),
        (other_split, "matrix row .*: has the entry .* in two of the matrices to merge"),
        (other_shape, f"matrix '{USERS - 1} x {ITEMS}': cannot be merged with one of {USERS} x {ITEMS}"),
        (unfinished, "wals.holdout '.*': has no _manifest.json"),
    ],
)
def test_artifacts_of_different_runs_are_refused(
    change: Callable[[Path, dict[str, Path]], None], message: str, tmp_path: Path
) -> None:
    inputs = write_run(tmp_path, CONFIGS["implicit"])
    (tmp_path / "other").mkdir()
    change(tmp_path / "other", inputs)
    with pytest.raises(InputError, match=message):
        refitted(inputs, tmp_path)
    assert not (tmp_path / "model").exists()


def test_the_saved_model_answers_like_the_delivered_model_with_tensorflow_alone(tmp_path: Path) -> None:
    inputs = write_run(tmp_path, CONFIGS["implicit"])
    options = RefitOptions(export_saved_model=True)
    metadata = refit(options, **inputs, model=tmp_path / "model", saved_model=tmp_path / "saved_model")
    assert (metadata["saved_model"]["users"], metadata["saved_model"]["items"]) == (USERS, ITEMS)
    model = Model.load(tmp_path / "model")
    everyone = [str(user) for user in model.users.ids.to_pylist()]
    items = model.items.ids.to_pylist()
    basket = Shard(0, np.array([0, 2]), np.array([3, 7], np.int32), np.ones(2, np.float32))
    asked = [
        ("recommend", {"user_ids": everyone, "k": ITEMS}, model.recommend(np.arange(USERS), ITEMS)),
        ("similar_items", {"item_ids": items, "k": 4}, model.similar_items(np.arange(ITEMS), 4)),
        (
            "recommend_for_items",
            {"item_ids": [[items[3], items[7]]], "k": 5},
            model.recommend_for(basket, 5),
        ),
    ]
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server") as serve:
        answers = serve(*[(tmp_path / "saved_model", name, given) for name, given, _ in asked])
    for answer, (_, _, best) in zip(answers, asked, strict=True):
        assert_agrees(answer, model, best)
