"""Output of the stand-alone training job; docs/trainer-task.md describes its files."""

import argparse
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from trainer import extras
from trainer.arrays import save_array
from trainer.files import Schema, write_json
from trainer.job.flags import checkpoint_folder, output_of
from trainer.job.reading import Interactions
from trainer.metrics import rmse
from trainer.model import Model
from trainer.splitting import Split
from trainer.storage import is_remote
from trainer.tensorboard import Scalars, folder_of_vertex
from trainer.vocabulary import Vocabulary

METRICS_FILE = "metrics.json"
"""Written last: once it exists, a job's output is complete."""

LOGS_FOLDER = "logs"
"""Folder of the training's progress, for TensorBoard."""

METRICS_SCHEMA = Schema("wals.job_metrics", 1)


def metrics_of(model: Model, split: Split) -> dict[str, Any]:
    """Return the content of the metrics file."""
    return {
        "schema": METRICS_SCHEMA.name,
        "schema_version": METRICS_SCHEMA.version,
        "train_rmse": _rmse(model, split.train),
        "test_rmse": _rmse(model, split.test) if split.test.nnz else None,
        "objective": [iteration.objective for iteration in model.history],
        "iteration_seconds": [iteration.seconds for iteration in model.history],
        "users": len(model.users),
        "items": len(model.items),
        "train_entries": split.train.nnz,
        "test_entries": split.test.nnz,
        "config": model.config.model_dump(),
    }


def write_output(
    folder: Path, model: Model, data: Interactions, metrics: dict[str, Any], *, with_json: bool
) -> None:
    """Write the output of a job to an empty folder.

    Args:
        folder: folder to write to.
        model: the trained model.
        data: all interactions, trained and held out.
        metrics: result of `metrics_of`.
        with_json: whether to write JSON copies of the arrays, and every user's items.
    """
    sides = {
        "user": _ids(model.users),
        "item": _ids(model.items),
        "row": model.user_factors,
        "col": model.item_factors,
    }
    files = folder / "model"
    files.mkdir()
    for name, array in sides.items():
        save_array(files / f"{name}.npy", array)
        if with_json:
            _write_array(files / f"{name}.json", (element.tolist() for element in array))
    if with_json:
        _write_array(files / "user_item_w.json", _histories(data))
    model.save(folder / "wals_model")
    if extras.tensorflow_is_installed():
        from trainer.serving.export import export

        export(model, folder / "saved_model")
    write_json(folder / METRICS_FILE, metrics)


def scalars_of(given: argparse.Namespace, scratch: Path) -> Scalars:
    """Return the writer of the training's progress.

    A local output shows the progress during training. So does the folder that Vertex AI names, which is that
    of the output; otherwise, for a remote output, it is written to the scratch folder and delivered with the
    rest. The progress of an earlier job is removed, unless this job resumes from its
    checkpoint.

    Args:
        given: the parsed flags.
        scratch: local folder.
    """
    output = output_of(given)
    if is_remote(output):
        return Scalars(folder_of_vertex() or scratch / LOGS_FOLDER)
    if not checkpoint_folder(given).exists():
        shutil.rmtree(Path(output) / LOGS_FOLDER, ignore_errors=True)
    return Scalars(Path(output) / LOGS_FOLDER)


def _rmse(model: Model, entries: sparse.csr_array[np.float32]) -> float:
    """Return the root mean squared error of the predicted targets."""
    users = np.repeat(np.arange(entries.shape[0]), np.diff(entries.indptr))
    targets = entries.data > 0 if model.config.feedback == "implicit" else entries.data
    return rmse(targets.astype(np.float32), model.predict(users, entries.indices))


def _ids(vocabulary: Vocabulary) -> NDArray[Any]:
    """Return ids as int64 or fixed-width text, which NumPy saves without pickle."""
    return np.array(vocabulary.ids.to_pylist())


def _histories(data: Interactions) -> Iterable[dict[str, Any]]:
    items = data.items.ids.to_pylist()
    indptr, indices = data.matrix.indptr, data.matrix.indices
    for number, user in enumerate(data.users.ids.to_pylist()):
        yield {"userId": user, "items": [items[i] for i in indices[indptr[number] : indptr[number + 1]]]}


def _write_array(path: Path, elements: Iterable[Any]) -> None:
    """Write a JSON array one element at a time."""
    with path.open("w", encoding="utf-8") as file:
        separator = "["
        for element in elements:
            file.write(separator + json.dumps(element, ensure_ascii=False))
            separator = ",\n"
        file.write("]\n")
