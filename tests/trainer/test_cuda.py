"""The CUDA solver without a GPU: its very kernels run on the CPU, with NumPy in place of CuPy."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from tests.trainer.emulation.device import EmulatedDevice
from tests.trainer.reference import in_shards, objective, regularization, solve, weights_and_targets
from trainer import solvers
from trainer.checkpoint import Checkpoints
from trainer.config import TrainConfig
from trainer.errors import InputError, WalsError
from trainer.matrix import InteractionMatrix
from trainer.solvers import cuda, make_solver
from trainer.solvers.cg import ConjugateGradients
from trainer.solvers.cuda import CudaConjugateGradients, Tuning, layout, memory
from trainer.solvers.cuda.memory import Size, plan
from trainer.training import fit
from trainer.weighting import Problem

pytestmark = pytest.mark.usefixtures("compiler")

# Each kind of row occurs in a few hundred entries.
SMALL = Tuning(team_from=5, wide_from=60)


def random_matrix(users: int, items: int, density: float = 0.2, seed: int = 0) -> sparse.csr_array:
    random = np.random.default_rng(seed)
    dense = np.where(random.random((users, items)) < density, random.normal(1, 2, (users, items)), 0)
    return sparse.csr_array(dense)


def matrix_of_lengths(lengths: list[int], columns: int, seed: int = 0) -> InteractionMatrix:
    """Return a matrix whose rows have the given numbers of entries."""
    random = np.random.default_rng(seed)
    indices = [np.sort(random.choice(columns, length, replace=False)) for length in lengths]
    values = random.normal(1, 2, sum(lengths))
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    csr = sparse.csr_array((values, np.concatenate(indices), indptr), shape=(len(lengths), columns))
    return InteractionMatrix.from_scipy(csr)


def sweep(
    solver: solvers.Solver, matrix: InteractionMatrix, config: TrainConfig
) -> tuple[np.ndarray, np.ndarray, float]:
    """Step the users once for random items; return users, items and the reported loss."""
    random = np.random.default_rng(1)
    users = random.standard_normal((matrix.rows, config.latent_factors), np.float32) / 10
    items = random.standard_normal((matrix.columns, config.latent_factors), np.float32)
    problem = Problem.of(config, matrix.row_counts(), matrix.column_counts())
    loss = solver.sweep(matrix.by_row, problem.users, items, users)
    return users, items, loss


WEIGHTINGS: dict[str, dict[str, Any]] = {
    "implicit": {},
    "confidence": {"alpha": 2.0, "unobs_weight": 1.0, "regularization": 0.05},
    "unobserved pairs do not count": {"unobs_weight": 0.0, "regularization": 0.05},
    "linear": {"feedback": "explicit", "feature_wt_factor": 3.0, "unobs_weight": 0.01},
    "log": {"feedback": "explicit", "wt_type": 1, "feature_wt_exp": 0.4, "regularization_exponent": 0.0},
}


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("d", [3, 20])
def test_many_steps_give_the_exact_solution_and_its_objective(weighting: str, d: int) -> None:
    matrix = random_matrix(40, 30)
    config = TrainConfig(latent_factors=d, **WEIGHTINGS[weighting])
    solver = CudaConjugateGradients(60, EmulatedDevice(), SMALL)
    users, items, loss = sweep(solver, InteractionMatrix.from_scipy(matrix), config)
    weights, targets = weights_and_targets(matrix, config)
    user_reg, item_reg = regularization(matrix, config)
    exact = solve(weights, targets, user_reg, items)
    assert np.linalg.norm(users - exact) <= 3e-3 * np.linalg.norm(exact)
    expected = objective(matrix, config, users, items) - item_reg @ (items.astype(float) ** 2).sum(axis=1)
    assert loss == pytest.approx(expected, rel=1e-4)


# Around the 32 entries of a warp, the bounds of the kinds of rows, and the pieces of split ones.
LENGTHS = [0, 1, 2, 4, 5, 31, 32, 33, 59, 60, 61, 0, 256, 257, 300, 511, 512, 513, 700, 8]


@pytest.fixture
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rows of 256 entries be split."""
    for module in (layout, cuda):
        monkeypatch.setattr(module, "PIECE", 256)


