"""Whether a GPU can be used, and what the kernels take of it: by the real CuPy and its compiler."""

import importlib.util
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from benchmarks.gpu_resources import ARCHITECTURES, ranking_resources, resources
from trainer import solvers
from trainer.config import TrainConfig
from trainer.errors import InputError, WalsError, translated
from trainer.gpus import Gpu, Gpus, Obstacle
from trainer.solvers import make_solver
from trainer.solvers.cg import ConjugateGradients
from trainer.solvers.cuda import KERNELS, device, library, topk
from trainer.solvers.cuda.layout import Tuning

T4 = Gpus((Gpu("Tesla T4", 16 << 30, (7, 5)),), "550.90.07", (12, 4))

# Between the oldest and the newest.
MIDDLE = [name for name in ARCHITECTURES if name not in ("sm_75", "sm_120")]

requires_cupy = pytest.mark.skipif(
    importlib.util.find_spec("cupy") is None, reason="CuPy has no wheels for this machine"
)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Gpus], None]]:
    """Return a function that gives this machine GPUs, as an image's container has them."""
    solvers._automatic.cache_clear()
    monkeypatch.setenv("WALS_ACCELERATOR", "gpu")
    yield lambda gpus: monkeypatch.setattr(solvers, "find_gpus", lambda: gpus)
    solvers._automatic.cache_clear()


@requires_cupy
@pytest.mark.parametrize(
    ("gpus", "reported"),
    [
        (replace(T4, obstacle=Obstacle("it is broken", "fix it")), r": it is broken; fix it"),
        (
            replace(T4, cuda=(11, 4)),
            r"cannot use Tesla T4 \(16 GiB\), driver 550\.90\.07: the driver supports CUDA 11\.4, "
            r"and CuPy needs 12; install a newer driver",
        ),
        # As in this environment.
        (
            T4,
            r"a library of CUDA is not installed \(.*libcublas.*\); use an image built with ACC.*",
        ),
    ],
)
def test_a_gpu_is_not_left_idle(gpus: Gpus, reported: str, given: Callable[[Gpus], None]) -> None:
    given(gpus)
    for name in ("auto", "cuda"):
        with pytest.raises(InputError, match=f"^solver '{name}': .*{reported}; or set solver to cg"):
            make_solver(TrainConfig(solver=name))
    assert isinstance(make_solver(TrainConfig(solver="cg")), ConjugateGradients)


def test_cuda_without_a_gpu_is_refused(given: Callable[[Gpus], None]) -> None:
    given(Gpus())
    with pytest.raises(InputError, match=r"^solver 'cuda': this machine has no NVIDIA GPU, or CUDA_VIS"):
        make_solver(TrainConfig(solver="cuda"))


def test_auto_without_cupy_is_refused_in_an_image_only(
    given: Callable[[Gpus], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given(T4)
    for module in (solvers, library):
        monkeypatch.setattr(module, "cupy_is_installed", lambda: False)
    with pytest.raises(
        InputError, match="CuPy is not installed; use an image built with ACCELERATOR=gpu, or pip"
    ):
        make_solver(TrainConfig(solver="auto"))
    monkeypatch.delenv("WALS_ACCELERATOR")
    solvers._automatic.cache_clear()
    caplog.clear()
    assert isinstance(make_solver(TrainConfig(solver="auto")), ConjugateGradients)
    (message,) = caplog.messages
    assert message.startswith("solver cg, because CuPy, which Tesla T4 (16 GiB), driver 550.90.07 requires")


@requires_cupy
@pytest.mark.parametrize(
    ("code", "told"),
    [
        # What it says here, where there is no driver.
        (0, r"its driver does not fit CuPy \(cudaErrorInsufficientDriver: .*\); install a newer driver"),
        (46, "another program has it for itself, in the exclusive compute mode; end that program, or set"),
        (999, r"CUDA refuses it \(cudaErrorUnknown: .*\); check it with nvidia-smi"),
    ],
)
def test_what_cuda_refuses_is_told(code: int, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = library.cupy()

    def refuse(size: int) -> None:
        raise cupy.cuda.runtime.CUDARuntimeError(code)

    if code:
        monkeypatch.setattr(cupy, "zeros", refuse)
    obstacle = library.cupy_obstacle(T4, ())
    assert obstacle is not None
    assert re.match(told, f"{obstacle.problem}; {obstacle.remedy}")


@requires_cupy
def test_failures_of_the_device_are_told_in_a_line() -> None:
    cuda = library.cupy().cuda
    rules = device.failures("L4 (22 GiB)", cuda.memory.OutOfMemoryError, cuda.compiler.CompileException)
    for error, told in (
        (
            cuda.runtime.CUDARuntimeError(719),
            r"^L4 \(22 GiB\) failed: cudaErrorLaunchFailure: .*nvidia-smi",
        ),
        (
            cuda.memory.OutOfMemoryError(1 << 30, 0),
            r"^L4 \(22 GiB\) has no memory left: .*; end other",
        ),
        (
            cuda.compiler.CompileException("bad", "", "kernels.cu", ()),
            r"cannot be compiled: .*; set solver to cg$",
        ),
    ):
        with pytest.raises(WalsError, match=told) as told_as, translated(*rules):
            raise error
        assert told_as.value.exit_code == 1


@requires_cupy
@pytest.mark.parametrize(
    ("architecture", "d", "half"),
    [
        ("sm_75", 128, False),
        ("sm_90", 256, True),
        *(pytest.param(name, 128, False, marks=pytest.mark.slow) for name in (*MIDDLE, "sm_120")),
    ],
)
def test_kernels_compile_for_every_gpu_without_spills(architecture: str, d: int, half: bool) -> None:
    generation = ARCHITECTURES[architecture]
    kernels = resources(architecture, d, Tuning(half=half))
    assert set(kernels) == set(KERNELS)
    for name, taken in kernels.items():
        assert taken.spilled == 0, name
        # Enough warps to wait for memory in turns.
        assert taken.resident(generation) >= 16, name


@requires_cupy
@pytest.mark.parametrize("k", [10, 100, topk.MAX_K])
@pytest.mark.parametrize(
    "architecture",
    [*("sm_75", "sm_120"), *(pytest.param(name, marks=pytest.mark.slow) for name in MIDDLE)],
)
def test_selecting_compiles_for_every_gpu_without_spills(architecture: str, k: int) -> None:
    kernels = ranking_resources(architecture, k)
    assert set(kernels) == set(topk.KERNELS)
    for name, taken in kernels.items():
        assert taken.spilled == 0, name
        assert taken.resident(ARCHITECTURES[architecture]) >= 8, name
