"""What a training takes of the GPU's memory, planned before it begins."""

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
    return Plan(max(1, _COPIED_BYTES // (4 * padded_width(size.d))), block)


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
