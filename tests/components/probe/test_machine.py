"""Cores, memory and disk against the settings, from files as the kernel writes them."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from components.probe import machine
from components.probe.findings import Finding
from components.probe.machine import cores, cpu_quota, disk, memory, memory_limit

MEMINFO = "MemTotal:       64000000 kB\nMemFree:        1000 kB\n"
TOTAL = 64_000_000 * 1024
V2, V1 = "0::/pod/step\n", "5:cpu,cpuacct:/pod\n4:memory:/pod\n"
GROUP = "sys/fs/cgroup"


def system(root: Path, files: Mapping[str, str]) -> Path:
    for name, content in {"proc/meminfo": MEMINFO, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")
    return root


@pytest.mark.parametrize(
    ("files", "quota", "limit"),
    [
        pytest.param({}, 0.0, TOTAL, id="no groups"),
        pytest.param(
            {f"{GROUP}/cpu.max": "max 100000\n", f"{GROUP}/memory.max": "max\n"}, 0.0, TOTAL, id="max"
        ),
        pytest.param(
            {f"{GROUP}/cpu.max": "150000 100000\n", f"{GROUP}/memory.max": "2000000000\n"},
            *(1.5, 2_000_000_000),
            id="own name space",
        ),
        pytest.param(
            {
                "proc/self/cgroup": V2,
                f"{GROUP}/pod/cpu.max": "200000 100000\n",
                f"{GROUP}/pod/step/cpu.max": "max 100000\n",
                f"{GROUP}/pod/step/memory.max": "max\n",
                f"{GROUP}/pod/memory.max": "3000000000\n",
            },
            *(2.0, 3_000_000_000),
            id="the group around it",
        ),
        pytest.param(
            {
                "proc/self/cgroup": V1,
                f"{GROUP}/cpu,cpuacct/pod/cpu.cfs_quota_us": "50000\n",
                f"{GROUP}/cpu,cpuacct/pod/cpu.cfs_period_us": "100000\n",
                f"{GROUP}/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                f"{GROUP}/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                f"{GROUP}/memory/pod/memory.limit_in_bytes": "1000000000\n",
                f"{GROUP}/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            *(0.5, 1_000_000_000),
            id="version 1",
        ),
    ],
)
def test_the_tightest_limit_counts(tmp_path: Path, files: dict[str, str], quota: float, limit: int) -> None:
    root = system(tmp_path, files)
    assert (cpu_quota(root), memory_limit(root)) == (quota, limit)


@pytest.mark.parametrize(
    ("seen", "quota", "settings", "found"),
    [
        (8, "max", 8.0, [("cores", "ok", "8 cores, 8 in the settings")]),
        (8, "max", 0.0, [("cores", "ok", "8 cores")]),
        (4, "max", 8.0, [("cores", "warning", "4 cores, where the settings say 8")]),
        (
            *(64, "100000", 1.0),
            [
                ("cores", "ok", "1 cores, 1 in the settings"),
                ("threads", "warning", "the process sees 64 cores but may use 1"),
            ],
        ),
    ],
)
def test_cores_are_compared_with_the_settings(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seen: int,
    quota: str,
    settings: float,
    found: list[tuple[str, str, str]],
) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: seen)
    root = system(tmp_path, {f"{GROUP}/cpu.max": f"{quota} 100000\n"})
    actual = list(cores(settings, root))
    assert [(one.check, one.status) for one in actual] == [one[:2] for one in found]
    assert all(one.found.startswith(text) for one, (_, _, text) in zip(actual, found, strict=True))


@pytest.mark.parametrize(
    ("limit", "settings", "status"),
    [("2000000000", 2 * 10**9, "ok"), ("1900000000", 2 * 10**9, "ok"), ("1000000000", 2 * 10**9, "warning"),
     ("1000000000", 0, "ok"), ("max", 100 * 10**9, "warning")],
)  # fmt: skip
def test_memory_is_compared_with_the_settings(tmp_path: Path, limit: str, settings: int, status: str) -> None:
    (found,) = memory(settings, system(tmp_path, {f"{GROUP}/memory.max": f"{limit}\n"}))
    assert found.status == status
    assert "GB of memory" in found.found


def test_this_machine_has_cores_and_memory() -> None:
    found: list[Finding] = [*cores(0.0), *memory(0)]
    assert {"cores", "memory"} <= {one.check for one in found}
    assert memory_limit() > 10**8


def test_the_local_disk_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(machine, "_SMALL_DISK", 0)
    (found,) = disk(1 << 20, 5)
    assert found.status == "ok"
    assert f"GB free in {tmp_path}, writes " in found.found
    monkeypatch.setattr(machine, "_SMALL_DISK", 1 << 60)
    (small,) = disk(1 << 20, 5)
    assert small.status == "warning"


def test_a_disk_that_cannot_be_written_is_to_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc/self")
    (found,) = disk(1 << 20, 5)
    assert (found.check, found.status) == ("local disk", "fix")
    assert f"uid {os.geteuid()}" in found.remedy
