"""Levels of x86-64 processors for which images bring compiled kernels."""

import platform
from collections.abc import Mapping
from typing import NamedTuple


class Level(NamedTuple):
    """A set of instructions that many processors share.

    Attributes:
        cpu: its name in LLVM.
        features: what to change in LLVM's settings for it.
        requires: LLVM's names of its instructions beyond those of every x86-64 processor.
    """

    cpu: str
    features: str
    requires: frozenset[str]


_V3 = frozenset(
    {
        *("cx16", "sahf", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2"),
        *("avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"),
    }
)
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}

LEVELS = (
    # The kernels are written for vectors of 512 bits, which LLVM would divide in two.
    Level("x86-64-v4", "-prefer-256-bit", _V4),
    Level("x86-64-v3", "", _V3),
)
"""From the latest to the earliest."""


def best_level() -> Level | None:
    """Return the latest level that this machine runs; None on other processors than x86-64."""
    if platform.machine() != "x86_64":
        return None
    # Not every image has it, but every image is built with the levels.
    from llvmlite import binding  # type: ignore[import-untyped]

    has: Mapping[str, bool] = binding.get_host_cpu_features()
    return next((level for level in LEVELS if all(has.get(name) for name in level.requires)), None)
