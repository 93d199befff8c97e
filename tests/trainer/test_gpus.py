"""GPUs are found by device files and the driver's libraries, which tests cannot expect: both are fakes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainer.gpus import Gpu, Gpus, find_gpus

L4 = Gpu("NVIDIA L4", 24 << 30, (8, 9))


class Driver:
    """Loads the libraries of a driver, which write to pointers as the real ones do."""

    def __init__(self, *gpus: Gpu, cuda: int = 12040, fails: bool = False, compute: bool = True) -> None:
        self._gpus, self._cuda, self._fails, self._compute = gpus, cuda, fails, compute

    def __call__(self, name: str) -> Any:
        if name == "libnvidia-ml.so.1":
            return self
        if not self._compute:
            raise OSError(f"{name}: cannot open shared object file")
        return SimpleNamespace(cuDriverGetVersion=lambda out: set_(out, self._cuda))

    def nvmlInit_v2(self) -> int:  # noqa: N802 - the library's names
        return 9 if self._fails else 0

    def nvmlShutdown(self) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802
        return set_(count, len(self._gpus))

    def nvmlSystemGetDriverVersion(self, buffer: Any, size: Any) -> int:  # noqa: N802
        buffer.value = b"550.90.07"
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, number: Any, device: Any) -> int:  # noqa: N802
        return set_(device, number.value + 1)

    def nvmlDeviceGetName(self, device: Any, buffer: Any, size: Any) -> int:  # noqa: N802
        buffer.value = self._gpus[device.value - 1].name.encode()
        return 0

    def nvmlDeviceGetMemoryInfo(self, device: Any, memory: Any) -> int:  # noqa: N802
        memory._obj.total = self._gpus[device.value - 1].memory
        return 0

    def nvmlDeviceGetCudaComputeCapability(self, device: Any, major: Any, minor: Any) -> int:  # noqa: N802
        capability = self._gpus[device.value - 1].capability
        return set_(major, capability[0]) + set_(minor, capability[1])


def set_(pointer: Any, value: int) -> int:
    pointer._obj.value = value
    return 0


def no_library(name: str) -> Any:
    raise OSError(f"{name}: cannot open shared object file")


def machine(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


@pytest.mark.parametrize(
    ("files", "environment"),
    [
        ([], {}),
        (["dev/nvidiactl", "dev/nvidia-uvm", "dev/kfd"], {}),
        ([], {"NVIDIA_VISIBLE_DEVICES": "all"}),
        ([], {"NVIDIA_VISIBLE_DEVICES": "void"}),
        (["dev/nvidia0"], {"CUDA_VISIBLE_DEVICES": ""}),
        (["dev/nvidia0"], {"CUDA_VISIBLE_DEVICES": "-1"}),
    ],
)
def test_a_machine_without_gpus_has_none(
    files: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    assert find_gpus(machine(tmp_path, *files), environment, no_library) == Gpus()


def test_the_driver_names_the_gpus(tmp_path: Path) -> None:
    gpus = find_gpus(machine(tmp_path, "dev/nvidia0", "dev/nvidia1"), {}, Driver(L4, L4))
    assert gpus == Gpus((L4, L4), "550.90.07", (12, 4))
    assert str(gpus) == "2 x NVIDIA L4 (24 GiB), driver 550.90.07"


def test_without_the_drivers_libraries_the_kernel_module_names_them(tmp_path: Path) -> None:
    root = machine(tmp_path, "dev/nvidia0")
    for number, name in enumerate(("Tesla T4", "Tesla T4")):
        folder = root / f"proc/driver/nvidia/gpus/0000:0{number}:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t\t {name}\nIRQ:   \t\t 33\n", "utf-8")
    version = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.183.01  Release Build\n"
    (root / "proc/driver/nvidia/version").write_text(version, "utf-8")
    gpus = find_gpus(root, {}, no_library)
    # The machine has two, and this container was given one of them.
    assert (gpus.devices, gpus.driver) == ((Gpu("Tesla T4"),), "535.183.01")


@pytest.mark.parametrize(
    ("files", "environment", "load", "problem", "remedy"),
    [
        (
            ["dev/nvidia0", "usr/local/nvidia/lib64/libcuda.so.1"],
            {},
            no_library,
            "LD_LIBRARY_PATH lacks /usr/local/nvidia/lib64",
            "set LD_LIBRARY_PATH=/usr/local/nvidia/lib64",
        ),
        (["dev/nvidia0"], {}, no_library, "libcuda.so.1 cannot be loaded", "set LD_LIBRARY_PATH"),
        (["dev/nvidia0"], {}, Driver(L4, compute=False), "libcuda.so.1 cannot be loaded", "LD_LIBRARY_PATH"),
        ([], {"NVIDIA_VISIBLE_DEVICES": "GPU-1, GPU-2"}, no_library, "no device files", "NVIDIA's container"),
        (["dev/nvidia0"], {}, Driver(L4, fails=True), "", ""),
    ],
)
def test_gpus_that_no_program_can_use_say_why(
    files: list[str], environment: dict[str, str], load: Any, problem: str, remedy: str, tmp_path: Path
) -> None:
    gpus = find_gpus(machine(tmp_path, *files), environment, load)
    assert gpus.devices
    if not problem:
        assert gpus.obstacle is None
        return
    assert gpus.obstacle is not None
    assert problem in gpus.obstacle.problem
    assert remedy in gpus.obstacle.remedy
