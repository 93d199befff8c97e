"""Ranking on a GPU without one: the very kernel runs on the CPU, with NumPy in place of CuPy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.trainer.emulation.device import H100, EmulatedDevice
from trainer import solvers
from trainer.config import TrainConfig
from trainer.errors import InputError, WalsError
from trainer.gpus import Gpus, Obstacle
from trainer.matrix import Shard
from trainer.model import Model, Seen
from trainer.ranking import ranking_as_trained, top_k
from trainer.rules import NO_RULES, Rules
from trainer.solvers.cuda.memory import Scores
from trainer.solvers.cuda.topk import KERNELS, MAX_K, SOURCE, CudaTopK, Selection
from trainer.vocabulary import Vocabulary

pytestmark = pytest.mark.usefixtures("compiler")

AUTO = TrainConfig(latent_factors=4)
SLOTS = Selection().slots(10)
GIB = 1 << 30


def hidden(random: np.random.Generator, rows: int, items: int, share: float) -> Shard:
    """Return rows with a share of the items, all of which the last row has."""
    chosen = random.random((rows, items)) < share
    chosen[-1] = True
    indptr = np.concatenate([[0], np.cumsum(chosen.sum(axis=1))])
    return Shard(0, indptr, np.nonzero(chosen)[1].astype(np.int32), np.ones(int(indptr[-1]), np.float32))


def sorted_lists(scores: np.ndarray, k: int, masked: Shard) -> tuple[np.ndarray, np.ndarray]:
    """Return the k items of each row with the highest scores, the smaller index first among equals."""
    indices = np.full((len(scores), k), -1, np.int32)
    best = np.full((len(scores), k), -np.inf, np.float32)
    for i, row in enumerate(scores):
        row[masked.indices[masked.indptr[i] : masked.indptr[i + 1]]] = -np.inf
        order = np.argsort(-row, kind="stable")[:k]
        order = order[row[order] > -np.inf]
        indices[i, : len(order)], best[i, : len(order)] = order, row[order]
    return indices, best


# How the scores of 3 queries develop with the number of the item.
SCORES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "random": lambda random, items: random.standard_normal((3, items)),
    "few values": lambda random, items: random.integers(-2, 3, (3, items)),
    "equal": lambda random, items: np.full((3, items), -1.0),
    "better and better": lambda random, items: np.arange(items) + np.zeros((3, 1)),
    "worse and worse": lambda random, items: -np.arange(items) + np.zeros((3, 1)),
    "infinite": lambda random, items: random.choice([-np.inf, -1.0, 1.0, np.inf], (1, items)),
}


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize(
    ("items", "k"),
    [(0, 3), (1, 1), (5, 9), (SLOTS - 1, 10), (SLOTS, 10), (SLOTS + 1, 10), (9_003, 100), (9_001, MAX_K)],
)
def test_lists_are_those_of_a_sort_and_of_the_cpu(items: int, k: int, kind: str, backwards: bool) -> None:
    random = np.random.default_rng(items)
    scores = SCORES[kind](random, items).astype(np.float32)
    # Products with unit vectors, or with 1, where further terms of 0 would make infinite ones no numbers.
    queries = np.eye(3, dtype=np.float32) if len(scores) == 3 else np.ones((3, 1), np.float32)
    factors = np.ascontiguousarray(scores.T)
    masked = hidden(random, 3, items, 0.2)
    found = CudaTopK(EmulatedDevice(backwards=backwards)).top_k(queries, factors, k, masked)
    assert found is not None
    expected = sorted_lists(queries @ factors.T, k, masked)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    if kind != "infinite":
        np.testing.assert_array_equal(found[0], top_k(queries, factors, k, masked=masked)[0])


@pytest.mark.parametrize(
    ("scores", "listed"),
    [
        pytest.param([1.0, np.nan, -np.nan, 3.0], [3, 0, -1, -1], id="no numbers"),
        # BLAS of the CPU makes no -0, that of a GPU may.
        pytest.param([-0.0, 0.0, -0.0, 0.0], [0, 1, 2, 3], id="zeros of both signs"),
    ],
)
def test_scores_that_compare_oddly_are_ranked_as_by_the_cpu(scores: list[float], listed: list[int]) -> None:
    selection, k = Selection(), 4
    kernels = EmulatedDevice().compile(SOURCE.read_text("utf-8"), KERNELS, selection.macros(k))
    indices, best = np.empty((1, k), np.int32), np.empty((1, k), np.float32)
    nothing = np.zeros(2, np.int64), np.zeros(0, np.int32)
    row = np.array(scores, np.float32)
    arguments = (row, np.int32(4), np.int32(4), *nothing, np.int32(k), indices, best)
    kernels.launch("select_best", 1, selection.threads, arguments, shared=selection.shared_bytes(k))
    assert indices.tolist() == [listed]


def with_seen(users: int, items: int, d: int = 4) -> Model:
    random = np.random.default_rng(1)
    seen = hidden(random, users, items, 0.1)
    return Model(
        TrainConfig(latent_factors=d),
        random.standard_normal((users, d), np.float32),
        random.standard_normal((items, d), np.float32),
        Vocabulary.of_range(users),
        Vocabulary.of_range(items),
        Seen(seen.indptr, seen.indices),
    )


def some(items: int) -> np.ndarray:
    return np.arange(1, items, 2, dtype=np.int32)


RULES = {
    "none": NO_RULES,
    "some items": Rules(eligible=some(700)),
    "scores": Rules(min_score=0.5),
    "some items and scores": Rules(eligible=some(700), min_score=0.5),
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_a_model_ranks_on_the_gpu_within_the_rules(
    rules: Rules, gpu: Callable[[EmulatedDevice], None], caplog: pytest.LogCaptureFixture
) -> None:
    model, device = with_seen(20, 700), EmulatedDevice()
    expected = model.recommend(np.arange(20), 30, rules=rules), model.similar_items([3, 5], 30, rules=rules)
    gpu(device)
    caplog.set_level("INFO")
    with ranking_as_trained(model.config):
        # In blocks, as publishing does.
        blocks = [model.recommend(np.arange(first, first + 5), 30, rules=rules) for first in (0, 5, 10, 15)]
        similar = model.similar_items([3, 5], 30, rules=rules)
    recommended = [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
    for ours, theirs in zip((*recommended, *similar), (*expected[0], *expected[1]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert [name for kernels in device.compiled for name in kernels.launched] == ["select_best"] * 5
    # The items were copied once for the users, and once for the items.
    assert [message[:11] for message in caplog.messages] == ["ranking on ", "GPU memory:", "GPU memory:"]


def test_after_the_context_the_cpu_ranks(gpu: Callable[[EmulatedDevice], None]) -> None:
    model, device = with_seen(3, 50), EmulatedDevice()
    gpu(device)
    with ranking_as_trained(model.config):
        pass
    model.recommend([0], 3)
    assert not device.compiled


def test_two_models_stay_on_the_gpu_and_a_third_takes_the_place_of_the_first(
    gpu: Callable[[EmulatedDevice], None], caplog: pytest.LogCaptureFixture
) -> None:
    gpu(EmulatedDevice())
    caplog.set_level("INFO")
    models = [with_seen(2, 40 + number) for number in range(3)]
    copied = []
    with ranking_as_trained(AUTO):
        for number in (0, 1, 0, 1, 2, 1, 0):
            caplog.clear()
            models[number].recommend([0], 3)
            copied.append(len(caplog.messages))
    assert copied == [1, 1, 0, 0, 1, 0, 1]


def test_a_gpu_without_room_for_all_users_ranks_in_blocks() -> None:
    model = with_seen(100, 700)
    size = Scores(700, 4, 30, 700)
    device = EmulatedDevice(memory=GIB + size.item_bytes() + 45 * size.query_bytes())
    masked = model.seen.rows(np.arange(100))
    found = CudaTopK(device).top_k(model.user_factors, model.item_factors, 30, masked)
    assert found is not None
    np.testing.assert_array_equal(found[0], model.recommend(np.arange(100), 30)[0])
    assert len(device.compiled[0].launched) == 3


@pytest.mark.parametrize(
    ("size", "free", "block"),
    [
        # MovieLens 20M: scores of 1 GiB at once.
        (Scores(26_744, 128, 100, 9_254), 79 * GIB, 10_037),
        (Scores(26_744, 128, 100, 9_254), 2 * GIB, 7_294),
        # A list of 10 million items: 40 MB of scores for each user.
        (Scores(10_000_000, 128, 10, 100_000), 14 * GIB, 32),
        (Scores(10_000_000, 128, 10, 100_000), 6 * GIB, 0),
    ],
)
def test_as_many_users_are_ranked_at_once_as_fit(size: Scores, free: int, block: int) -> None:
    assert size.block(free, GIB, uploaded=False) == block


LEFT: dict[str, tuple[int, Rules, int, str]] = {
    "quota": (
        *(3, Rules(categories=np.zeros(50, np.int32), max_per_category=2), 4 * GIB),
        "ranking on the CPU: max_per_category is not supported on GPUs",
    ),
    "long lists": (
        *(MAX_K + 1, NO_RULES, 4 * GIB),
        "ranking on the CPU: lists of more than 1,024 items are not supported on GPUs",
    ),
    "memory": (
        *(3, NO_RULES, GIB // 2),
        "ranking on the CPU: an emulated GPU (0 GiB) has no room for the factors of 50 items",
    ),
}


@pytest.mark.parametrize(("k", "rules", "memory", "told"), LEFT.values(), ids=LEFT)
def test_what_the_gpu_does_not_rank_is_left_to_the_cpu_and_told_once(
    k: int,
    rules: Rules,
    memory: int,
    told: str,
    gpu: Callable[[EmulatedDevice], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    model, device = with_seen(4, 50), EmulatedDevice(memory=memory)
    expected = model.recommend(np.arange(4), k, rules=rules)
    gpu(device)
    caplog.set_level("INFO")
    with ranking_as_trained(model.config):
        caplog.clear()
        for _ in range(2):
            found = model.recommend(np.arange(4), k, rules=rules)
    np.testing.assert_array_equal(found[0], expected[0])
    assert caplog.messages == [told]
    assert not device.compiled


BROKEN = Gpus(H100.devices, H100.driver, obstacle=Obstacle("it is broken", "fix it"))
# Whether a GPU ranks: by the solver, the GPUs, whether CuPy is installed, and whether this is an image.
CHOICES: list[tuple[str, Gpus, bool, bool, bool]] = [
    ("auto", H100, True, False, True),
    ("cuda", H100, True, False, True),
    ("cg", H100, True, False, False),
    ("tensorflow", H100, True, False, False),
    ("cg", BROKEN, True, True, False),
    ("auto", Gpus(), True, False, False),
    # The model was trained elsewhere.
    ("cuda", Gpus(), True, True, False),
    ("auto", H100, False, False, False),
]


@pytest.mark.parametrize(("solver", "gpus", "cupy", "in_image", "ranks"), CHOICES)
def test_the_gpu_ranks_where_training_would_take_it(
    solver: Any,
    gpus: Gpus,
    cupy: bool,
    in_image: bool,
    ranks: bool,
    gpu: Callable[[EmulatedDevice], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, device = with_seen(4, 50), EmulatedDevice()
    gpu(device)
    monkeypatch.setattr(solvers, "find_gpus", lambda: gpus)
    monkeypatch.setattr(solvers, "cupy_is_installed", lambda: cupy)
    if in_image:
        monkeypatch.setenv("WALS_ACCELERATOR", "cpu")
    with ranking_as_trained(TrainConfig(latent_factors=4, solver=solver)):
        model.recommend([0], 3)
    assert bool(device.compiled) == ranks


@pytest.mark.parametrize(
    ("solver", "gpus", "cupy", "told"),
    [
        ("auto", BROKEN, True, r"it is broken; fix it"),
        ("cuda", BROKEN, True, r"it is broken; fix it"),
        # As an image for CPUs.
        ("auto", H100, False, r"CuPy is not installed; use an image built with ACCELERATOR=gpu"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_refused(
    solver: Any, gpus: Gpus, cupy: bool, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solvers, "find_gpus", lambda: gpus)
    monkeypatch.setenv("WALS_ACCELERATOR", "cpu")
    for module in (solvers, solvers.cuda.library):
        monkeypatch.setattr(module, "cupy_is_installed", lambda: cupy)
    remedy = "or give this step no GPU, or train with solver cg, to rank on the CPU"
    with (
        pytest.raises(InputError, match=f"^solver '{solver}': cannot use NVIDIA H100 .*{told}.*; {remedy}$"),
        ranking_as_trained(TrainConfig(solver=solver)),
    ):
        pass


def test_a_gpu_that_is_lost_is_told(gpu: Callable[[EmulatedDevice], None]) -> None:
    gpu(EmulatedDevice(launches=0))
    with ranking_as_trained(AUTO), pytest.raises(WalsError, match=r"^an emulated GPU .* failed: cudaError"):
        with_seen(4, 50).recommend([0], 3)
