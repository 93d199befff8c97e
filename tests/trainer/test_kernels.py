import tempfile
from pathlib import Path

import numpy as np
import pytest

from trainer.errors import InputError
from trainer.matrix import Shard
from trainer.solvers import kernels


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


def test_products_with_some_columns_of_a_matrix() -> None:
    random = np.random.default_rng(0)
    whole = random.standard_normal((10, 40), np.float32)
    part, rows = whole[:, 3:36], np.arange(8)
    sums = np.empty(8, np.float32)
    kernels.dots(part, rows, 0, 8, np.ones(33, np.float32), sums)
    np.testing.assert_allclose(sums, part[:8].sum(axis=1), rtol=1e-4, atol=1e-5)


def test_runs_of_rows_cover_each_row_once_and_share_the_work() -> None:
    counts = np.random.default_rng(0).zipf(1.6, 20_000).clip(0, 3000)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    shard = Shard(0, indptr, np.zeros(indptr[-1], np.int32), np.zeros(indptr[-1], np.float32))
    bounds = kernels.chunk_bounds(shard)
    assert bounds[0] == 0
    assert bounds[-1] == 20_000
    assert (np.diff(bounds) >= 0).all()
    work = np.diff(indptr[bounds])
    assert work.max() <= work.mean() * 2 + counts.max()


def test_compiled_kernels_are_kept_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert Path(kernels._compiled_kernels()).parent == tmp_path / "cache"
    # A file where the folder should be: nothing can be kept there.
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert Path(kernels._compiled_kernels()).parent == Path(tempfile.gettempdir())


def test_more_threads_than_cores_are_refused() -> None:
    with pytest.raises(InputError, match="num_threads 4096: is above the"):
        kernels.use_threads(4096)
