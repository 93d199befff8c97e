"""GPUs, from files as the driver writes them, and programs as it installs them."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from components.probe import gpu as module
from components.probe.findings import Finding
from components.probe.gpu import driver_of, gpu

VERSIONS = {
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version": (
        "535.104.05"
    ),
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build": "550.54.15",
    "": "",
}
INFORMATION = "Model: \t\t Tesla T4\nIRQ:   \t\t 36\n"


@pytest.fixture(autouse=True)
def _without_a_driver_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LIBRARY", "libno-such-driver.so.1")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


def trying(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let another program stand in for training, which takes seconds to import."""
    monkeypatch.setattr(module, "_TRY", ("-c", program))


def choosing(monkeypatch: pytest.MonkeyPatch, solver: str, gpu: str = "") -> None:
    trying(monkeypatch, f"print({solver!r}); print({gpu!r})")


def system(root: Path, devices: int = 1, *, mounted: bool = False) -> Path:
    (root / "dev").mkdir(parents=True)
    for name in ["nvidiactl", "nvidia-uvm", *(f"nvidia{number}" for number in range(devices))]:
        (root / "dev" / name).touch()
    for number in range(devices):
        folder = root / "proc/driver/nvidia/gpus" / f"0000:00:0{number}.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text(INFORMATION, "utf-8")
    if mounted:
        (root / "usr/local/nvidia/lib64").mkdir(parents=True)
        (root / "usr/local/nvidia/lib64" / module._LIBRARY).touch()
    return root


def by_check(found: list[Finding]) -> Mapping[str, Finding]:
    return {one.check: one for one in found}


@pytest.mark.parametrize("text", VERSIONS)
def test_devices_names_and_version_come_from_the_kernels_driver(tmp_path: Path, text: str) -> None:
    root = system(tmp_path, 2)
    (root / "proc/driver/nvidia/version").write_text(text, "utf-8")
    driver = driver_of(root)
    assert driver.devices == ["dev/nvidia0", "dev/nvidia1"]
    assert driver.names == ["Tesla T4", "Tesla T4"]
    assert driver.version == VERSIONS[text]


def test_the_drivers_own_program_also_says_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'Tesla T4, 535.104.05, 15360 MiB'\n", "utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    assert driver_of(system(tmp_path / "root")).names == ["Tesla T4, 535.104.05, 15360 MiB"]
    program.write_text("#!/bin/sh\nexit 9\n", "utf-8")
    assert driver_of(system(tmp_path / "other")).names == ["Tesla T4"]


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
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    devices: int,
    settings: int,
    solver: str,
    chosen: str,
    on_gpu: str,
    statuses: dict[str, str],
) -> None:
    choosing(monkeypatch, chosen, on_gpu)
    found = list(gpu(settings, solver, system(tmp_path, devices)))
    assert {one.check: one.status for one in found} == statuses


def test_the_real_solver_trains_on_the_cpu_and_says_so(tmp_path: Path) -> None:
    found = by_check(list(gpu(0, "tensorflow", system(tmp_path, 0))))["solver"]
    assert found.status == "ok"
    assert found.found.startswith("tensorflow trains with TensorFlowCholesky on ")


def test_a_library_outside_the_path_is_named_with_the_variable_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choosing(monkeypatch, "ConjugateGradients")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    found = by_check(list(gpu(1, "auto", system(tmp_path, mounted=True))))["gpu library"]
    folder = tmp_path / "usr/local/nvidia/lib64"
    assert found.found == f"{module._LIBRARY} is in {folder}, which is not in LD_LIBRARY_PATH (empty)"
    assert found.remedy == f"build the image with LD_LIBRARY_PATH={folder}"


def test_a_library_in_the_path_that_does_not_load_is_to_fix_with_the_loaders_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choosing(monkeypatch, CPU)
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/lib:{tmp_path}/usr/local/nvidia/lib64")
    found = by_check(list(gpu(1, "auto", system(tmp_path, mounted=True))))["gpu library"]
    assert found.status == "fix"
    assert found.found.startswith(f"{module._LIBRARY} cannot be loaded: {module._LIBRARY}: ")


def test_a_library_that_loads_is_ok(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choosing(monkeypatch, GPU, T4)
    monkeypatch.setattr(module, "_LIBRARY", "libc.so.6")
    found = list(gpu(1, "auto", system(tmp_path)))
    assert {one.check: one.status for one in found} == {"gpu": "ok", "gpu library": "ok", "solver": "ok"}


@pytest.mark.parametrize(
    ("error", "status", "found"),
    [
        ("the driver is too old", "fix", "auto cannot be used: the driver is too old"),
        ("ModuleNotFoundError: No module named 'numba'", "ok", "not applicable: "),
    ],
)
def test_a_solver_that_cannot_be_made_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str, status: str, found: str
) -> None:
    trying(monkeypatch, f"import sys; sys.exit({error!r})")
    actual = by_check(list(gpu(0, "auto", system(tmp_path, 0))))["solver"]
    assert actual.status == status
    assert actual.found.startswith(found)


def test_a_driver_that_ends_the_process_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trying(monkeypatch, "import os; os.abort()")
    actual = by_check(list(gpu(0, "auto", system(tmp_path, 0))))["solver"]
    assert (actual.status, actual.found) == ("fix", "auto cannot be used: exit code -6")


def test_a_driver_that_hangs_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trying(monkeypatch, "import threading; threading.Event().wait()")
    monkeypatch.setattr(module, "SECONDS", 0.2)
    actual = by_check(list(gpu(0, "auto", system(tmp_path, 0))))["solver"]
    assert (actual.status, actual.found) == ("fix", "auto: no answer within 0.2 s")
