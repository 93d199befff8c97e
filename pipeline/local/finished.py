"""The steps that a run on this machine has finished, so that it can be resumed after it was interrupted.

``.finished/KEY.json`` (schema ``wals.finished_step`` v1) in a run's folder stands for a step, and is written
when the step has succeeded. The key is a digest of everything that the step's outputs depend on: its
component, image and inputs, the files that these name, and the version of the code. The entry lists the files
of the outputs with sizes and times, so that a step whose outputs are no longer whole runs again.
"""

import contextlib
import glob
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kfp import dsl
from kfp.dsl import executor
from kfp.local import cache

import components
import trainer
from components.extract.names import ITEM_SOURCES
from pipeline.local.outputs import FINISHED
from trainer.errors import InputError
from trainer.files import Count, Manifest, Schema, make_writable, parse_manifest, write_json

SOURCES = ("source", *ITEM_SOURCES)
"""Parameters that name files which steps read."""

_SCHEMA = Schema("wals.finished_step", 1)
_CODE = ("*.py", "*.sql", "*.html", "*.css")


class _Finished(Manifest):
    step: str
    attempt: str
    outputs: dict[str, Any]
    files: dict[str, tuple[Count, Count]]


class FinishedSteps(cache.LocalCache):  # type: ignore[misc]
    """Keeps and finds the finished steps of a run, as the cache of kfp.local.

    kfp.local asks it only for steps that the compiled pipeline allows to be cached; the others depend on more
    than their inputs, or have effects outside of the run. Its own cache never finds a step with an input
    artifact, and does not know the files of a source.
    """

    def __init__(
        self,
        folder: Path,
        code: str,
        attempt: Callable[[], str],
        on_reused: Callable[[str, str], None],
    ) -> None:
        """Open the finished steps of a run.

        Args:
            folder: folder of the run.
            code: version of the code that the steps run.
            attempt: function that returns the name of the folder in ``steps`` that is written to now.
            on_reused: function that is called with a step that is taken over, and the name of the folder in
                ``steps`` that has its outputs.
        """
        make_writable(folder / FINISHED)
        super().__init__(str(folder / FINISHED))
        self._code, self._attempt, self._on_reused = code, attempt, on_reused
        self._steps: dict[str, str] = {}

    def compute_key(self, component_name: str, *args: Any, **keywords: Any) -> str:
        """See ``LocalCache``."""
        inputs = super().compute_key(component_name, *args, **keywords)
        arguments: Mapping[str, Any] = keywords["arguments"]
        files = [_state(str(arguments[name])) for name in SOURCES if arguments.get(name)]
        key = hashlib.sha256(json.dumps([inputs, self._code, files]).encode()).hexdigest()
        self._steps[key] = component_name.removeprefix("comp-")
        return key

    @staticmethod
    def _serialize_value_for_key(value: Any) -> Any:
        # The place of an artifact says which run of a step wrote it: it changes if that step runs again.
        if isinstance(value, dsl.Artifact):
            return value.uri
        return cache.LocalCache._serialize_value_for_key(value)

    def get(self, key: str) -> dict[str, Any] | None:
        """See ``LocalCache``."""
        path = Path(self._entry_path(key))
        # Whatever is wrong with an entry, the step can run again.
        with contextlib.suppress(OSError, InputError):
            found = parse_manifest(path.read_bytes(), str(path), _SCHEMA, _Finished)
            if _listing([Path(file) for file in found.files]) == found.files:
                self._on_reused(found.step, found.attempt)
                return {name: _restored(stored) for name, stored in found.outputs.items()}
        return None

    def put(self, key: str, outputs: Mapping[str, Any]) -> None:
        """See ``LocalCache``."""
        artifacts = [value for value in outputs.values() if isinstance(value, dsl.Artifact)]
        files = [file for artifact in artifacts for file in _files(Path(artifact.uri))]
        content = {
            "schema": _SCHEMA.name,
            "schema_version": _SCHEMA.version,
            "step": self._steps[key],
            "attempt": self._attempt(),
            "outputs": {name: _stored(value) for name, value in outputs.items()},
            "files": _listing(files),
        }
        write_json(Path(self._entry_path(key)), content)


@contextlib.contextmanager
def kept(finished: FinishedSteps) -> Iterator[None]:
    """Let kfp.local keep the steps that finish in the block, and take over those that are kept already."""
    kfp_function = cache.get_local_cache
    cache.get_local_cache = lambda: finished
    try:
        yield
    finally:
        cache.get_local_cache = kfp_function


def code_here() -> str:
    """Return a digest of the code that steps run as processes of this machine."""
    digest = hashlib.sha256(sys.version.encode())
    for package in (components, trainer):
        (folder,) = map(Path, package.__path__)
        for file in sorted(file for pattern in _CODE for file in folder.rglob(pattern)):
            digest.update(f"{file.relative_to(folder)}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _stored(value: Any) -> dict[str, Any]:
    if not isinstance(value, dsl.Artifact):
        return {"value": value}
    kind = {"schemaTitle": value.schema_title}
    return {"artifact": {"name": value.name, "uri": value.uri, "metadata": value.metadata, "type": kind}}


def _restored(stored: Mapping[str, Any]) -> Any:
    if "artifact" not in stored:
        return stored["value"]
    return executor.create_artifact_instance(stored["artifact"])


def _state(place: str) -> Any:
    """Return what tells whether the files of a source have changed; a remote source stays as it was read."""
    if "://" in place:
        return place
    found = [Path(path) for path in glob.glob(place, recursive=True)]  # noqa: PTH207 - may be absolute
    return [place, _listing([file for path in found for file in _files(path)])]


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def _listing(files: Sequence[Path]) -> dict[str, tuple[int, int]]:
    """Return size and time of each file that exists."""
    found = {}
    for file in sorted(files):
        with contextlib.suppress(OSError):
            status = file.stat()
            found[str(file)] = (status.st_size, status.st_mtime_ns)
    return found
