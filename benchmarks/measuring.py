"""What a process and its children take of the machine: seconds, cores, memory and disk."""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PROC = Path("/proc")
# Unit of st_blocks, whatever the blocks of the file system are.
_BLOCK = 512
_INTERVAL_SECONDS = 0.1
_DISK_INTERVAL_SECONDS = 0.5


@dataclass
class Usage:
    """What a process took.

    Attributes:
        seconds: from start to end.
        cpu_seconds: of all cores, with its children.
        peak_bytes: largest resident memory of one of the processes, with the pages of files that it maps.
        disk_bytes: most bytes on disk at a time, in the folder and in deleted files that are still open.
        printed: what it printed.
        peaks: largest resident memory of the processes by the name that ``name_of`` gave them.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    disk_bytes: int = 0
    printed: str = ""
    peaks: dict[str, int] = field(default_factory=dict)


def measure(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    folder: Path | None = None,
    name_of: Callable[[list[str]], str] = lambda _: "",
) -> Usage:
    """Run a command to its end.

    Args:
        command: the command; what it prints is kept, and shown if it fails.
        environment: all of its environment variables.
        folder: folder whose size is watched; none if omitted.
        name_of: function that names a process by its command line; "" for one of no interest.

    Raises:
        SystemExit: the command failed.
    """
    usage = Usage()
    start = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    ended = threading.Event()
    watches = [threading.Thread(target=_watch_memory, args=(process.pid, name_of, usage, ended))]
    if folder:
        watches.append(threading.Thread(target=_watch_disk, args=(process.pid, folder, usage, ended)))
    for watch in watches:
        watch.start()
    usage.printed = process.stdout.read() if process.stdout else ""
    _, status, resources = os.wait4(process.pid, 0)
    usage.seconds = time.perf_counter() - start
    ended.set()
    for watch in watches:
        watch.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{usage.printed}\n{' '.join(command)[:200]} failed with {process.returncode}")
    usage.cpu_seconds = resources.ru_utime + resources.ru_stime
    # The kernel's own figure, which also has what happened between two looks.
    usage.peak_bytes = resources.ru_maxrss * 1024
    return usage


def _watch_memory(
    parent: int, name_of: Callable[[list[str]], str], usage: Usage, ended: threading.Event
) -> None:
    while not ended.wait(_INTERVAL_SECONDS):
        for process in _family(parent):
            with contextlib.suppress(OSError, ValueError, StopIteration):
                line = (_PROC / str(process) / "cmdline").read_bytes().decode("utf-8", "replace")
                if name := name_of(line.split("\0")):
                    status = (_PROC / str(process) / "status").read_text("utf-8")
                    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
                    usage.peaks[name] = max(usage.peaks.get(name, 0), int(peak) * 1024)


def _watch_disk(parent: int, folder: Path, usage: Usage, ended: threading.Event) -> None:
    while not ended.wait(_DISK_INTERVAL_SECONDS):
        total = folder_size(folder) + sum(map(_deleted_bytes, _family(parent)))
        usage.disk_bytes = max(usage.disk_bytes, total)


def folder_size(folder: Path) -> int:
    """Return the bytes on disk of all files in a folder."""
    total = 0
    # Unlike `Path.rglob`, it does not mind that temporary folders come and go.
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(Path(place, name)).st_blocks * _BLOCK
    return total


def _deleted_bytes(process: int) -> int:
    """Return the bytes of the open files of a process that have no name any more."""
    total = 0
    with contextlib.suppress(OSError):
        for descriptor in (_PROC / str(process) / "fd").iterdir():
            with contextlib.suppress(OSError):
                if descriptor.readlink().as_posix().endswith("(deleted)"):
                    total += descriptor.stat().st_blocks * _BLOCK
    return total


def _family(parent: int) -> set[int]:
    """Return a process and its descendants."""
    parents = {}
    for file in _PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name of a program, in parentheses, may contain anything.
            parents[int(file.parent.name)] = int(file.read_text("utf-8").rpartition(")")[2].split()[1])
    family: set[int] = set()
    found = {parent}
    while found:
        family |= found
        found = {process for process, its_parent in parents.items() if its_parent in found}
    return family
