"""Full disks, too little memory, interrupts, kills, and two jobs at once."""

import contextlib
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from components.evaluate.options import EvaluateOptions
from components.evaluate.step import evaluate
from components.extract.options import ExtractOptions
from components.extract.step import extract
from components.prepare.options import PrepareOptions
from components.prepare.step import prepare
from components.publish.options import PublishOptions
from components.publish.step import publish
from components.runtime import run_step
from components.train.options import RefitOptions, TrainStepOptions
from components.train.refit import refit
from components.train.step import train
from pipeline.local.runs import LocalRuns
from trainer import scratch, task
from trainer.files import MANIFEST, is_held

pytestmark = pytest.mark.attack

ROOT = Path(__file__).parents[2]
WALS = Path(sys.executable).with_name("wals")
SAMPLE = ROOT / "data" / "ml-latest-small" / "ratings.csv"
JOB = (sys.executable, "-m", "trainer.task", "--data-type", "user_ratings", "--train-file", SAMPLE)
SHORT = {"latent_factors": 4, "num_iters": 2}

# Of each step: its options, the artifacts that it reads, and those that it writes.
STEPS: dict[str, tuple[Any, Any, dict[str, Any], dict[str, str], tuple[str, ...]]] = {
    "extract": (extract, ExtractOptions, {}, {}, ("interactions", "catalogue")),
    "prepare": (
        prepare,
        PrepareOptions,
        {},
        {"interactions": "interactions"},
        ("training", "holdout", "vocabulary", "profile", "profile_report"),
    ),
    "train": (train, TrainStepOptions, SHORT, {"matrix": "training", "vocabulary": "vocabulary"}, ("model",)),
    "evaluate": (
        evaluate,
        EvaluateOptions,
        {},
        {name: name for name in ("model", "training", "holdout", "catalogue", "profile")},
        ("evaluation", "report"),
    ),
    "refit": (
        refit,
        RefitOptions,
        {"refit_iters": 1},
        {"judged": "model", **{name: name for name in ("training", "holdout", "vocabulary")}},
        ("model", "saved_model"),
    ),
    "publish": (
        publish,
        PublishOptions,
        {},
        {"model": "model", "catalogue": "catalogue"},
        ("recommendations", "similar_items", "embeddings"),
    ),
}


def run(step: str, inputs: Path, outputs: Path, ratings: Path) -> None:
    function, model, options, read, written = STEPS[step]
    options = {**options, "source": str(ratings)} if step == "extract" else options
    paths = {name: inputs / artifact for name, artifact in read.items()}
    run_step(
        partial(as_artifacts, function), model, {**options, **paths, **{n: outputs / n for n in written}}
    )


def as_artifacts(function: Any, options: Any, **paths: Path) -> Any:
    return function(options, **paths)


@pytest.fixture(autouse=True, scope="module")
def loggers() -> Iterator[None]:
    """Undo what steps do to the loggers, which is for good in their own processes."""
    loggers = [logging.getLogger(name) for name in ("components", "trainer")]
    states = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, states, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, ratings_csv: Path) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    for step in STEPS:
        # The refit's model replaces the one it began with, and is judged no more.
        run(step, folder, folder / "refitted" if step == "refit" else folder, ratings_csv)
    return folder


@contextlib.contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Let writes beyond a size fail, as those to a full disk do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# Standard error is a file too, in which the line has to fit.
@pytest.mark.parametrize("size", [700, 1_500])
@pytest.mark.parametrize("step", STEPS)
def test_a_full_disk_is_one_line_and_leaves_nothing_that_looks_complete(
    step: str,
    size: int,
    finished: Path,
    ratings_csv: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended, no_file_above(size):
        run(step, finished, tmp_path, ratings_csv)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("wals-error")]
    assert ended.value.code == 1
    (line,) = lines
    assert "File too large" in line
    assert not list(tmp_path.rglob("*.tmp"))
    # An artifact in which another file would not fit either.
    complete = {path.parent.name for path in tmp_path.rglob(MANIFEST)}
    assert complete <= {"catalogue", "profile", "targets"}, complete
    run(step, finished, tmp_path, ratings_csv)


def test_a_full_disk_is_one_line_from_a_job_too(tmp_path: Path, ratings_csv: Path) -> None:
    job = (*JOB[:-1], ratings_csv, "--job-dir", tmp_path / "job")
    limited = ["bash", "-c", 'ulimit -f 1; exec "$@"', "bash", *map(str, job)]
    ended = subprocess.run(limited, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("trainer.task: error: ")
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "job" / "metrics.json").exists()
    assert not list((tmp_path / "job").rglob(MANIFEST))


