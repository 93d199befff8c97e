import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import trainer
from trainer.solvers import cache, kernels, simd
from trainer.solvers.part import bounds_of

TRAIN = """
import hashlib
import numpy as np
from scipy import sparse
from trainer.config import TrainConfig
from trainer.training import fit
from trainer.matrix import InteractionMatrix

matrix = InteractionMatrix.from_scipy(sparse.random_array((60, 40), density=0.3, rng=0, dtype=np.float32))
for solver in ("cg", "ialspp"):
    model = fit(matrix, TrainConfig(latent_factors=20, block_size=16, num_iters=4, solver=solver))
    print(hashlib.sha256(model.item_factors.tobytes()).hexdigest())
"""


@pytest.mark.parametrize("d", [1, 15, 16, 17, 64, 100])
@pytest.mark.parametrize("index_type", [np.int32, np.int64])
def test_products_with_gathered_rows(d: int, index_type: type) -> None:
    random = np.random.default_rng(d)
    minor = random.standard_normal((30, d), np.float32)
    rows = random.integers(0, 30, 24).astype(index_type)
    vector, coefficients = random.standard_normal(d, np.float32), random.standard_normal(24, np.float32)
    sums, total = np.full(24, 7, np.float32), np.ones(d, np.float32)
    kernels.dots(minor, rows, 8, 24, vector, sums)
    np.testing.assert_allclose(sums[8:], minor[rows[8:]] @ vector, rtol=1e-4, atol=1e-5)
    assert (sums[:8] == 7).all()
    kernels.adds(minor, rows, 8, 24, coefficients, total)
    np.testing.assert_allclose(total, 1 + coefficients[8:] @ minor[rows[8:]], rtol=1e-4, atol=1e-5)


