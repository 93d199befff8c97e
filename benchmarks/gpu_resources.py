"""Compile the kernels of solver cuda and of ranking for every generation of GPUs, and print what they take.

    python benchmarks/gpu_resources.py

It needs no GPU: NVRTC compiles them as for a run, and its report names the registers and the spills; the
warps that a multiprocessor runs at a time follow from those and from the launch.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from trainer.solvers.cuda import SOURCE, topk
from trainer.solvers.cuda.layout import LANES, Tuning, padded_width
from trainer.solvers.cuda.library import cupy


class Generation(NamedTuple):
    """What a multiprocessor has, by the CUDA C++ Programming Guide, besides 65,536 registers."""

    name: str
    warps: int
    blocks: int
    shared_kib: int


ARCHITECTURES = {
    "sm_75": Generation("T4", 32, 16, 64),
    "sm_80": Generation("A100", 64, 32, 164),
    "sm_89": Generation("L4", 48, 24, 100),
    "sm_90": Generation("H100, H200", 64, 32, 228),
    "sm_100": Generation("B200", 64, 32, 228),
    "sm_120": Generation("RTX PRO 6000", 48, 24, 100),
}
_REGISTERS = 1 << 16
_REGISTER_UNIT = 256
"""Registers are given to a warp in these units."""

_SYSTEM_BYTES = 1 << 10
"""Shared memory of a block that CUDA keeps, from sm_80 on."""


class Resources(NamedTuple):
    """What a kernel takes.

    Attributes:
        registers: of a thread.
        spilled: bytes of a thread's registers that are kept in memory.
        warps: of a block.
        shared: bytes of shared memory of a block.
    """

    registers: int
    spilled: int
    warps: int
    shared: int

    def resident(self, generation: Generation) -> int:
        """Return the warps that a multiprocessor runs at a time."""
        of_warp = -(-self.registers * LANES // _REGISTER_UNIT) * _REGISTER_UNIT
        by_memory = generation.shared_kib * 1024 // (self.shared + _SYSTEM_BYTES)
        blocks = min(
            generation.blocks, by_memory, _REGISTERS // of_warp // self.warps, generation.warps // self.warps
        )
        return blocks * self.warps


def resources(architecture: str, d: int, tuning: Tuning) -> dict[str, Resources]:
    """Compile the kernels of the solver and return what each of them takes.

    Args:
        architecture: one of `ARCHITECTURES`.
        d: numbers of a factor.
        tuning: how the kernels are compiled and launched.
    """
    width = padded_width(d)
    cached = tuning.cached_rows(width, ARCHITECTURES[architecture].shared_kib << 10)
    team, wide = (tuning.merging_bytes(width, warps) for warps in (tuning.team, tuning.wide))
    launches = {
        "step_by_warps": (tuning.team, 0),
        "step_by_teams": (tuning.team, team + cached * tuning.row_bytes(width)),
        **dict.fromkeys(("step_by_blocks", "gather_pieces", "merge_pieces"), (tuning.wide, wide)),
    }
    return _compiled(architecture, SOURCE, tuning.macros(width), launches)


def ranking_resources(architecture: str, k: int) -> dict[str, Resources]:
    """Compile the kernels of ranking for lists of k, and return what each of them takes.

    Args:
        architecture: one of `ARCHITECTURES`.
        k: number of items of a list.
    """
    selection = topk.Selection()
    launches = {"select_best": (selection.threads // LANES, selection.shared_bytes(k))}
    return _compiled(architecture, topk.SOURCE, selection.macros(k), launches)


def _compiled(
    architecture: str, source: Path, macros: Mapping[str, int], launches: Mapping[str, tuple[int, int]]
) -> dict[str, Resources]:
    """Return what kernels take that are launched with blocks of so many warps and bytes of shared memory."""
    nvrtc = cupy().cuda.nvrtc
    program = nvrtc.createProgram(source.read_text("utf-8"), source.name, (), ())
    defined = (f"-D{name}={value}" for name, value in macros.items())
    nvrtc.compileProgram(program, (f"-arch={architecture}", "--std=c++17", "--ptxas-options=-v", *defined))
    report = nvrtc.getProgramLog(program)
    nvrtc.destroyProgram(program)
    found = {}
    for part in report.split("Compiling entry function '")[1:]:
        name = part.partition("'")[0]
        registers, spilled = (
            int(re.findall(pattern, part)[0])
            for pattern in (r"Used (\d+) registers", r"(\d+) bytes spill stores")
        )
        found[name] = Resources(registers, spilled, *launches[name])
    return found


def main() -> None:
    """Print tables in Markdown: the solver's kernels for short, medium and long rows, and that of ranking."""
    print("| | d | factors read | registers | spilled bytes | shared KiB | warps of a multiprocessor |")
    print("|---|---|---|---|---|---|---|")
    for architecture, generation in ARCHITECTURES.items():
        for d, half in ((64, False), (128, False), (128, True), (256, False), (1024, False)):
            kernels = resources(architecture, d, Tuning(half=half))
            steps = [kernels[name] for name in ("step_by_warps", "step_by_teams", "step_by_blocks")]
            columns = [
                f"{architecture}, {generation.name}",
                str(d),
                "float16" if half else "float32",
                " / ".join(str(step.registers) for step in steps),
                str(max(kernel.spilled for kernel in kernels.values())),
                " / ".join(f"{step.shared / 1024:.1f}" for step in steps),
                " / ".join(str(step.resident(generation)) for step in steps),
            ]
            print(f"| {' | '.join(columns)} |", flush=True)
    print("\n| | k | registers | spilled bytes | shared KiB | warps of a multiprocessor |")
    print("|---|---|---|---|---|---|")
    for architecture, generation in ARCHITECTURES.items():
        for k in (10, 100, topk.MAX_K):
            (select,) = ranking_resources(architecture, k).values()
            columns = [f"{architecture}, {generation.name}", k, select.registers, select.spilled]
            columns += [f"{select.shared / 1024:.1f}", select.resident(generation)]
            print(f"| {' | '.join(map(str, columns))} |", flush=True)


if __name__ == "__main__":
    main()
