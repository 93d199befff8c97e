"""What training and ranking take of the GPU's memory, planned before they begin."""

import dataclasses
import logging
from dataclasses import dataclass

from trainer.errors import InputError
from trainer.solvers.cuda.layout import PIECE, Tuning, padded_width

logger = logging.getLogger(__name__)

_ENTRY_BYTES = 8
"""Index and value."""

_ROW_BYTES = 96
"""Offset, place in the order, lambda, two weights and loss of a row, and room to sort."""

# What the libraries of CUDA and the compiled kernels take, and what fragments leave unusable.
_RESERVED = 768 << 20
_COPIED_BYTES = 256 << 20
_BLOCK = (1 << 30) // _ENTRY_BYTES
_LEAST_QUERIES = 32
_LEAST_BLOCK = 1 << 16
_SLOTS = 2


@dataclass(frozen=True)
class Size:
    """The size of a training.

    Attributes:
        users: number of users.
        items: number of items.
        entries: number of entries.
        longest: largest number of entries of a user or an item.
        d: numbers of a factor.
    """

    users: int
    items: int
    entries: int
    longest: int
    d: int

    def factor_bytes(self, tuning: Tuning) -> int:
        """Return the bytes of both sides' factors, with the copy that the kernels read."""
        copied = 2 * max(self.users, self.items) * tuning.half
        return (4 * (self.users + self.items) + copied) * padded_width(self.d)

    def workspace_bytes(self) -> int:
        """Return the bytes besides factors and entries."""
        rows = (self.users + self.items) * _ROW_BYTES
        pieces = (self.entries // PIECE + 1) * 4 * (3 * padded_width(self.d) + 2)
        return rows + pieces + 2 * _COPIED_BYTES + _RESERVED

    def least_bytes(self, tuning: Tuning) -> int:
        """Return the bytes without which there can be no training."""
        block = max(self.longest, _LEAST_BLOCK)
        return self.factor_bytes(tuning) + self.workspace_bytes() + _SLOTS * block * _ENTRY_BYTES


@dataclass(frozen=True)
class Plan:
    """What fits.

    Attributes:
        copied_rows: factor rows that are rotated, or copied to and from the device, at once.
        block: entries of a streamed block; 0 if the whole matrix stays on the device.
    """

    copied_rows: int
    block: int


def plan(size: Size, tuning: Tuning, memory: tuple[int, int], device: str) -> Plan:
    """Choose block sizes so that a training fits, and log them.

    Args:
        size: size of the training.
        tuning: how the kernels are launched.
        memory: free bytes of the device, and its bytes in all.
        device: its name.

    Raises:
        InputError: the factors and the smallest block of entries do not fit.
    """
    free, total = memory
    if size.least_bytes(tuning) > free:
        raise _refusal(size, tuning, memory, device)
    factors, workspace = size.factor_bytes(tuning), size.workspace_bytes()
    held, block = 2 * size.entries * _ENTRY_BYTES, 0
    if factors + workspace + held > free:
        fitting = (free - factors - workspace) // (_SLOTS * _ENTRY_BYTES)
        block = min(fitting, max(_BLOCK, size.longest))
        held = _SLOTS * block * _ENTRY_BYTES
    where = f"streamed in blocks of {block:,}" if block else "kept there"
    logger.info(
        "GPU memory: %s of factors, %s of entries, %s, %s of workspace; %s of %s are free",
        *(shown(factors), shown(held), where, shown(workspace), shown(free), shown(total)),
    )
    return Plan(copied_rows(padded_width(size.d)), block)


@dataclass(frozen=True)
class Scores:
    """The size of a ranking.

    Attributes:
        items: number of items.
        d: numbers of a factor.
        k: number of items of a list.
        longest: largest number of items that a query must not get.
    """

    items: int
    d: int
    k: int
    longest: int

    def item_bytes(self) -> int:
        """Return the bytes of the items' factors."""
        return 4 * padded_items(self.items) * self.d

    def query_bytes(self) -> int:
        """Return the bytes of a query: its factors, its scores, its list, and the items it must not get."""
        return 4 * (self.d + padded_items(self.items) + 2 * self.k + self.longest + 2)

    def block(self, free: int, scores_bytes: int, *, uploaded: bool) -> int:
        """Return the number of queries to rank at once; 0 if too few fit.

        Args:
            free: free bytes of the device.
            scores_bytes: size of the block's scores, if they fit.
            uploaded: whether the items' factors are there already.
        """
        left = free - _RESERVED - (0 if uploaded else self.item_bytes() + _COPIED_BYTES)
        wanted = max(_LEAST_QUERIES, scores_bytes // (4 * padded_items(self.items)))
        fitting = left // self.query_bytes()
        return min(wanted, fitting) if fitting >= _LEAST_QUERIES else 0

    def shown(self, block: int, memory: tuple[int, int]) -> str:
        """Return a line about what a ranking takes.

        Args:
            block: number of queries that are ranked at once.
            memory: free bytes of the device, and its bytes in all.
        """
        free, total = memory
        return (
            f"GPU memory: {shown(self.item_bytes())} of items' factors, {shown(block * self.query_bytes())} "
            f"for {block:,} lists at once; {shown(free)} of {shown(total)} are free"
        )


def padded_items(items: int) -> int:
    """Return the scores of a query on the device, at least one vector of 4."""
    return max(1, -(-items // 4)) * 4


def copied_rows(width: int) -> int:
    """Return the factor rows of ``width`` floats that are copied to or from the device at once."""
    return max(1, _COPIED_BYTES // (4 * width))


def _refusal(size: Size, tuning: Tuning, memory: tuple[int, int], device: str) -> InputError:
    free, total = memory
    problem = (
        f"needs {shown(size.least_bytes(tuning))} of GPU memory for {size.users:,} users and {size.items:,} "
        f"items, and {shown(free)} of {device} are free"
    )
    smaller = (dataclasses.replace(size, d=d) for d in range(size.d - 1, 0, -1))
    fitting = next((other.d for other in smaller if other.least_bytes(tuning) <= free), 0)
    remedies = [f"lower it to {fitting}"] if fitting else []
    if size.least_bytes(tuning) <= total:
        remedies.append("end other programs that use the GPU")
    remedy = ", ".join([*remedies, "use a GPU with more memory", "or set solver to cg"])
    return InputError("latent_factors", size.d, problem, remedy)


def shown(size: int) -> str:
    """Return bytes as text."""
    return f"{size / 2**30:.1f} GiB" if size >= 1 << 30 else f"{size / 2**20:.0f} MiB"
