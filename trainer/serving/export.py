"""Export of a model to a TensorFlow SavedModel that serves by the original ids, without this package.

As an artifact (schema ``wals.saved_model`` v1) it is a folder that TensorFlow Serving loads directly:

    saved_model.pb          the signatures of `trainer.serving.module`
    variables/              factors, ids of the items, and each user's training items
    assets/users.txt        one id per line, in the order of the factors
    assets/items.txt        likewise
    _manifest.json          counts, and the SHA-256 of each file; servers ignore it
"""

from pathlib import Path
from typing import Any

from trainer.files import Schema, begin_artifact, finish_artifact, sha256
from trainer.model import Model
from trainer.scratch import scratch_folder
from trainer.storage import copy_file

SCHEMA = Schema("wals.saved_model", 1)

_GRAPH = "saved_model.pb"


def export(model: Model, folder: Path) -> dict[str, Any]:
    """Write a model as a SavedModel and return its manifest.

    The signatures and their limits are those of `trainer.serving.module.ServingModule`. Exporting needs
    memory for a second copy of the factors, and room for a third in the temporary folder.

    Args:
        model: model to serve.
        folder: folder to write. It becomes a SavedModel only at the end, as the graph is written last.

    Raises:
        InputError: TensorFlow is not installed, the folder cannot be written to, or an id has a line break.
    """
    from trainer.serving.module import ServingModule

    with scratch_folder() as scratch:
        assets, complete = scratch / "assets", scratch / "complete"
        assets.mkdir()
        ServingModule(model, assets).save(complete)
        begin_artifact(folder)
        (folder / _GRAPH).unlink(missing_ok=True)
        files = sorted(path.relative_to(complete) for path in complete.rglob("*") if path.is_file())
        for name in sorted(files, key=lambda name: name == Path(_GRAPH)):
            copy_file(complete / name, folder / name)
        digests = {name.as_posix(): sha256(complete / name) for name in files}
    content = {
        "users": len(model.users),
        "items": len(model.items),
        "latent_factors": model.config.latent_factors,
        "sha256": digests,
    }
    finish_artifact(folder, SCHEMA, content)
    return content
