"""The runs on this machine: a folder each, with a record of what ran and how it ended.

``run.json`` (schema ``wals.run`` v1) is written when a run starts, and again whenever a step starts or ends.
``runs/latest`` is a link to the newest run whose results are complete.
"""

import contextlib
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pydantic

from pipeline.local import step_logs
from pipeline.local.outputs import FINISHED, PAGES, StepOutputs, read_outputs
from pipeline.platforms.backend import LogLine, Run, Step, no_report
from trainer.errors import CombinedInputError, InputError, translated
from trainer.files import held, is_held, make_writable, write_json

if TYPE_CHECKING:
    from pipeline.local.runner import StepEvent

logger = logging.getLogger(__name__)

RUNS = Path("runs")
"""Folder of the runs, unless they are given another."""

LATEST = "latest"
_COMPARED = 50
RECORD = "run.json"
STEPS = "steps"
EARLIER = ".earlier"
"""Folder, in that of a run, of the run that it replaces."""

_SCHEMA = "wals.run"
_VERSION = 1

State = Literal["running", "succeeded", "failed", "cancelled"]


class _StepRecord(pydantic.BaseModel):
    name: str
    state: State
    started: datetime
    ended: datetime | None = None


class _RunRecord(pydantic.BaseModel):
    schema_name: Literal["wals.run"] = pydantic.Field(alias="schema")
    schema_version: Literal[1]
    pipeline: str
    state: State
    created: datetime
    ended: datetime | None = None
    error: str = ""
    parameters: dict[str, Any]
    steps: tuple[_StepRecord, ...] = ()


@contextlib.contextmanager
def recorded(
    folder: Path,
    pipeline: str,
    parameters: Mapping[str, Any],
    *,
    resume: bool = False,
    replace: bool = False,
) -> "Iterator[Callable[[StepEvent], None]]":
    """Keep the record of a run while it runs in the block; yield the function that takes its events.

    A run that replaces an earlier one keeps that in `EARLIER` until it has succeeded.

    Args:
        folder: folder of the run; created if missing.
        pipeline: name of the pipeline.
        parameters: values of its parameters that are given.
        resume: whether to finish the run that is there.
        replace: whether to replace the run that is there.

    Raises:
        InputError: the folder cannot be written, another run is writing it, there is a run in it but neither
            ``resume`` nor ``replace`` is set, or what is there cannot be resumed with these parameters.
    """
    make_writable(folder)
    with held(folder):
        before = _to_resume(folder, pipeline, parameters) if resume else None
        if not resume and _has_run(folder):
            if not replace:
                raise InputError(
                    "output folder",
                    str(folder),
                    "has an earlier run",
                    "give another, --resume to finish that run, or --force to replace it",
                )
            _set_aside(folder)
        recorder = _Recorder(folder, pipeline, parameters, before)
        try:
            yield recorder.note
        except KeyboardInterrupt:
            recorder.end("cancelled")
            raise
        except BaseException as error:
            recorder.end("failed", str(error) or type(error).__name__)
            if (folder / EARLIER).exists():
                logger.warning("the earlier run is kept in %s until this one succeeds", folder / EARLIER)
            raise
        recorder.end("succeeded")
        shutil.rmtree(folder / EARLIER, ignore_errors=True)


def _has_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in (RECORD, STEPS))


def _to_resume(folder: Path, pipeline: str, parameters: Mapping[str, Any]) -> _RunRecord:
    """Return the record of a run that can be resumed with some parameters."""

    def refused(problem: str, remedy: str) -> InputError:
        return InputError("output folder", str(folder), problem, remedy)

    if not (folder / RECORD).is_file():
        raise refused("has no run to resume", "give the folder of one, or omit --resume")
    record = _read_record(folder)
    if record.pipeline != pipeline:
        raise refused(f"has a run of {record.pipeline}, not of {pipeline}", "give another folder")
    if record.state == "succeeded":
        raise refused("has a run that has succeeded", "omit --resume, and give another folder")
    # As they are read from JSON.
    given = json.loads(json.dumps(dict(parameters)))
    if other := [
        InputError(name, given.get(name), f"was {record.parameters.get(name)!r} in the run", "give the same")
        for name in sorted({*given, *record.parameters})
        if given.get(name) != record.parameters.get(name)
    ]:
        raise CombinedInputError.of(other)
    return record