@pytest.mark.usefixtures("short_pieces")
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(
    "tuning",
    [
        pytest.param(SMALL, id="cached"),
        pytest.param(Tuning(team_from=5, wide_from=60, cached_bytes=500), id="partly cached"),
        pytest.param(Tuning(unroll=8, team_from=60, wide_from=2000), id="no long rows"),
    ],
)
def test_rows_of_every_length_take_the_steps_of_the_cpu(tuning: Tuning, steps: int) -> None:
    matrix, config = matrix_of_lengths(LENGTHS, 700), TrainConfig(latent_factors=20, alpha=0.5)
    device = EmulatedDevice(multiprocessors=4)
    users, items, loss = sweep(CudaConjugateGradients(steps, device, tuning), matrix, config)
    expected, rotated, expected_loss = sweep(ConjugateGradients(steps, 1), matrix, config)
    # Eigenvectors have either sign.
    np.testing.assert_allclose(users @ items.T, expected @ rotated.T, atol=2e-4)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert not users[0].any()
    launched = set(device.compiled[0].launched)
    assert {"gather_pieces", "merge_pieces", "step_by_teams", "step_by_warps"} <= launched


@pytest.mark.usefixtures("short_pieces")
@pytest.mark.parametrize("d", [20, 128])
def test_results_do_not_depend_on_the_order_in_which_threads_run(d: int) -> None:
    matrix = matrix_of_lengths([0, 3, 40, 70, 300], 300)
    config = TrainConfig(latent_factors=d)
    forwards, backwards = (
        sweep(
            CudaConjugateGradients(2, EmulatedDevice(multiprocessors=1, backwards=order), SMALL),
            matrix,
            config,
        )
        for order in (False, True)
    )
    assert forwards[0].tobytes() == backwards[0].tobytes()
    assert forwards[2] == backwards[2]


@pytest.mark.usefixtures("short_pieces")
def test_a_matrix_that_does_not_fit_is_streamed_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = matrix_of_lengths(LENGTHS, 700)
    shards = in_shards(whole.by_row, [7, 0, 1, 12])
    matrix = InteractionMatrix(whole.rows, whole.columns, shards, whole.by_column)
    config = TrainConfig(latent_factors=20)
    kept = sweep(CudaConjugateGradients(2, EmulatedDevice(), SMALL), matrix, config)
    for name, value in (("_BLOCK", 0), ("_LEAST_BLOCK", 0), ("_COPIED_BYTES", 7 * 4 * 20)):
        monkeypatch.setattr(memory, name, value)
    size = Size(*(matrix.rows, matrix.columns, matrix.entries, max(LENGTHS), 20))
    enough = size.least_bytes(Tuning())
    copied: list[int] = []
    device = EmulatedDevice(memory=enough)
    monkeypatch.setattr(device, "copies", lambda original=device.copies: recorded(original(), copied))
    streamed = sweep(CudaConjugateGradients(2, device, SMALL), matrix, config)
    assert len(copied) > 3
    assert max(copied) <= max(LENGTHS)
    assert sum(copied) == matrix.entries
    # Rows are split from another length on, because there are fewer of them.
    np.testing.assert_allclose(streamed[0], kept[0], atol=1e-5)
    assert streamed[2] == pytest.approx(kept[2], rel=1e-6)


def recorded(copies: Any, sizes: list[int]) -> Any:
    start = copies.start

    def record(slot: int, pairs: Any) -> None:
        sizes.append(len(pairs[0][1]))
        start(slot, pairs)

    copies.start = record
    return copies