def test_products_with_rows_of_half_precision() -> None:
    random = np.random.default_rng(1)
    halves = random.standard_normal((30, 37)).astype(np.float16)
    bits, rows = halves.view(np.int16), random.integers(0, 30, 8)
    vector, coefficients = random.standard_normal(37, np.float32), random.standard_normal(8, np.float32)
    sums, total = np.empty(8, np.float32), np.zeros(37, np.float32)
    kernels.dots(bits, rows, 0, 8, vector, sums)
    kernels.adds(bits, rows, 0, 8, coefficients, total)
    gathered = halves[rows].astype(np.float32)
    np.testing.assert_allclose(sums, gathered @ vector, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(total, coefficients @ gathered, rtol=1e-4, atol=1e-5)


def test_products_with_some_of_the_columns() -> None:
    random = np.random.default_rng(0)
    whole = random.standard_normal((10, 40), np.float32)
    part, rows = whole[:, 3:36], np.arange(8)
    sums = np.empty(8, np.float32)
    kernels.dots(part, rows, 0, 8, np.ones(33, np.float32), sums)
    np.testing.assert_allclose(sums, part[:8].sum(axis=1), rtol=1e-4, atol=1e-5)


def test_chunks_cover_each_row_once_and_share_the_work() -> None:
    counts = np.random.default_rng(0).zipf(1.6, 20_000).clip(0, 3000)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    bounds = bounds_of(indptr, kernels._CHUNKS)
    assert bounds[0] == 0
    assert bounds[-1] == 20_000
    assert (np.diff(bounds) >= 0).all()
    work = np.diff(indptr[bounds])
    assert work.max() <= work.mean() * 2 + counts.max()


def test_compiled_kernels_are_cached_in_the_first_writable_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert Path(cache.compiled_kernels()).is_relative_to(tmp_path / "cache")
    # A file instead of the folder: nothing can be cached there.
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert Path(cache.compiled_kernels()).is_relative_to(tempfile.gettempdir())
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "named"))
    assert Path(cache.compiled_kernels()).is_relative_to(tmp_path / "named")


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(lambda caches, _: caches.chmod(0o777), id="others can add folders"),
        pytest.param(lambda caches, _: caches.parent.chmod(0o777), id="others can replace the caches"),
        pytest.param(lambda _, folder: folder.chmod(0o770), id="the group can add kernels"),
        pytest.param(lambda _, folder: folder.chmod(0o702), id="others can add kernels"),
        pytest.param(lambda caches, folder: link_to(caches.parent / "theirs", folder), id="a link to theirs"),
        pytest.param(lambda caches, _: link_to(caches.parent / "theirs", caches), id="caches elsewhere"),
    ],
)
def test_kernels_that_others_can_plant_are_not_run(
    attack: Callable[[Path, Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caches = tmp_path / "shared" / "caches"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(caches))
    folder = Path(cache.compiled_kernels())
    assert folder.is_relative_to(caches)
    attack(caches, folder)
    private = [Path(cache.compiled_kernels()) for _ in range(2)]
    assert private[0] != private[1]
    for used in private:
        assert not used.resolve().is_relative_to(tmp_path)
        assert used.stat().st_mode & 0o077 == 0
        used.rmdir()
    assert f"NUMBA_CACHE_DIR {caches} is not used" in caplog.text


def link_to(theirs: Path, place: Path) -> None:
    """Put a link to a folder that everyone may write to in a folder's place."""
    theirs.mkdir()
    theirs.chmod(0o777)
    shutil.rmtree(place)
    place.symlink_to(theirs)


def test_a_folder_for_this_process_is_removed_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    program = "from trainer.solvers.cache import compiled_kernels; print(compiled_kernels())"
    shown = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "file"), "TMPDIR": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert Path(shown.strip()).parent == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_each_version_of_the_sources_has_its_own_cache(tmp_path: Path) -> None:
    shutil.copytree(Path(trainer.__file__).parent, tmp_path / "trainer")

    def folder() -> str:
        command = [
            sys.executable,
            "-c",
            "from trainer.solvers import kernels; print(kernels.config.CACHE_DIR)",
        ]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    before = folder()
    assert folder() == before
    with (tmp_path / "trainer" / "solvers" / "simd.py").open("a") as source:
        source.write("# Changed.\n")
    assert folder() != before


@pytest.mark.slow
def test_a_process_that_compiles_the_kernels_computes_the_same_as_later_ones(tmp_path: Path) -> None:
    compiled = tmp_path / "kernels"

    def train() -> str:
        command = [sys.executable, "-c", TRAIN]
        return subprocess.run(
            command,
            env=os.environ | {"NUMBA_CACHE_DIR": str(compiled)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    first = train()
    assert list(compiled.rglob("cg._sweep-*"))
    assert train() == first


def test_training_with_compiled_kernels_loads_no_compiler() -> None:
    unused = ("numba.typed.typedlist", "numba.np.linalg", "pandas")
    program = f"{TRAIN}\nimport sys\nprint([name for name in {unused} if name in sys.modules])"
    for _ in range(2):  # The first process compiles the kernels, unless another has.
        command = [sys.executable, "-c", program]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert shown.splitlines()[-1] == "[]"


@kernels.compiled()
def _count(counter: np.ndarray, seen: np.ndarray) -> None:
    part = simd.take(counter)
    while part < len(seen):
        seen[part] += 1
        part = simd.take(counter)


def test_each_part_of_the_work_is_taken_once() -> None:
    seen = np.zeros(1_000_000, np.int64)
    kernels.in_threads(4, _count, seen)
    assert (seen == 1).all()


def test_the_requested_number_of_threads_works() -> None:
    together = threading.Barrier(3, timeout=30)
    kernels.in_threads(3, lambda counter: together.wait())
    assert not together.broken


def test_threads_work_in_a_forked_process() -> None:
    seen = np.zeros(100, np.int64)
    kernels.in_threads(2, _count, seen)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends a process that waits for threads it does not have
        kernels.in_threads(2, _count, seen)
        os._exit(0 if (seen == 2).all() else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_an_error_in_a_thread_is_raised() -> None:
    def work(counter: np.ndarray) -> None:
        raise MemoryError("out of memory")

    with pytest.raises(MemoryError, match="out of memory"):
        kernels.in_threads(2, work)
