import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from tests.trainer.reference import in_shards, objective, regularization, solve, weights_and_targets
from trainer import extras, solvers
from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.gpus import Gpu, Gpus, Obstacle
from trainer.matrix import InteractionMatrix
from trainer.solvers import Solver, make_solver
from trainer.solvers.cg import ConjugateGradients
from trainer.training import fit
from trainer.weighting import Problem


@pytest.fixture
def tensorflow_solver() -> ModuleType:
    """The solver's module, imported where a test needs it: TensorFlow takes seconds and much memory."""
    from trainer.solvers import tensorflow

    return tensorflow


def random_matrix(users: int, items: int, density: float, seed: int) -> sparse.csr_array:
    random = np.random.default_rng(seed)
    dense = np.where(random.random((users, items)) < density, random.normal(1, 2, (users, items)), 0)
    return sparse.csr_array(dense)


@st.composite
def cases(draw: st.DrawFn) -> tuple[sparse.csr_array, TrainConfig]:
    matrix = random_matrix(
        draw(st.integers(1, 40)),
        draw(st.integers(1, 30)),
        draw(st.sampled_from([0.02, 0.2, 0.9])),
        draw(st.integers(0, 2**32 - 1)),
    )
    config = TrainConfig(
        solver="tensorflow",
        latent_factors=draw(st.sampled_from([1, 3, 16])),
        regularization=draw(st.sampled_from([0.05, 1.0])),
        regularization_exponent=draw(st.sampled_from([0.0, 1.0])),
        unobs_weight=draw(st.sampled_from([0.0, 0.01, 1.0])),
        feedback=draw(st.sampled_from(["explicit", "implicit"])),
        alpha=draw(st.sampled_from([0.0, 2.0])),
        wt_type=draw(st.sampled_from([0, 1])),
        feature_wt_factor=3.0,
        feature_wt_exp=0.4,
    )
    return matrix, config


def sweep_items(
    solver: Solver, matrix: InteractionMatrix, config: TrainConfig
) -> tuple[np.ndarray, np.ndarray, float]:
    """Solve the items once for random users; return users, items and the reported loss."""
    random = np.random.default_rng(1)
    users = random.standard_normal((matrix.rows, config.latent_factors), np.float32)
    items = random.standard_normal((matrix.columns, config.latent_factors), np.float32)
    problem = Problem.of(config, matrix.row_counts(), matrix.column_counts())
    loss = solver.sweep(matrix.by_column, problem.items, users, items)
    return users, items, loss


@given(case=cases())
@settings(deadline=None, max_examples=40)
def test_a_sweep_gives_the_exact_solution_and_its_objective(
    case: tuple[sparse.csr_array, TrainConfig],
) -> None:
    matrix, config = case
    users, items, loss = sweep_items(make_solver(config), InteractionMatrix.from_scipy(matrix), config)
    weights, targets = weights_and_targets(matrix, config)
    user_reg, item_reg = regularization(matrix, config)
    exact = solve(weights.T, targets.T, item_reg, users)
    assert np.linalg.norm(items - exact) <= 1e-4 * np.linalg.norm(exact) + 1e-5
    expected = objective(matrix, config, users, items) - user_reg @ (users.astype(float) ** 2).sum(axis=1)
    nothing_explained = float((weights * targets**2).sum())
    assert abs(loss - expected) <= 1e-4 * max(expected, nothing_explained)


