import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from tests.trainer.reference import objective, regularization, solve, weights_and_targets
from trainer.config import TrainConfig
from trainer.matrix import InteractionMatrix
from trainer.solvers import make_solver
from trainer.solvers.cg import ConjugateGradients
from trainer.weighting import Problem


@st.composite
def cases(draw: st.DrawFn) -> tuple[sparse.csr_array, TrainConfig]:
    users, items = draw(st.integers(1, 40)), draw(st.integers(1, 30))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.02, 0.2, 0.9]))
    dense = np.where(random.random((users, items)) < density, random.normal(1, 2, (users, items)), 0)
    config = TrainConfig(
        latent_factors=draw(st.sampled_from([1, 3, 8, 16, 17, 40])),
        regularization=draw(st.sampled_from([0.05, 1.0])),
        regularization_exponent=draw(st.sampled_from([0.0, 0.5, 1.0])),
        unobs_weight=draw(st.sampled_from([0.0, 0.01, 0.3, 1.0])),
        feedback=draw(st.sampled_from(["explicit", "implicit"])),
        alpha=draw(st.sampled_from([0.0, 2.0])),
        wt_type=draw(st.sampled_from([0, 1])),
        feature_wt_factor=3.0,
        feature_wt_exp=0.4,
    )
    return sparse.csr_array(dense), config


def sweep_items(
    matrix: sparse.csr_array, config: TrainConfig, start: float = 0.1, **changes: Any
) -> tuple[np.ndarray, np.ndarray, float]:
    """Solve the items once from random factors; return both sides and the objective that was reported."""
    config = config.replace(**changes)
    random = np.random.default_rng(1)
    users = random.standard_normal((matrix.shape[0], config.latent_factors), np.float32)
    items = random.standard_normal((matrix.shape[1], config.latent_factors), np.float32) * np.float32(start)
    interactions = InteractionMatrix.from_scipy(matrix)
    problem = Problem.of(config, interactions.row_counts(), interactions.column_counts())
    loss = make_solver(config).sweep(interactions.by_column, problem.items, users, items)
    penalty = regularization(matrix, config)[0] @ (users.astype(float) ** 2).sum(axis=1)
    return users, items, loss + float(penalty)


def exact_items(matrix: sparse.csr_array, config: TrainConfig, users: np.ndarray) -> np.ndarray:
    weights, targets = weights_and_targets(matrix, config)
    return solve(weights.T, targets.T, regularization(matrix, config)[1], users)


@pytest.mark.parametrize(
    ("changes", "tolerance"),
    # In single precision, conjugate gradients end a little further away where the problem is nearly singular.
    [({"solver": "cholesky"}, 5e-4), ({"solver": "cg", "cg_steps": 150}, 3e-3)],
    ids=str,
)
@given(case=cases())
@settings(deadline=None, max_examples=100)
def test_converged_solvers_give_the_exact_solution(
    changes: dict[str, Any], tolerance: float, case: tuple[sparse.csr_array, TrainConfig]
) -> None:
    matrix, config = case
    users, items, _ = sweep_items(matrix, config, start=0, **changes)
    exact = exact_items(matrix, config, users)
    assert np.linalg.norm(items - exact) <= tolerance * (np.linalg.norm(exact) + 0.1)


@pytest.mark.parametrize(("distance", "length"), [(0.1, 1.4), (2.0, 1.0)])
def test_conjugate_gradients_go_further_near_the_solution(distance: float, length: float) -> None:
    random = np.random.default_rng(3)
    matrix = sparse.csr_array((random.random((60, 20)) < 0.4).astype(np.float32))
    config = TrainConfig(latent_factors=8, regularization=0.1, cg_steps=40, solver="cg")
    interactions = InteractionMatrix.from_scipy(matrix)
    problem = Problem.of(config, interactions.row_counts(), interactions.column_counts())
    users = random.standard_normal((60, 8), np.float32)
    exact = exact_items(matrix, config, users)
    away = distance * np.linalg.norm(exact, axis=1, keepdims=True) * random.standard_normal((20, 8)) / 8**0.5
    items, rotated = (exact + away).astype(np.float32), users.copy()
    make_solver(config).sweep(interactions.by_column, problem.items, rotated, items)
    # The sweep turns both sides in the same way, which scores do not show.
    np.testing.assert_allclose(
        rotated @ items.T, users @ (exact + (1 - length) * away).T, rtol=0, atol=2e-3 * distance
    )


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("d", [3, 16, 40])
def test_large_sides_are_gathered_in_half_precision(d: int, scale: float) -> None:
    random = np.random.default_rng(d)
    pattern = random.random((300, 80)) < 0.3
    matrix = sparse.csr_array(np.where(pattern, random.random((300, 80)) + 0.5, 0) * scale)
    config = TrainConfig(latent_factors=d, regularization=0.1)
    interactions = InteractionMatrix.from_scipy(matrix)
    problem = Problem.of(config, interactions.row_counts(), interactions.column_counts())
    # Unlike random columns, those of real factors differ much in length.
    start = random.standard_normal((300, d), np.float32) / (1 + np.arange(d, dtype=np.float32))
    scores, losses = [], []
    for halves_from in (0, 1 << 30):
        users, items = start.copy(), np.zeros((80, d), np.float32)
        solver = ConjugateGradients(3, 2, halves_from=halves_from)
        losses.append(solver.sweep(interactions.by_column, problem.items, users, items))
        scores.append(users @ items.T)
    assert not np.array_equal(*scores)
    assert np.abs(scores[0] - scores[1]).max() < 2e-3 * np.abs(scores[1]).max()
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_processor_without_half_precision_gathers_in_single() -> None:
    # A process compiles for one processor. This one is like every x86-64 processor with SSE 4.2.
    variables = {"NUMBA_CPU_NAME": "nehalem", "NUMBA_CPU_FEATURES": "", "PYTHONPATH": ":".join(sys.path)}
    script = """
import numpy as np
from scipy import sparse
from trainer.config import TrainConfig
from trainer.matrix import InteractionMatrix
from trainer.solvers.cg import ConjugateGradients
from trainer.weighting import Problem
matrix = InteractionMatrix.from_scipy(sparse.csr_array(np.eye(4, dtype=np.float32)))
problem = Problem.of(TrainConfig(), matrix.row_counts(), matrix.column_counts())
items = np.zeros((4, 20), np.float32)
users = np.eye(4, 20, dtype=np.float32)
ConjugateGradients(1, 1, halves_from=0).sweep(matrix.by_column, problem.items, users, items)
print(np.isfinite(items).all() and items.any())
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


@pytest.mark.parametrize(
    "changes",
    [
        {"solver": "cholesky"},
        {"solver": "cg", "cg_steps": 1},
        {"solver": "cg", "cg_steps": 3},
        {"solver": "ialspp", "block_size": 5},
        {"solver": "ialspp", "block_size": 16},
    ],
    ids=str,
)
@given(case=cases())
@settings(deadline=None, max_examples=100)
def test_reported_objective_is_that_of_the_factors(
    changes: dict[str, Any], case: tuple[sparse.csr_array, TrainConfig]
) -> None:
    matrix, config = case
    users, items, reported = sweep_items(matrix, config, **changes)
    expected = objective(matrix, config, users, items)
    start = float(
        (weights_and_targets(matrix, config)[0] * weights_and_targets(matrix, config)[1] ** 2).sum()
    )
    assert abs(reported - expected) <= 1e-4 * max(expected, start) + 1e-4 * (users**2).sum()
