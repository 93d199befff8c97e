"""Sorting and merging of interactions, compiled."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

INTERACTION = np.dtype([("row", np.int32), ("column", np.int32), ("value", np.float32), ("part", np.int8)])
"""An encoded interaction: dense indices, value, and part of the split."""

TIMED_INTERACTION = np.dtype([*INTERACTION.descr, ("time", np.int64)])
"""The same with its time in microseconds since 1970, for where only the last of a pair counts."""

SUM, MEAN, MAX = range(3)

PRIME = 2**31 - 1
"""Of the hashes that the SQL makes, which are below it."""


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2^64 by the golden ratio: multiplying by it spreads ids over the high bits (Knuth 1998, section 6.4)."""


def load() -> None:
    """Have numba set itself up now, in a quarter of a second: while the engine works, it costs nothing."""
    count(np.zeros(0, np.int32), 0, np.zeros(0, np.int64))


@numba.njit(cache=True, nogil=True)
def fill_slots(ids: NDArray[np.int64], slots: NDArray[np.int32], shift: int) -> None:
    """Make a hash table with linear probing.

    Args:
        ids: (n,) unique.
        slots: (a power of two above n,) all -1; gets the places of the ids.
        shift: 64 less the number of bits of a slot.
    """
    mask = len(slots) - 1
    for place in range(len(ids)):
        slot = _slot(ids[place], shift)
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = place


@numba.njit(cache=True, nogil=True)
def find(
    wanted: NDArray[np.int64], ids: NDArray[np.int64], slots: NDArray[np.int32], shift: int
) -> NDArray[np.int32]:
    """Return the place of each wanted id, (wanted,), with the slots of `fill_slots`.

    Raises:
        KeyError: an id is not among ``ids``.
    """
    mask = len(slots) - 1
    places = np.empty(len(wanted), np.int32)
    for one in range(len(wanted)):
        slot = _slot(wanted[one], shift)
        while slots[slot] >= 0 and ids[slots[slot]] != wanted[one]:
            slot = (slot + 1) & mask
        if slots[slot] < 0:
            raise KeyError
        places[one] = slots[slot]
    return places


@numba.njit(cache=True, nogil=True)
def _slot(id_: int, shift: int) -> Any:
    return np.int64((np.uint64(id_) * _GOLDEN) >> np.uint64(shift))


@numba.njit(cache=True, nogil=True)
def pairs_below(
    rows: NDArray[np.int32],
    columns: NDArray[np.int32],
    of_users: NDArray[np.int64],
    of_items: NDArray[np.int64],
    threshold: int,
) -> NDArray[np.bool_]:
    """Tell of which pairs the hash, as in pair_hash.sql, is below a threshold.

    Args:
        rows: (n,) users.
        columns: (n,) items.
        of_users: (users, 2) hash_factor and hash_term.
        of_items: (items, 2) the same.
        threshold: for the hashes, which are below `PRIME`.
    """
    below = np.empty(len(rows), np.bool_)
    for place in range(len(rows)):
        user, item = of_users[rows[place]], of_items[columns[place]]
        below[place] = (user[0] * item[0] + user[1] + item[1]) % PRIME < threshold
    return below


@numba.njit(cache=True, nogil=True)
def deal(
    interactions: NDArray[Any],
    lowest: int,
    highest: int,
    keys: NDArray[np.int32],
    block_of: NDArray[np.int32],
    ends: NDArray[np.int64],
    dealt: NDArray[Any],
) -> None:
    """Order interactions by the block of their key, those of a block in the order they had.

    Args:
        interactions: (n,) `INTERACTION`.
        lowest: part of the split; those of lower ones are left out.
        highest: part of the split; those of higher ones are left out.
        keys: (n,) their rows or their columns.
        block_of: (keys,) block of each key.
        ends: (blocks,) zeros; gets where each block ends in ``dealt``.
        dealt: (those of these parts,) to fill.
    """
    for place in range(len(keys)):
        if lowest <= interactions[place].part <= highest:
            ends[block_of[keys[place]]] += 1
    start = 0
    for block in range(len(ends)):
        start, ends[block] = start + ends[block], start
    for place in range(len(keys)):
        if lowest <= interactions[place].part <= highest:
            block = block_of[keys[place]]
            dealt[ends[block]] = interactions[place]
            ends[block] += 1