@pytest.mark.parametrize(
    ("half", "tolerance"), [pytest.param(False, 1e-5, id="single"), pytest.param(True, 1e-3, id="half")]
)
def test_training_reaches_the_objectives_of_the_cpu(half: bool, tolerance: float) -> None:
    matrix = InteractionMatrix.from_scipy(random_matrix(60, 40, seed=5))
    config = TrainConfig(latent_factors=20, num_iters=5, alpha=1.0, solver="cg")
    expected = [iteration.objective for iteration in fit(matrix, config).history]
    problem = Problem.of(config, matrix.row_counts(), matrix.column_counts())
    items = np.random.default_rng(config.seed).standard_normal((40, 20), np.float32)
    items *= np.float32(config.init_stddev / np.sqrt(20))
    solver = CudaConjugateGradients(2, EmulatedDevice(), Tuning(half=half))
    training = solver.begin(matrix, problem, np.zeros((60, 20), np.float32), items)
    ours = [training.iterate() for _ in range(5)]
    assert ours == pytest.approx(expected, rel=tolerance)
    assert all(after <= before * (1 + 1e-6) for before, after in itertools.pairwise(ours))
    assert objective(matrix.to_scipy(), config, *training.factors()) == pytest.approx(ours[-1], rel=tolerance)


def test_a_training_resumes_from_a_checkpoint_of_the_other_device(
    gpu: Callable[[EmulatedDevice], None], tmp_path: Path
) -> None:
    matrix = InteractionMatrix.from_scipy(random_matrix(60, 40, seed=5))
    config = TrainConfig(latent_factors=20, num_iters=6)
    whole = fit(matrix, config.replace(solver="cg"))
    gpu(EmulatedDevice())
    for number, (solver, iterations) in enumerate((("cg", 2), ("cuda", 4), ("cg", 5), ("auto", 6))):
        checkpoints = Checkpoints(tmp_path, every=1)
        model = fit(matrix, config.replace(solver=solver, num_iters=iterations), checkpoints=checkpoints)
        assert len(model.history) == iterations, number
    assert [iteration.objective for iteration in model.history] == pytest.approx(
        [iteration.objective for iteration in whole.history], rel=1e-5
    )


def test_a_gpu_that_is_lost_leaves_the_checkpoint(
    gpu: Callable[[EmulatedDevice], None], tmp_path: Path
) -> None:
    matrix = InteractionMatrix.from_scipy(random_matrix(60, 40, seed=5))
    config = TrainConfig(latent_factors=20, num_iters=5)
    gpu(EmulatedDevice(launches=5))
    with pytest.raises(WalsError, match=r"^an emulated GPU .* failed: .*resumes from its last checkpoint$"):
        fit(matrix, config, checkpoints=Checkpoints(tmp_path, every=1))
    assert list(tmp_path.glob("iteration-*"))
    gpu(EmulatedDevice())
    assert len(fit(matrix, config, checkpoints=Checkpoints(tmp_path, every=1)).history) == 5


def test_warm_starts_validation_and_fold_in_work_with_it(gpu: Callable[[EmulatedDevice], None]) -> None:
    matrix = InteractionMatrix.from_scipy(random_matrix(60, 40, seed=5))
    config = TrainConfig(latent_factors=20, num_iters=3)
    gpu(EmulatedDevice())
    judged: list[float] = []
    model = fit(
        matrix, config, validation=lambda model: judged.append(float(model.user_factors.sum())) or 0.5
    )
    assert judged[-1] == pytest.approx(float(model.user_factors.sum()))
    again = fit(matrix, config.replace(num_iters=1), warm_start=model)
    assert again.history[0].objective < model.history[-1].objective
    folded = model.fold_in(matrix.by_row[0])
    cholesky = config.replace(solver="cholesky")
    problem = Problem.of(config, matrix.row_counts(), matrix.column_counts())
    exact = np.zeros((60, 20), np.float32)
    make_solver(cholesky).sweep(matrix.by_row, problem.users, model.item_factors, exact)
    np.testing.assert_allclose(folded, exact, atol=1e-5)


