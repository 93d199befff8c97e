"""Fixtures for several tests: small ratings with a taste to find, and a mounted bucket."""

import ast
import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

# Many tests start processes, which take twice as long if each has to compile everything it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Tests run on machines with GPUs too, as if these were not there.
os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """After attacks, show how many of each class there were and how many got through."""
    if config.option.markexpr != "attack":
        return
    made: Counter[str] = Counter()
    through: Counter[str] = Counter()
    for outcome, counts in (("passed", (made,)), ("failed", (made, through))):
        for report in terminalreporter.getreports(outcome):
            for count in counts:
                count[report.nodeid.split("::")[0]] += 1
    terminalreporter.section("attacks, and those that got through")
    for file, attacks in sorted(made.items()):
        title = ast.get_docstring(ast.parse((config.rootpath / file).read_text("utf-8"))) or file
        terminalreporter.write_line(f"{attacks:>5} {through[file]:>4}  {title.splitlines()[0]}")
    terminalreporter.write_line(f"{made.total():>5} {through.total():>4}  in all")


Once = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Return a function that makes a folder, and returns it: once for all processes of pytest-xdist."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def made(name: str, make: Callable[[Path], None]) -> Path:
        folder, whole = shared / name, shared / f"{name}.whole"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not whole.exists():
                folder.mkdir()
                make(folder)
                whole.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def ratings_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 users of two tastes over 40 items; users prefer the items of their own half. 720 ratings."""
    random = np.random.default_rng(7)
    lines = ["userId,movieId,rating,timestamp"]
    for user in range(60):
        taste = user % 2
        items = random.choice(40, size=12, replace=False, p=_taste(taste))
        for number, item in enumerate(items):
            rating = 5 - 3 * (item // 20 != taste)
            lines.append(f"{user + 1},{item + 100},{rating},{1_400_000_000 + 86_400 * number}")
    path = tmp_path_factory.mktemp("ratings") / "ratings.csv"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def _taste(taste: int) -> np.ndarray:
    weights = np.where(np.arange(40) // 20 == taste, 5.0, 1.0)
    return weights / weights.sum()


@pytest.fixture(scope="session")
def sample_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``runs/latest/model`` and ``runs/latest/catalogue``, like a run on MovieLens."""
    # Slow to import, which other tests need not wait for.
    import pandas as pd
    from scipy import sparse

    from trainer import InteractionMatrix, TrainConfig, fit
    from trainer.catalogue import CatalogueTables, write_catalogue
    from trainer.vocabulary import Vocabulary

    sample = Path(__file__).parents[1] / "data" / "ml-latest-small"
    ratings, movies = (pd.read_csv(sample / f"{name}.csv") for name in ("ratings", "movies"))
    users, items = Vocabulary.of(ratings["userId"]), Vocabulary.of(ratings["movieId"])
    places = users.index_of(ratings["userId"]), items.index_of(ratings["movieId"])
    matrix = sparse.coo_array((ratings["rating"], places), (len(users), len(items))).tocsr()
    config = TrainConfig(latent_factors=64, num_iters=10, regularization=0.003, unobs_weight=0.1)
    model = fit(InteractionMatrix.from_scipy(matrix), config, users=users, items=items)
    folder = tmp_path_factory.mktemp("sample")
    run = folder / "runs" / "2026-01-31T08-00-00"
    model.save(run / "model")
    genres = movies["genres"].str.partition("|")[0]
    known = {"item_id": movies["movieId"], "title": movies["title"], "category": genres}
    write_catalogue(run / "catalogue", CatalogueTables.of(known))
    run.with_name("latest").symlink_to(run.name)
    return folder


class MountedBucket:
    """A bucket that `bucket_mount.py` mounts.

    Attributes:
        folder: where it is mounted.
    """

    def __init__(self, folder: Path, journal: Path) -> None:
        self.folder, self._journal, self._seen = folder, journal, 0

    def operations(self) -> list[list[str]]:
        """Return the operations since the last call: name, path and, for a read, the bytes."""
        lines = self._journal.read_text("utf-8").splitlines()
        new, self._seen = lines[self._seen :], len(lines)
        return [line.split() for line in new]


@pytest.fixture
def mounted_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MountedBucket]:
    """An empty bucket, mounted with the limits of Cloud Storage FUSE where every user can enter."""
    # Local copies are made however full this machine's disk is.
    monkeypatch.setattr("trainer.mounts._FREE_SHARE", 0)
    if not Path("/dev/fuse").exists():
        pytest.skip("this machine has no /dev/fuse")
    folder, journal, log = (
        Path(tempfile.mkdtemp(prefix="wals-bucket-")),
        tmp_path / "journal",
        tmp_path / "log",
    )
    server = Path(__file__).with_name("bucket_mount.py")
    with (
        log.open("wb") as output,
        subprocess.Popen([sys.executable, server, folder, journal], stdout=output, stderr=output) as process,
    ):
        while not folder.is_mount():
            if process.poll() is not None:
                reason = f"no mount (Debian: apt install libfuse3-3 fuse3): {log.read_text('utf-8')}"
                (pytest.fail if os.environ.get("WALS_REQUIRE_EMULATORS") else pytest.skip)(reason)
            time.sleep(0.02)
        try:
            yield MountedBucket(folder, journal)
        finally:
            process.terminate()
            process.wait()
            folder.rmdir()
