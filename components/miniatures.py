"""Runs of each step in miniature, which call its kernels as real runs do.

``python -m components.miniatures`` runs them all, so that this user's cache has the compiled kernels.
"""

import importlib
import inspect
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.artifacts import holdout, interactions
from trainer import catalogue
from trainer.files import finish_artifact, sha256
from trainer.matrix import InteractionMatrix
from trainer.options import Options
from trainer.scratch import scratch_folder
from trainer.vocabulary import Vocabulary, save_vocabularies

if TYPE_CHECKING:
    from trainer.model import Model

_USERS, _ITEMS = 12, 8
_SOLVERS = ("cg", "ialspp")


def run_miniature(step: str) -> None:
    """Run a step on a few interactions, once for each way in which it calls its kernels.

    Args:
        step: name of the step's folder.
    """
    with scratch_folder() as folder:
        if step in _MINIATURES:
            _MINIATURES[step](folder)
        else:
            importlib.import_module(f"components.{step}.step")


def _prepare(folder: Path) -> None:
    from components.prepare.step import prepare

    for kind in ("int64", "string"):
        _write_interactions(folder / "interactions", kind)
        for split, duplicates in (("random", "mean"), ("users", "sum"), ("last", "last")):
            _call(prepare, folder, split=split, duplicates=duplicates, holdout_fraction=0.3)


def _train(folder: Path) -> None:
    from components.train.refit import refit
    from components.train.step import train
    from trainer.model import Model

    _write_matrices(folder)
    for solver in _SOLVERS:
        _call(train, folder, solver=solver, num_iters=1)
        (folder / "model").rename(folder / "judged")
        _call(refit, folder, refit_iters=1)
        _rank(Model.load(folder / "model"))
        (folder / "judged").rename(folder / f"judged by {solver}")
    _sweep_as_if_large(folder / "matrix")


def _evaluate(folder: Path) -> None:
    from components.evaluate.step import evaluate
    from trainer.model import Model

    _write_model(folder)
    _call(evaluate, folder)
    _rank(Model.load(folder / "model"))


def _publish(folder: Path) -> None:
    from components.publish.step import publish

    _write_model(folder)
    items = [str(item) for item in range(_ITEMS)]
    known = pa.table({"item_id": items, "title": items, "category": items})
    catalogue.write_catalogue(folder / "catalogue", catalogue.CatalogueTables(known))
    for most in (0, 1):
        _call(publish, folder, max_per_category=most)


def _tune(folder: Path) -> None:
    from components.tune import options
    from components.tune.trial import run_trial
    from trainer.config import TrainConfig
    from trainer.model import Model

    _write_model(folder)
    parameters = TrainConfig(latent_factors=4).model_dump(include=set(options.TUNED))
    candidate = {"number": 0, "parameters": parameters, "rungs_before": []}
    trial_options: Any = options.TrialOptions
    for solver in _SOLVERS:
        trial = trial_options(solver=solver, num_iters=1)
        run_trial(trial, matrix=folder / "matrix", candidate=candidate)
    _sweep_as_if_large(folder / "matrix")
    _rank(Model.load(folder / "model"))


_MINIATURES: dict[str, Callable[[Path], None]] = {
    "prepare": _prepare,
    "train": _train,
    "evaluate": _evaluate,
    "publish": _publish,
    "tune": _tune,
}


def _call(step: Callable[..., Any], folder: Path, **values: Any) -> None:
    """Call a step with the given options, and with the artifacts in a folder that its arguments name."""
    first, *artifacts = inspect.signature(step).parameters
    options: type[Options] = get_type_hints(step)[first]
    step(options(**values), **{name: folder / name for name in artifacts})


def _sweep_as_if_large(matrix: Path) -> None:
    """Call the solver's kernels as with more factors than a miniature has."""
    from trainer.config import TrainConfig
    from trainer.solvers.cg import ConjugateGradients
    from trainer.weighting import Problem

    opened = InteractionMatrix.open(matrix)
    problem = Problem.of(TrainConfig(latent_factors=4), opened.row_counts(), opened.column_counts())
    users, items = (np.ones((size, 4), np.float32) for size in (opened.rows, opened.columns))
    ConjugateGradients(1, 1, halves_from=0).sweep(opened.by_row, problem.users, items, users)