def test_too_little_memory_is_one_line(
    tmp_path: Path, ratings_csv: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 9.3 TiB")

    monkeypatch.setattr("trainer.job.run.fit", exhausted)
    job = [
        "--data-type",
        "user_ratings",
        "--train-file",
        str(ratings_csv),
        "--job-dir",
        str(tmp_path / "job"),
    ]
    assert task.main(job) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("trainer.task: error: out of memory (Unable to allocate 9.3 TiB)")


def interrupted(command: tuple[object, ...], cwd: Path, sign: str) -> subprocess.CompletedProcess[str]:
    """Press Ctrl-C, as a terminal passes it on to all processes, once the output has a sign of life."""
    log = cwd / "output"
    with (
        log.open("w") as output,
        subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        ) as process,
    ):
        while sign not in log.read_text("utf-8"):
            assert process.poll() is None, log.read_text("utf-8")
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        process.wait()
    return subprocess.CompletedProcess(command, process.returncode, log.read_text("utf-8"))


def test_an_interrupted_run_is_one_line_and_cancelled(tmp_path: Path) -> None:
    command = (WALS, "run", "--source", SAMPLE, "--output-dir", "run", "--num-iters", "10000")
    ended = interrupted(command, tmp_path, "iteration 3 of")
    assert ended.returncode == 130, ended.stdout
    assert ended.stdout.splitlines()[-1] == "wals: error: interrupted"
    assert "Traceback" not in ended.stdout
    assert LocalRuns(tmp_path).get("run").state == "cancelled"
    assert not list((tmp_path / "run").rglob(f"model/{MANIFEST}"))


def test_an_interrupted_job_is_one_line_without_a_result(tmp_path: Path) -> None:
    ended = interrupted((*JOB, "--job-dir", "job", "--num_iters", "10000"), tmp_path, "iteration 3 of")
    assert ended.returncode == 130, ended.stdout
    assert ended.stdout.splitlines()[-1] == "trainer.task: error: interrupted"
    assert "Traceback" not in ended.stdout
    assert not list(tmp_path.rglob("*.npy"))
    assert not list(tmp_path.rglob("metrics.json"))


def test_two_jobs_at_once_in_one_folder_are_refused(tmp_path: Path, ratings_csv: Path) -> None:
    job = tmp_path / "job"
    with subprocess.Popen(
        [*map(str, JOB), "--job-dir", str(job), "--num_iters", "10000"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stderr
        for line in first.stderr:
            if "iteration 1 of" in line:
                break
        assert is_held(job)
        second = subprocess.run(
            [*map(str, JOB), "--job-dir", str(job)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        first.kill()
    assert second.returncode == 2
    assert second.stderr.splitlines()[-1].endswith(
        "is the folder of a run that has not ended; wait for it, or give another"
    )
    assert not (job / "metrics.json").exists()
    # A killed job lets go.
    short = ["--data-type", "user_ratings", "--train-file", str(ratings_csv), "--num_iters", "1"]
    assert task.main([*short, "--job-dir", str(job)]) == 0
    assert json.loads((job / "metrics.json").read_text("utf-8"))["users"] == 60


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_retry_removes_what_a_killed_process_left_and_nothing_else(
    finished: Path, ratings_csv: Path, tmp_path: Path
) -> None:
    dead, alive = dead_process(), os.getppid()
    (tmp_path / "training" / "by_row").mkdir(parents=True)
    left = [tmp_path / "training" / f".{MANIFEST}.{dead}.tmp"]
    left.append(tmp_path / "training" / "by_row" / f".00000.values.npy.{dead}.tmp")
    kept = [tmp_path / "training" / f".{MANIFEST}.{alive}.tmp", tmp_path / "training" / ".my.notes.tmp"]
    for path in (*left, *kept):
        path.touch()
    run("prepare", finished, tmp_path, ratings_csv)
    assert not [path for path in left if path.exists()]
    assert all(path.exists() for path in kept)


def test_scratch_folders_of_killed_processes_are_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import time\n"
        "from trainer.scratch import scratch_folder\n"
        "with scratch_folder() as folder:\n"
        "    (folder / 'big').touch()\n"
        "    print(folder, flush=True)\n"
        "    time.sleep(600)\n"
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    folders = []
    processes = [
        subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout
            folders.append(Path(process.stdout.readline().strip()))
        processes[0].kill()
        processes[0].wait()
        (tmp_path / "wals-scratch-link").symlink_to(tmp_path.parent)
        for folder in folders:
            os.utime(folder, (0, 0))
        scratch._remove_left_behind.cache_clear()
        with scratch.scratch_folder():
            assert [folder.exists() for folder in folders] == [False, True]
    finally:
        for process in processes:
            process.kill()
            process.wait()