def test_auto_takes_the_gpu_and_says_so(
    gpu: Callable[[EmulatedDevice], None], caplog: pytest.LogCaptureFixture
) -> None:
    gpu(EmulatedDevice())
    caplog.set_level("INFO")
    matrix = InteractionMatrix.from_scipy(random_matrix(60, 40, seed=5))
    fit(matrix, TrainConfig(latent_factors=20, num_iters=1))
    chosen, planned = caplog.messages[:2]
    assert chosen == "solver cuda, because this machine has NVIDIA H100 (80 GiB), driver 580.65.06"
    assert planned.startswith("GPU memory: 0 MiB of factors, 0 MiB of entries, kept there, ")


GIB = 1 << 30
MOVIELENS_20M = (138_493, 26_744, 20_000_000, 67_310)


@pytest.mark.parametrize(
    ("size", "free", "told"),
    [
        ((*MOVIELENS_20M, 128), 16 * GIB, r"81 MiB of factors, 305 MiB of entries, kept there, .* 16.0 GiB"),
        ((10_000_000, 1_000_000, 10**9, 10**6, 128), 79 * GIB, r"5.2 GiB of factors, 14.9 GiB .* kept there"),
        (
            (10_000_000, 1_000_000, 10**9, 10**6, 128),
            15 * GIB,
            r"2.0 GiB of entries, streamed in blocks of 134,217,728, ",
        ),
        # A row of 50 million entries needs a block of its own.
        ((10**6, 10**6, 10**9, 200_000_000, 64), 15 * GIB, r"3.0 GiB .* in blocks of 200,000,000"),
    ],
)
def test_memory_is_planned_and_told_in_a_line(
    size: tuple[int, ...], free: int, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    planned = plan(Size(*size), Tuning(), (free, free), "L4")
    (message,) = caplog.messages
    assert re.search(told, message), message
    assert planned.copied_rows > 0


@pytest.mark.parametrize(
    ("size", "free", "told"),
    [
        (
            (10**7, 10**6, 10**9, 10**6, 512),
            14 * GIB,
            r"^latent_factors 512: needs 23.* GiB of GPU memory for 10,000,000 users and 1,000,000 items, "
            r"and 14.0 GiB of L4 are free; lower it to \d+, use a GPU with more memory, or set solver to cg$",
        ),
        ((1000, 1000, 10**5, 100, 64), 200 << 20, r"; end other programs that use the GPU, use a GPU with"),
        ((10**6, 10**6, 10**10, 2 * 10**9, 16), 20 * GIB, r"; use a GPU with more memory, or set solver"),
    ],
)
def test_a_problem_that_does_not_fit_is_refused_before_the_run(
    size: tuple[int, ...], free: int, told: str
) -> None:
    with pytest.raises(InputError, match=told):
        plan(Size(*size), Tuning(), (free, 22 * GIB), "L4")


def test_the_largest_d_that_is_offered_fits() -> None:
    with pytest.raises(InputError) as refused:
        plan(Size(10**7, 10**6, 10**9, 10**6, 512), Tuning(), (14 * GIB, 14 * GIB), "L4")
    offered = int(refused.value.remedy.split("lower it to ")[1].split(",")[0])
    assert offered > 100
    assert plan(Size(10**7, 10**6, 10**9, 10**6, offered), Tuning(), (14 * GIB, 14 * GIB), "L4").block
    with pytest.raises(InputError):
        plan(Size(10**7, 10**6, 10**9, 10**6, offered + 4), Tuning(), (14 * GIB, 14 * GIB), "L4")


def test_more_factors_than_registers_hold_are_refused() -> None:
    solver = CudaConjugateGradients(2, EmulatedDevice())
    config = TrainConfig(latent_factors=1025)
    with pytest.raises(InputError, match="latent_factors 1025: is above 1024, the most that solver cuda"):
        sweep(solver, InteractionMatrix.from_scipy(random_matrix(4, 4)), config)