def _set_aside(folder: Path) -> None:
    """Move the run in a folder to `EARLIER`; if that already has one, this one came to nothing, and goes."""
    earlier = folder / EARLIER
    names = (RECORD, STEPS, "run.log", step_logs.FOLDER, FINISHED, *PAGES.values())
    links = (path for path in folder.iterdir() if path.is_symlink() and STEPS in path.readlink().parts)
    paths = [*(folder / name for name in names), *links, *folder.glob("wals-*.yaml")]
    remains = earlier.exists()
    earlier.mkdir(exist_ok=True)
    for path in (path for path in paths if path.is_symlink() or path.exists()):
        if not remains:
            path.rename(earlier / path.name)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


class _Recorder:
    """Writes the record of a run; its methods may be called from several threads."""

    def __init__(
        self, folder: Path, pipeline: str, parameters: Mapping[str, Any], before: _RunRecord | None
    ) -> None:
        self._path = folder / RECORD
        self._lock = threading.Lock()
        self._steps: list[dict[str, Any]] = []
        done = before.steps if before else ()
        self._before = [step.model_dump(mode="json") for step in done if step.state == "succeeded"]
        self._content: dict[str, Any] = {
            "schema": _SCHEMA,
            "schema_version": _VERSION,
            "pipeline": pipeline,
            "state": "running",
            "created": before.created.isoformat() if before else _now(),
            "parameters": dict(parameters),
        }
        self._write()

    def note(self, event: "StepEvent") -> None:
        """Record that a step has started or ended."""
        with self._lock:
            if event.kind == "reused":
                # The runs of a step in a loop have one name.
                at = next(n for n, step in enumerate(self._before) if step["name"] == event.step)
                self._steps.append(self._before.pop(at))
            elif event.kind == "started":
                self._steps.append({"name": event.step, "state": "running", "started": _now()})
            elif event.kind != "logged":
                # The runs of a step in a loop have one name, and any of them may have ended.
                running = [s for s in self._steps if (s["name"], s["state"]) == (event.step, "running")]
                for step in running[:1]:
                    step.update(state=event.kind, ended=_now())
            if event.kind != "logged":
                self._write()

    def end(self, state: State, error: str = "") -> None:
        """Record that the run has ended, and with it the steps that were running."""
        with self._lock:
            for step in self._steps:
                if step["state"] == "running":
                    step.update(state=state, ended=_now())
            self._content.update(state=state, error=error, ended=_now())
            self._write()

    def _write(self) -> None:
        write_json(self._path, {**self._content, "steps": self._steps})


