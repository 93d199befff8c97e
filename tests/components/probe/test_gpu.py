"""What the probe makes of the GPUs that the trainer finds, with real programs in place of training."""

from collections.abc import Mapping

import pytest

from components.probe import gpu as module
from components.probe.findings import Finding
from components.probe.gpu import gpu
from trainer.gpus import Gpu, Gpus, Obstacle

HIDDEN = Obstacle("LD_LIBRARY_PATH lacks /usr/local/nvidia/lib64", "set LD_LIBRARY_PATH")


def gpus(count: int, obstacle: Obstacle | None = HIDDEN) -> Gpus:
    device = Gpu("Tesla T4", 15 << 30, (7, 5))
    return Gpus((device,) * count, "535.104.05" if count else "", (0, 0) if obstacle else (12, 2), obstacle)


def trying(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let another program stand in for training, which takes seconds to import."""
    monkeypatch.setattr(module, "_TRY", ("-c", program))


def choosing(monkeypatch: pytest.MonkeyPatch, solver: str, on_gpu: str = "") -> None:
    trying(monkeypatch, f"print({solver!r}); print({on_gpu!r})")


def by_check(found: list[Finding]) -> Mapping[str, Finding]:
    return {one.check: one for one in found}


T4 = "Tesla T4, compute capability 7.5"
CPU, GPU = "ConjugateGradients", "TensorFlowCholesky"


@pytest.mark.parametrize(
    ("devices", "settings", "solver", "chosen", "on_gpu", "statuses"),
    [
        pytest.param(0, 0, "auto", CPU, "", {"gpu": "ok", "solver": "ok"}, id="no GPU"),
        pytest.param(0, 1, "auto", CPU, "", {"gpu": "fix", "solver": "ok"}, id="GPU is missing"),
        pytest.param(
            *(1, 1, "auto", CPU, "", {"gpu": "ok", "gpu library": "fix", "solver": "fix"}),
            id="GPU stays idle",
        ),
        pytest.param(
            *(1, 1, "tensorflow", GPU, "", {"gpu": "ok", "gpu library": "fix", "solver": "fix"}),
            id="TensorFlow does not see the GPU",
        ),
        pytest.param(
            *(1, 2, "auto", GPU, T4, {"gpu": "fix", "gpu library": "fix", "solver": "ok"}),
            id="too few GPUs",
        ),
        pytest.param(
            *(1, 1, "cg", CPU, "", {"gpu": "ok", "gpu library": "fix", "solver": "warning"}),
            id="solver without GPU",
        ),
    ],
)
def test_the_gpu_is_compared_with_the_settings_and_the_solver(
    monkeypatch: pytest.MonkeyPatch,
    devices: int,
    settings: int,
    solver: str,
    chosen: str,
    on_gpu: str,
    statuses: dict[str, str],
) -> None:
    choosing(monkeypatch, chosen, on_gpu)
    found = list(gpu(settings, solver, gpus(devices)))
    assert {one.check: one.status for one in found} == statuses


def test_the_real_solver_trains_on_the_cpu_and_says_so() -> None:
    found = by_check(list(gpu(0, "tensorflow", gpus(0))))["solver"]
    assert found.status == "ok"
    assert found.found.startswith("tensorflow trains with TensorFlowCholesky on ")


@pytest.mark.parametrize("solver", ["auto", "cuda", "cg"])
def test_a_step_that_ranks_does_so_on_the_cpu_and_says_so(solver: str) -> None:
    found = by_check(list(gpu(0, solver, gpus(0), work="rank")))["solver"]
    assert (found.status, found.found) == ("ok", f"{solver} ranks with top_k on the CPU")


@pytest.mark.parametrize(
    ("solver", "on_gpu", "status", "text"),
    [
        ("auto", T4, "ok", "auto ranks with top_k on Tesla T4"),
        ("auto", "", "fix", "auto ranks with top_k on the CPU, and the GPU stays idle"),
        ("tensorflow", "", "warning", "tensorflow does not use the GPU"),
    ],
)
def test_a_step_that_ranks_is_compared_with_its_gpu(
    solver: str, on_gpu: str, status: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    choosing(monkeypatch, "top_k", on_gpu)
    found = by_check(list(gpu(1, solver, gpus(1, None), work="rank")))["solver"]
    assert found.status == status
    assert found.found.startswith(text)


def test_a_library_outside_the_path_is_to_fix_in_the_trainers_words(monkeypatch: pytest.MonkeyPatch) -> None:
    choosing(monkeypatch, CPU)
    found = by_check(list(gpu(1, "auto", gpus(1))))
    assert found["gpu"].found == "Tesla T4 (15 GiB), driver 535.104.05"
    assert (found["gpu library"].found, found["gpu library"].remedy) == (HIDDEN.problem, HIDDEN.remedy)


def test_a_library_that_loads_is_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    choosing(monkeypatch, GPU, T4)
    found = by_check(list(gpu(1, "auto", gpus(1, None))))
    assert {one.status for one in found.values()} == {"ok"}
    assert found["gpu"].found == "Tesla T4 (15 GiB), driver 535.104.05, CUDA 12.2"


@pytest.mark.parametrize(
    ("error", "status", "found"),
    [
        ("the driver is too old", "fix", "auto cannot be used: the driver is too old"),
        ("ModuleNotFoundError: No module named 'numba'", "ok", "not applicable: "),
    ],
)
def test_a_solver_that_cannot_be_made_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, error: str, status: str, found: str
) -> None:
    trying(monkeypatch, f"import sys; sys.exit({error!r})")
    actual = by_check(list(gpu(0, "auto", gpus(0))))["solver"]
    assert actual.status == status
    assert actual.found.startswith(found)


def test_a_driver_that_ends_the_process_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    trying(monkeypatch, "import os; os.abort()")
    actual = by_check(list(gpu(0, "auto", gpus(0))))["solver"]
    assert (actual.status, actual.found) == ("fix", "auto cannot be used: exit code -6")


def test_a_driver_that_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    trying(monkeypatch, "import threading; threading.Event().wait()")
    monkeypatch.setattr(module, "SECONDS", 0.2)
    actual = by_check(list(gpu(0, "auto", gpus(0))))["solver"]
    assert (actual.status, actual.found) == ("fix", "auto: no answer within 0.2 s")