@numba.njit(cache=True, nogil=True)
def count(keys: NDArray[np.int32], first: int, counts: NDArray[np.int64]) -> None:
    """Add to ``counts`` how often each key from ``first`` on comes."""
    for key in keys:
        counts[key - first] += 1


@numba.njit(cache=True, nogil=True)
def place(
    interactions: NDArray[Any],
    keys: NDArray[np.int32],
    first: int,
    places: NDArray[np.int64],
    ordered: NDArray[Any],
) -> None:
    """Put interactions where those of their key belong, in the order they had: a counting sort's last pass.

    Args:
        interactions: (n,) `INTERACTION`.
        keys: (n,) their rows or their columns.
        first: the lowest key.
        places: (keys,) in ``ordered``, of each key's next interaction; moved on.
        ordered: to fill.
    """
    for one in range(len(keys)):
        key = keys[one] - first
        ordered[places[key]] = interactions[one]
        places[key] += 1


@numba.njit(cache=True, nogil=True)
def place_entries(
    interactions: NDArray[Any],
    first: int,
    places: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
) -> None:
    """As `place`, by column: what is put in place is the row and the value."""
    for interaction in interactions:
        column = interaction.column - first
        indices[places[column]] = interaction.row
        values[places[column]] = interaction.value
        places[column] += 1


@numba.njit(cache=True, nogil=True)
def compress(
    interactions: NDArray[Any],
    part: int,
    first: int,
    counts: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
) -> int:
    """Turn the interactions of one part of the split, sorted by row, into compressed sparse rows.

    Args:
        interactions: (n,) `INTERACTION`.
        part: of the split.
        first: the first row.
        counts: (rows,) zeros; gets the entries of each.
        indices: (n,) to fill from the front.
        values: (n,) to fill from the front.

    Returns:
        How many entries there are.
    """
    entries = 0
    for interaction in interactions:
        if interaction.part == part:
            counts[interaction.row - first] += 1
            indices[entries] = interaction.column
            values[entries] = interaction.value
            entries += 1
    return entries


@numba.njit(cache=True, nogil=True)
def keep_last(interactions: NDArray[Any]) -> int:
    """Drop, in place, what is older than the last interaction of its pair in the lowest part that it is in.

    Args:
        interactions: (n,) `TIMED_INTERACTION`, those of a pair side by side.

    Returns:
        How many are left, at the front; several of a pair where they have the same time.
    """
    count = 0
    start = 0
    for place in range(len(interactions)):
        interaction = interactions[place]
        if start < count and _same_pair(interaction, interactions[start]):
            best = interactions[start]
            later = interaction.part == best.part and interaction.time > best.time
            if interaction.part < best.part or later:
                count = start
            elif interaction.part > best.part or interaction.time < best.time:
                continue
        else:
            start = count
        interactions[count] = interactions[place]
        count += 1
    return count


@numba.njit(cache=True, nogil=True)
def merge_repeats(interactions: NDArray[Any], rule: int) -> int:
    """Make one interaction of each pair, in place, and return how many there are.

    A pair that has interactions in several parts belongs to the lowest of them, and only its interactions
    there count. The result does not depend on the order of a pair's interactions.

    Args:
        interactions: (n,) `INTERACTION` or `TIMED_INTERACTION`, those of a pair side by side.
        rule: `SUM`, `MEAN` or `MAX`.
    """
    count = 0
    start = 0
    while start < len(interactions):
        end = start + 1
        while end < len(interactions) and _same_pair(interactions[start], interactions[end]):
            end += 1
        if end - start > 1:
            _merge(interactions[start:end], rule)
        interactions[count] = interactions[start]
        count += 1
        start = end
    return count


@numba.njit(cache=True, nogil=True)
def _same_pair(one: Any, other: Any) -> bool:
    return bool(one.row == other.row and one.column == other.column)


@numba.njit(cache=True, nogil=True)
def _merge(interactions: NDArray[Any], rule: int) -> None:
    """Merge the interactions of one pair into the first."""
    lowest = interactions["part"].min()
    values = np.empty(len(interactions), np.float64)
    count = 0
    for interaction in interactions:
        if interaction.part == lowest:
            values[count] = interaction.value
            count += 1
    # Floating-point sums depend on their order, and the order of a pair's interactions on chance.
    values = np.sort(values[:count])
    merged = values[-1]
    if rule != MAX:
        merged = values.sum()
        if rule == MEAN:
            merged /= count
    interactions[0].part = lowest
    interactions[0].value = merged