def _rank(model: "Model") -> None:
    """Call the kernels of ranking, which a step with a model brings along, without and with rules."""
    from trainer.rules import NO_RULES, Rules

    categories = pa.array(["one"] * _ITEMS)
    for rules in (NO_RULES, Rules.of(model.items, categories=categories, max_per_category=1)):
        model.recommend([0], 1, rules=rules)


def _pairs() -> Iterator[tuple[int, int]]:
    for user in range(_USERS):
        for item in range(_ITEMS):
            if (user + item) % 3:
                yield user, item


def _write_interactions(folder: Path, kind: str) -> None:
    """Write an interactions artifact whose ids have an Arrow type, with a repeated pair."""
    pairs = [*_pairs(), *_pairs()]
    users, items = np.array(pairs).T
    times = np.arange(len(pairs)) * 3_600_000_000
    table = pa.table(
        {
            "user_id": pa.array(users).cast(kind),
            "item_id": pa.array(items).cast(kind),
            "rating": pa.array(np.ones(len(pairs), np.float32)),
            "event_time": pa.array(times).cast(pa.timestamp("us", "UTC")),
        }
    )
    folder.mkdir(exist_ok=True)
    path = folder / interactions.file_name(0)
    pq.write_table(table, path)
    columns = [{"name": field.name, "type": str(field.type)} for field in table.schema]
    shards = [{"path": path.name, "rows": len(table), "sha256": sha256(path)}]
    written = interactions.Written(columns, shards, 0, frozenset())
    finish_artifact(folder, interactions.SCHEMA, written.manifest())


def _write_matrices(folder: Path) -> None:
    """Write what training and evaluation read, but for the model; the last users are held out whole."""
    from scipy import sparse

    parts: dict[str, list[tuple[int, int]]] = {"training": [], "targets": [], "history": []}
    for user, item in _pairs():
        name = "training" if user < _USERS - 2 else "targets" if item % 2 else "history"
        parts[name].append((user, item))
    names = {"targets": f"holdout/{holdout.TARGETS}", "history": f"holdout/{holdout.HISTORY}"}
    for name, pairs in parts.items():
        entries = (np.ones(len(pairs), np.float32), tuple(np.array(pairs).T))
        matrix = InteractionMatrix.from_scipy(sparse.csr_array(entries, shape=(_USERS, _ITEMS)))
        matrix.save(folder / names.get(name, name))
    counts = {f"{name}entries": len(parts[part]) for name, part in (("", "targets"), ("history_", "history"))}
    content = {"split": "users", "seed": 0, "fraction": 0.2, **counts}
    finish_artifact(folder / "holdout", holdout.SCHEMA, content)
    (folder / "matrix").symlink_to(folder / "training")
    ids = Vocabulary.of_range(_USERS), Vocabulary.of_range(_ITEMS)
    save_vocabularies(folder / "vocabulary", *ids)
    (folder / "catalogue").mkdir()
    finish_artifact(folder / "catalogue", catalogue.SCHEMA, {"tables": {}})
    _write_profile(folder / "profile")


def _write_profile(folder: Path) -> None:
    """Write a profile as if each item had one user, which is all that reports need."""
    from components.artifacts.profile import Profile

    Profile(
        columns={},
        rows=_ITEMS,
        interactions=_ITEMS,
        duplicates=0.0,
        users=_ITEMS,
        items=_ITEMS,
        density=1 / _ITEMS,
        ratings={"8": _ITEMS},
        lowest_rating=1.0,
        highest_rating=1.0,
        per_user={"0": _ITEMS},
        per_item={"0": _ITEMS},
        cold_users=1.0,
        earliest="",
        latest="",
    ).save(folder)


def _write_model(folder: Path) -> None:
    """Write what the steps after training read."""
    from trainer.config import TrainConfig
    from trainer.history import Iteration
    from trainer.model import Model, seen_of

    _write_matrices(folder)
    user_factors, item_factors = (np.ones((size, 4), np.float32) for size in (_USERS, _ITEMS))
    users, items = (Vocabulary.of_range(size) for size in (_USERS, _ITEMS))
    seen = seen_of(InteractionMatrix.open(folder / "training").by_row)
    history = (Iteration(1, 1.0, 1.0),)
    config = TrainConfig(latent_factors=4)
    Model(config, user_factors, item_factors, users, items, seen, history).save(folder / "model")


if __name__ == "__main__":
    logging.disable()
    for name in _MINIATURES:
        run_miniature(name)
