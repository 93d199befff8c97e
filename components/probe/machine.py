"""What a step has of its machine: cores, memory and local disk, against the settings."""

import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from components.probe.files import speed
from components.probe.findings import Finding, fix, ok, warning
from trainer.threads import usable_cores

_ROOT = Path("/")
# Machines keep a part of their memory for themselves.
_TOLERANCE = 0.9
_SMALL_DISK = 10 * 10**9
_UNLIMITED = 1 << 60


def cores(settings: float, root: Path = _ROOT) -> Iterator[Finding]:
    """Compare the cores that the process may use with the settings, and with those that it sees.

    Args:
        settings: cores in the settings; 0 if they do not say, as with a custom job's machine type.
        root: folder of ``proc`` and ``sys``.
    """
    seen, quota = usable_cores(), cpu_quota(root)
    usable = min(seen, quota or seen)
    text = f"{usable:g} cores"
    if usable < settings * _TOLERANCE:
        yield warning(
            "cores",
            f"{text}, where the settings say {settings:g}",
            "use a larger node, or lower cpu in the settings",
        )
    else:
        yield ok("cores", f"{text}{f', {settings:g} in the settings' if settings else ''}")
    if quota and seen > math.ceil(quota):
        yield warning(
            "threads",
            f"the process sees {seen} cores but may use {quota:g}, so its threads wait for each other",
            f"set num_threads to {math.ceil(quota)}, or raise cpu",
        )


def memory(settings: int, root: Path = _ROOT) -> Iterator[Finding]:
    """Compare the memory that the process may use with the settings.

    Args:
        settings: bytes in the settings; 0 if they do not say.
        root: folder of ``proc`` and ``sys``.
    """
    limit = memory_limit(root)
    text = f"{limit / 10**9:.1f} GB of memory"
    if limit < settings * _TOLERANCE:
        yield warning(
            "memory",
            f"{text}, where the settings say {settings / 10**9:.1f}",
            "use a larger node, or lower memory in the settings",
        )
    else:
        yield ok("memory", f"{text}{f', {settings / 10**9:.1f} in the settings' if settings else ''}")


def disk(size: int, seconds: float) -> Iterator[Finding]:
    """Write to the folder for temporary files, as steps do that sort or copy data.

    Args:
        size: bytes to write.
        seconds: time after which to stop writing.
    """
    folder = Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    try:
        measured = speed(folder, size, seconds)
    except OSError as error:
        yield fix(
            "local disk",
            f"{folder} cannot be written ({error.strerror})",
            f"mount a volume there that uid {os.geteuid()} may write",
        )
        return
    text = f"{free / 10**9:.0f} GB free in {folder}, {measured}"
    if free < _SMALL_DISK:
        yield warning("local disk", text, "give the step a larger disk if its data do not fit in memory")
    else:
        yield ok("local disk", text)


def cpu_quota(root: Path = _ROOT) -> float:
    """Return the cores that the process's control groups allow; 0 if there is no limit."""
    quotas = []
    for folder in _groups(root, "cpu"):
        quota, period = [*_numbers(folder / "cpu.max"), 0, 0][:2]
        if not quota:
            (quota, period) = (
                next(iter(_numbers(folder / f"cpu.cfs_{name}_us")), 0) for name in ("quota", "period")
            )
        if quota > 0 and period:
            quotas.append(quota / period)
    return min(quotas, default=0.0)


def memory_limit(root: Path = _ROOT) -> int:
    """Return the bytes that the process's control groups allow; those of the machine if there is no limit."""
    limits = [
        limit
        for folder in _groups(root, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        for limit in _numbers(folder / name)
        if limit < _UNLIMITED
    ]
    lines = (root / "proc" / "meminfo").read_text("utf-8").splitlines()
    total = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:"))
    return min([*limits, total])


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the process's control groups, of both versions, up to the topmost."""
    mounted = root / "sys" / "fs" / "cgroup"
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    for line in [*lines, f"0:{controller}:/", "0::/"]:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = mounted / controllers if controllers else mounted
        folder = top / path.strip("/")
        while folder != top.parent:
            yield folder
            folder = folder.parent


def _numbers(file: Path) -> list[int]:
    """Return the numbers in a file; none if it is missing, or says ``max``."""
    try:
        words = file.read_text("utf-8").split()
    except OSError:
        return []
    return [int(word) for word in words] if all(word.lstrip("-").isdigit() for word in words) else []