@dataclass(frozen=True)
class LocalRuns:
    """The runs on this machine, as those of a platform.

    Attributes:
        folder: folder of the runs.
    """

    folder: Path = RUNS

    def runs(self, limit: int) -> list[Run]:
        """Return the newest runs, newest first; folders without a record that can be read are left out."""
        found = []
        for record in self.folder.glob(f"*/{RECORD}"):
            if record.parent.is_symlink():
                continue
            try:
                found.append(_run(record.parent.name, record.parent))
            except InputError as error:
                logger.warning("%s", error)
        return sorted(found, key=lambda run: run.created, reverse=True)[:limit]

    def get(self, run_id: str) -> Run:
        """Return a run with its steps, metrics and holdout.

        Args:
            run_id: name of its folder in `folder`, which may be ``latest``, or the path of another folder.

        Raises:
            InputError: there is no such run, or its record cannot be read.
        """
        folder = self.place(run_id)
        name = folder.name if folder.parent == self.folder else run_id
        return _with_metrics(_run(name, folder), folder)

    def earlier(self, run: Run) -> Run | None:
        """Return the newest run before one that was evaluated on the same holdout; None if there is none."""
        for other in self.runs(_COMPARED):
            # A damaged artifact of an earlier run is of no concern here.
            with contextlib.suppress(InputError):
                found = self.get(other.id) if other.created < run.created else None
                if found and found.holdout == run.holdout:
                    return found
        return None

    def report(self, run_id: str) -> bytes:
        """Return the HTML report of a run's evaluation."""
        evaluated = _evaluated(self.place(run_id))
        if evaluated is None or not evaluated.path("report").is_file():
            raise no_report(run_id)
        return evaluated.path("report").read_bytes()

    def logs(self, run_id: str, step: str) -> Iterator[LogLine]:
        """Yield the output of a run's steps, or of one step if ``step`` is not empty; see `whole_logs`."""
        return step_logs.read_lines(self.place(run_id), run_id, step)

    def whole_logs(self, run_id: str) -> Path:
        """Return the folder of the same output with the lines of Kubeflow Pipelines, a file for each step."""
        return self.place(run_id) / step_logs.FOLDER

    def place(self, run_id: str) -> Path:
        """Return the folder of a run; ``latest`` is the one that it links to.

        Raises:
            InputError: there is no such run.
        """
        for folder in (self.folder / run_id, Path(run_id)):
            if (folder / RECORD).is_file():
                return folder.with_name(folder.readlink().name) if folder.is_symlink() else folder
        raise InputError(
            "run", run_id, "is not a run on this machine", "give one that `wals runs` lists, or its folder"
        )


def _run(run_id: str, folder: Path) -> Run:
    """Return what the record of a run says."""
    record = _read_record(folder)
    state, error = record.state, record.error
    if state == "running" and not is_held(folder):
        state, error = "failed", "its process was killed"
    steps = [
        Step(step.name, state if step.state == "running" else step.state, step.started, step.ended)
        for step in record.steps
    ]
    return Run(
        id=run_id,
        name=record.pipeline,
        state=state,
        created=record.created,
        ended=record.ended,
        link=str(folder),
        parameters=record.parameters,
        error=error,
        steps=steps,
    )


def _read_record(folder: Path) -> _RunRecord:
    """Return the record of a run."""
    path = folder / RECORD

    def unreadable(_: Exception) -> InputError:
        return InputError("run", str(path), "is not a readable record of a run", "delete the run's folder")

    with translated(((OSError, ValueError, RecursionError), unreadable)):
        return _RunRecord.model_validate_json(path.read_bytes())


def _with_metrics(run: Run, folder: Path) -> Run:
    """Return a run with the metrics of its evaluation, if there was one, and the checksum of its holdout."""
    evaluated = _evaluated(folder)
    if evaluated is None:
        return run
    # Slow to import, and a list of runs does not need them.
    from components.artifacts.evaluation import SCHEMA, Evaluation
    from trainer.files import read_manifest

    evaluation = read_manifest(evaluated.path("evaluation"), SCHEMA, Evaluation)
    names = evaluation.choice.parameters if evaluation.choice else ()
    chosen = {name: value for name, value in evaluation.shown_parameters.items() if name in names}
    return replace(
        run,
        parameters={**run.parameters, **chosen},
        metrics=evaluated.metadata.get("metrics", {}),
        holdout=evaluation.holdout.checksum,
    )


def _evaluated(folder: Path) -> StepOutputs | None:
    """Return the outputs of a run's evaluation; None if there are none."""
    ran = sorted((folder / STEPS).glob("*"), key=lambda path: path.stat().st_mtime)
    return read_outputs(ran[-1]).get("evaluate") if ran else None


def link_latest(folder: Path) -> None:
    """Let ``runs/latest`` be a run whose results are complete, if its folder is there."""
    if folder.absolute().parent != RUNS.absolute():
        return
    temporary = folder.with_name(f".{LATEST}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder.name)
    temporary.replace(folder.with_name(LATEST))


def _now() -> str:
    return datetime.now(UTC).isoformat()
