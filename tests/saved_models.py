"""SavedModels as TensorFlow Serving sees them: a process with TensorFlow, and nothing of this project."""

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np

from trainer.model import Model

Serve = Callable[..., list[dict[str, Any]]]
"""Takes requests, each a SavedModel's folder, a signature and its inputs, and returns the answers."""

SERVER = """
import importlib.util, json, sys
sys.path.append(sys.argv[1])
import tensorflow as tf

for ours in ("trainer", "components", "pipeline", "numba", "pyarrow"):
    assert importlib.util.find_spec(ours) is None, ours
models = {}
for line in sys.stdin:
    request = json.loads(line)
    folder = request["folder"]
    models[folder] = models.get(folder) or tf.saved_model.load(folder)
    inputs = {name: tf.constant(value, tf.int32 if name == "k" else tf.string)
              for name, value in request["inputs"].items()}
    try:
        answer = models[folder].signatures[request["signature"]](**inputs)
        answer = {"item_ids": [[i.decode() for i in row] for row in answer["item_ids"].numpy()],
                  "scores": answer["scores"].numpy().tolist()}
    except tf.errors.InvalidArgumentError as error:
        answer = {"error": error.message}
    print(json.dumps(answer), flush=True)
"""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Serve]:
    """Run a process that loads SavedModels and answers requests.

    Its packages are TensorFlow and what TensorFlow requires, as links; neither the environment's other
    packages nor its ``.pth`` files, which lead to this project, are there.

    Args:
        folder: empty folder for its packages and its messages.
    """
    packages, errors = folder / "packages", folder / "stderr"
    packages.mkdir()
    for name, place in _tensorflow_alone().items():
        (packages / name).symlink_to(place)
    # -I: no variables, no current folder; -S: no site-packages.
    command = [sys.executable, "-I", "-S", "-c", SERVER, str(packages)]
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, cwd="/", text=True
        ) as process,
    ):
        assert process.stdin
        assert process.stdout
        requests, responses = process.stdin, process.stdout

        def answer(model: Path, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
            request = {"folder": str(model), "signature": name, "inputs": inputs}
            print(json.dumps(request), file=requests, flush=True)
            line = responses.readline()
            assert line, errors.read_text("utf-8")
            response: dict[str, Any] = json.loads(line)
            return response

        yield lambda *requests: [answer(*request) for request in requests]
        requests.close()
    assert process.returncode == 0, errors.read_text("utf-8")


def assert_agrees(answer: dict[str, Any], model: Model, best: tuple[np.ndarray, np.ndarray]) -> None:
    """Check an answer of a SavedModel against what the model itself returns."""
    indices, scores = best
    names = [str(item) for item in model.items.ids.to_pylist()]
    assert answer["item_ids"] == [[names[i] if i >= 0 else "" for i in row] for row in indices]
    np.testing.assert_allclose(answer["scores"], np.where(indices >= 0, scores, 0), rtol=1e-4, atol=1e-5)


def _tensorflow_alone() -> dict[str, Path]:
    """Return what TensorFlow and the packages that it requires put into ``site-packages``, by name."""
    found: dict[str, Path] = {}
    names, left = set(), ["tensorflow"]
    while left:
        name = left.pop()
        if name in names:
            continue
        names.add(name)
        try:
            installed = distribution(name)
        except PackageNotFoundError:  # of another system, or of an extra
            continue
        for file in installed.files or ():
            if file.parts[0] not in ("..", "__pycache__"):
                found[file.parts[0]] = Path(str(installed.locate_file(file.parts[0]))).resolve()
        required = [line for line in installed.requires or () if "extra ==" not in line]
        left += [re.match(r"[\w.-]+", line)[0] for line in required]  # type: ignore[index]
    return found