@pytest.mark.parametrize("batch_bytes", [1, 4 * 8 * 128 * 3, 1 << 20])
@pytest.mark.parametrize("sizes", [[60], [1, 0, 20, 39]], ids=str)
def test_the_solution_does_not_depend_on_batches_and_shards(
    tensorflow_solver: ModuleType, monkeypatch: pytest.MonkeyPatch, batch_bytes: int, sizes: list[int]
) -> None:
    """Rows shorter and longer than a batch, empty rows, and an empty shard."""
    monkeypatch.setattr(tensorflow_solver, "_BATCH_BYTES", batch_bytes)
    dense = random_matrix(500, 60, 0.05, seed=3).toarray()
    dense[:, 7] = 0
    dense[:, 8] = np.arange(500) % 5 + 1
    config = TrainConfig(latent_factors=8, alpha=0.5)
    matrix = InteractionMatrix.from_scipy(sparse.csr_array(dense))
    shards = InteractionMatrix(matrix.rows, matrix.columns, matrix.by_row, in_shards(matrix.by_column, sizes))
    _, items, loss = sweep_items(tensorflow_solver.TensorFlowCholesky(), shards, config)
    cholesky = TrainConfig(latent_factors=8, alpha=0.5, solver="cholesky")
    _, expected, expected_loss = sweep_items(make_solver(cholesky), matrix, cholesky)
    np.testing.assert_allclose(items, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    assert not items[7].any()


def test_training_reaches_the_objectives_of_the_cpu() -> None:
    matrix = InteractionMatrix.from_scipy(random_matrix(80, 50, 0.2, seed=5))
    config: dict[str, Any] = {"latent_factors": 6, "num_iters": 8, "alpha": 1.0}
    models = [fit(matrix, TrainConfig(solver=solver, **config)) for solver in ("tensorflow", "cholesky")]
    ours, expected = ([iteration.objective for iteration in model.history] for model in models)
    assert ours == pytest.approx(expected, rel=1e-4)
    assert all(after <= before * (1 + 1e-6) for before, after in itertools.pairwise(ours))


def test_singular_equations_are_refused_by_row(tensorflow_solver: ModuleType) -> None:
    """Even if rounding leaves pivots above 0, as it does for some of these."""
    config = TrainConfig(latent_factors=5, regularization=0.0, unobs_weight=0.0, alpha=1.0)
    for seed in range(20):
        values = np.random.default_rng(seed).random((4, 1)) + 0.5
        matrix = InteractionMatrix.from_scipy(sparse.csr_array(values))
        with pytest.raises(InputError, match=r"regularization 0\.0: leaves the equations of row 0 singular"):
            sweep_items(tensorflow_solver.TensorFlowCholesky(), matrix, config)


T4 = Gpus((Gpu("Tesla T4", 16 << 30, (7, 5)),), "550.90.07", (12, 4))


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Gpus], None]]:
    """Return a function that gives this machine GPUs, as an image's container has them."""
    solvers._automatic.cache_clear()
    monkeypatch.setenv("WALS_ACCELERATOR", "gpu")
    yield lambda gpus: monkeypatch.setattr(solvers, "find_gpus", lambda: gpus)
    solvers._automatic.cache_clear()


def test_auto_solves_on_the_cpu_without_a_gpu(
    given: Callable[[Gpus], None], caplog: pytest.LogCaptureFixture
) -> None:
    given(Gpus())
    caplog.set_level("INFO")
    for _ in range(2):
        assert isinstance(make_solver(TrainConfig(solver="auto")), ConjugateGradients)
    assert caplog.messages == ["solver cg, because this machine has no GPU"]


@pytest.mark.parametrize(
    ("gpus", "reported"),
    [
        (replace(T4, obstacle=Obstacle("it is broken", "fix it")), r": it is broken; fix it"),
        (
            replace(T4, cuda=(11, 4)),
            r"the driver supports CUDA 11.4, and TensorFlow needs 12; install a newer",
        ),
        (
            Gpus((Gpu("NVIDIA B200", 0, (10, 0)),)),
            r"cannot use NVIDIA B200: TensorFlow 2.21.0 has no kernels",
        ),
        (T4, r"libraries of CUDA that TensorFlow needs are not installed; set solver to cuda, or pip inst"),
    ],
)
def test_tensorflow_refuses_to_leave_a_gpu_idle(
    gpus: Gpus, reported: str, given: Callable[[Gpus], None]
) -> None:
    given(gpus)
    with pytest.raises(InputError, match=f"^solver 'tensorflow': .*{reported}.*set solver to cg"):
        make_solver(TrainConfig(solver="tensorflow"))
    assert isinstance(make_solver(TrainConfig(solver="cg")), ConjugateGradients)


def test_a_tensorflow_without_cuda_is_refused(
    given: Callable[[Gpus], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    given(T4)
    monkeypatch.setattr(extras.tensorflow().sysconfig, "get_build_info", lambda: {"is_cuda_build": False})
    with pytest.raises(InputError, match="TensorFlow is built without CUDA; set solver to cuda"):
        make_solver(TrainConfig(solver="tensorflow"))


def test_training_on_the_cpu_imports_neither_tensorflow_nor_cupy() -> None:
    program = (
        "import sys, trainer.training, trainer.task, trainer.serving.export\n"
        "from trainer.config import TrainConfig\n"
        "from trainer.solvers import make_solver\n"
        "make_solver(TrainConfig(solver='cholesky'))\n"
        "assert not {'tensorflow', 'cupy'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_missing_tensorflow_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "tensorflow_is_installed", lambda: False)
    with pytest.raises(InputError, match=r"pip install 'wals-pipeline\[tensorflow\]'"):
        extras.tensorflow()
