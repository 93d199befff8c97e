"""How the kernels divide the work: the width of factor rows; which rows get a warp, a block or several."""

import itertools
from dataclasses import dataclass
from typing import Any

LANES = 32
MAX_FACTORS = 1024
"""A lane then holds 32 numbers of each vector, all that its registers have room for."""

PIECE = 1 << 13
"""Entries of a split row that a block sums at once."""

_ALIGNED = 4
# Teams of a multiprocessor for which its shared memory must suffice: enough loads are then under way.
_TEAMS = 4
_OF_SYSTEM = 1 << 10
# A row takes no longer than a quarter of the time in which all multiprocessors work on the side.
_SHARE_OF_LONGEST = 4


def padded_width(d: int) -> int:
    """Return the floats of a factor row on the device, where vectors of 4 are loaded."""
    return -(-d // _ALIGNED) * _ALIGNED


@dataclass(frozen=True)
class Tuning:
    """How the kernels are compiled and launched; the results differ by rounding only, but for ``half``.

    Attributes:
        unroll: factor rows that a group of lanes loads at once, 2, 4 or 8; 0 for what registers allow.
        team: warps of a block that steps a row of medium length, or a short row by each of them.
        wide: warps of a block that steps a long row.
        team_from: entries from which a row gets a team instead of a warp.
        wide_from: entries from which a row gets a wide block.
        cached_bytes: shared memory in which a team keeps factor rows between the passes, if it is there.
        half: whether the kernels read a copy of the fixed side in half precision.
    """

    unroll: int = 0
    team: int = 4
    wide: int = 8
    team_from: int = 33
    wide_from: int = 1025
    cached_bytes: int = 32 << 10
    half: bool = False

    def macros(self, width: int) -> dict[str, int]:
        """Return the macros of ``kernels.cu`` for factor rows of ``width`` floats."""
        unroll = self.unroll or (4 if width <= 12 * LANES else 2)
        return {"D": width, "HALF": int(self.half), "UNROLL": unroll, "TEAM": self.team, "WIDE": self.wide}

    def merging_bytes(self, width: int, warps: int) -> int:
        """Return the shared memory in which the warps of a block add their sums."""
        return 4 * warps * (width + 2)

    def cached_rows(self, width: int, shared_bytes: int) -> int:
        """Return the factor rows that a team keeps between the passes.

        Args:
            width: floats of a factor row.
            shared_bytes: shared memory of a multiprocessor.
        """
        fitting = shared_bytes // _TEAMS - self.merging_bytes(width, self.team) - _OF_SYSTEM
        return max(0, min(self.cached_bytes, fitting)) // self.row_bytes(width)

    def row_bytes(self, width: int) -> int:
        """Return the bytes of a factor row of the fixed side."""
        return (2 if self.half else 4) * width

    def split_from(self, entries: int, multiprocessors: int) -> int:
        """Return the entries from which a row of a side is split among several blocks."""
        return max(PIECE, entries // (_SHARE_OF_LONGEST * multiprocessors))


@dataclass(frozen=True)
class Bins:
    """The rows of a block of a side, by length.

    Attributes:
        split: (rows,) int32 rows whose entries several blocks share.
        wide: (rows,) int32 rows that get a wide block.
        teams: (rows,) int32 rows that get a team.
        warps: (rows,) int32 rows that get a warp.
        first_piece: (split rows + 1,) int32, the first piece of each split row.
        owners: (pieces,) int32, the place in ``split`` of each piece's row.
    """

    split: Any
    wide: Any
    teams: Any
    warps: Any
    first_piece: Any
    owners: Any

    @classmethod
    def of(cls, xp: Any, indptr: Any, first: int, last: int, tuning: Tuning, split_from: int) -> "Bins":
        """Sort rows by length, the longest first, so that none of them is begun last.

        Args:
            xp: module of the arrays, NumPy or CuPy.
            indptr: (rows + 1,) int64 offsets of the side's rows.
            first: first row of the block.
            last: row after its last.
            tuning: lengths at which bins begin.
            split_from: entries from which a row is split.
        """
        counts = indptr[first + 1 : last + 1] - indptr[first:last]
        order = xp.argsort(-counts)
        ends = [int((counts >= least).sum()) for least in (split_from, tuning.wide_from, tuning.team_from)]
        bounds = [0, *(max(end, ends[0]) for end in ends), last - first]
        split, wide, teams, warps = (
            (order[begin:end] + first).astype(xp.int32) for begin, end in itertools.pairwise(bounds)
        )
        pieces = -(-counts[order[: bounds[1]]] // PIECE)
        starts = xp.zeros(len(pieces) + 1, xp.int64)
        starts[1:] = xp.cumsum(pieces)
        count = int(starts[-1])
        owners = xp.searchsorted(starts, xp.arange(count), side="right") - 1 if count else starts[1:]
        return cls(split, wide, teams, warps, starts.astype(xp.int32), owners.astype(xp.int32))
