"""Compiled functions that sort and merge interactions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.prepare.options import PRIME
from trainer.solvers.kernels import compiled

INTERACTION = np.dtype([("row", np.int32), ("column", np.int32), ("value", np.float32), ("part", np.int8)])
"""An encoded interaction: dense indices, value, and part of the split."""

TIMED_INTERACTION = np.dtype([*INTERACTION.descr, ("time", np.int64)])
"""The same with its time in microseconds since 1970, needed if only the last of a pair counts."""

ENTRY = np.dtype([("row", np.int32), ("column", np.int32), ("value", np.float32)])
"""An entry of a matrix."""

SUM, MEAN, MAX = range(3)

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2^64 by the golden ratio; multiplication by it spreads ids over the high bits (Knuth 1998, section 6.4)."""


def load() -> None:
    """Initialise numba, which takes 0.25 s, but costs nothing in a thread while the engine works."""
    count(np.zeros(0, np.int32), 0, np.zeros(0, np.int64))


@compiled(exact=True)
def fill_slots(ids: NDArray[np.int64], slots: NDArray[np.int32], shift: int) -> None:
    """Fill a hash table with linear probing.

    Args:
        ids: (n,) unique.
        slots: (a power of two above n,) all -1; receives the places of the ids.
        shift: 64 minus the number of bits of a slot.
    """
    for place in range(len(ids)):
        slot = _slot(ids[place], shift)
        while slots[slot] >= 0:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot] = place


@compiled(exact=True)
def find(
    keys: NDArray[np.int64],
    ids: NDArray[np.int64],
    slots: NDArray[np.int32],
    shift: int,
    places: NDArray[np.int32],
) -> None:
    """Write the place of each of the ``keys`` among the ids to ``places``, (keys,), with `fill_slots`' table.

    Raises:
        KeyError: a key is not among ``ids``.
    """
    for i in range(len(keys)):
        slot = _slot(keys[i], shift)
        place = slots[slot]
        while place >= 0 and ids[place] != keys[i]:
            slot = (slot + 1) & (len(slots) - 1)
            place = slots[slot]
        if place < 0:
            raise KeyError
        places[i] = place


@compiled(inlined=True, exact=True)
def _slot(id_: int, shift: int) -> Any:
    return np.int64((np.uint64(id_) * _GOLDEN) >> np.uint64(shift))


@compiled(exact=True)
def divide(
    interactions: NDArray[Any],
    of_users: NDArray[np.int32],
    of_items: NDArray[np.int32],
    held_out: int,
    targets: int,
    otherwise: int,
) -> None:
    """Write the part of the split of each interaction, as random.sql and users.sql compute it.

    Args:
        interactions: (n,) `INTERACTION` or `TIMED_INTERACTION`, with rows and columns.
        of_users: (users, 2) hash_factor and hash_term, which are below `PRIME`.
        of_items: (items, 2) the same.
        held_out: threshold of the users; pairs of users with a hash_factor not below it are in part 0.
        targets: threshold of the other pairs; those with a hash (see pair_hash.sql) below it are in part 1.
        otherwise: part of the remaining pairs.
    """
    rows, columns, parts = interactions["row"], interactions["column"], interactions["part"]
    for i in range(len(interactions)):
        row, column = rows[i], columns[i]
        hashed = np.int64(of_users[row, 0]) * of_items[column, 0] + of_users[row, 1] + of_items[column, 1]
        # Modulo 2^31 - 1: add the bits above the lowest 31 to those. Doing so twice leaves at most 2^31 - 1.
        hashed = (hashed & PRIME) + (hashed >> 31)
        hashed = (hashed & PRIME) + (hashed >> 31)
        hashed = 0 if hashed == PRIME else hashed
        part = 1 if hashed < targets else otherwise
        parts[i] = part if of_users[row, 0] < held_out else 0


@compiled(exact=True)
def deal(
    interactions: NDArray[Any],
    block_of: NDArray[np.int32],
    ends: NDArray[np.int64],
    dealt: NDArray[Any],
) -> None:
    """Order interactions by the block of their row; those of a block keep their order.

    Args:
        interactions: (n,) `INTERACTION` or `TIMED_INTERACTION`.
        block_of: (rows,) block of each row.
        ends: (blocks,) zeros; receives the end of each block in ``dealt``.
        dealt: (n,) to fill.
    """
    rows = interactions["row"]
    for row in rows:
        ends[block_of[row]] += 1
    _start(ends)
    for place in range(len(rows)):
        block = block_of[rows[place]]
        dealt[ends[block]] = interactions[place]
        ends[block] += 1


@compiled(exact=True)
def deal_entries(
    first: int,
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    block_of: NDArray[np.int32],
    ends: NDArray[np.int64],
    dealt: NDArray[Any],
) -> None:
    """Order compressed sparse rows by the block of their column; those of a block keep their order.

    Args:
        first: the first row.
        indptr: (rows + 1,).
        indices: (n,) columns.
        values: (n,).
        block_of: (columns,) block of each column.
        ends: (blocks,) zeros; receives the end of each block in ``dealt``.
        dealt: (n,) `ENTRY`, to fill.
    """
    for column in indices:
        ends[block_of[column]] += 1
    _start(ends)
    for row in range(len(indptr) - 1):
        for place in range(indptr[row], indptr[row + 1]):
            column = indices[place]
            block = block_of[column]
            entry = dealt[ends[block]]
            entry.row = first + row
            entry.column = column
            entry.value = values[place]
            ends[block] += 1


@compiled(inlined=True, exact=True)
def _start(sizes: NDArray[np.int64]) -> None:
    """Replace the sizes of blocks with their starts."""
    start = 0
    for block in range(len(sizes)):
        start, sizes[block] = start + sizes[block], start


@compiled(exact=True)
def count(keys: NDArray[np.int32], first: int, counts: NDArray[np.int64]) -> None:
    """Add the number of occurrences of each key, from ``first`` on, to ``counts``."""
    for key in keys:
        counts[key - first] += 1


@compiled(exact=True)
def place(
    interactions: NDArray[Any],
    keys: NDArray[np.int32],
    first: int,
    places: NDArray[np.int64],
    ordered: NDArray[Any],
) -> None:
    """Order interactions by their key, the last pass of a counting sort; those of a key keep their order.

    Args:
        interactions: (n,) `INTERACTION`.
        keys: (n,) their rows or their columns.
        first: the lowest key.
        places: (keys,) place in ``ordered`` of each key's next interaction; advanced.
        ordered: (n,) to fill.
    """
    for i in range(len(keys)):
        key = keys[i] - first
        ordered[places[key]] = interactions[i]
        places[key] += 1


@compiled(exact=True)
def place_entries(
    entries: NDArray[Any],
    first: int,
    places: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
) -> None:
    """Order the rows and values of entries by column, as `place` does."""
    for entry in entries:
        column = entry.column - first
        indices[places[column]] = entry.row
        values[places[column]] = entry.value
        places[column] += 1


@compiled(exact=True)
def keep_last(interactions: NDArray[Any]) -> int:
    """Keep, in place, only the last interactions of each pair in its lowest part.

    Args:
        interactions: (n,) `TIMED_INTERACTION`, those of a pair next to each other.

    Returns:
        The number that remain, at the front; several of a pair if they have the same time.
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


@compiled(inlined=True, exact=True)
def _same_pair(one: Any, other: Any) -> bool:
    return bool(one.row == other.row and one.column == other.column)


@compiled(exact=True)
def compress(
    interactions: NDArray[Any],
    rule: int,
    first: int,
    counts: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    entries: NDArray[np.int64],
) -> None:
    """Append interactions to the compressed sparse rows of their part of the split, one for each pair.

    A pair that has interactions in several parts belongs to the lowest of them, and only its interactions
    there count. The result does not depend on the order of a pair's interactions.

    Args:
        interactions: (n,) `INTERACTION` or `TIMED_INTERACTION`, sorted by row and then by column.
        rule: `SUM`, `MEAN` or `MAX`.
        first: the first row.
        counts: (parts, rows) entries of each row; added to.
        indices: (parts, room) columns; appended to.
        values: (parts, room) values; appended to.
        entries: (parts,) number of entries filled; added to.
    """
    rows, columns = interactions["row"], interactions["column"]
    parts, ratings = interactions["part"], interactions["value"]
    start = 0
    while start < len(interactions):
        row, column, part, value = rows[start], columns[start], parts[start], ratings[start]
        end = start + 1
        while end < len(interactions) and columns[end] == column and rows[end] == row:
            end += 1
        if end - start > 1:
            part, value = _merged(parts[start:end], ratings[start:end], rule)
        place = entries[part]
        indices[part, place] = column
        values[part, place] = value
        entries[part] = place + 1
        counts[part, row - first] += 1
        start = end


@compiled(inlined=True, exact=True)
def _merged(parts: NDArray[np.int8], values: NDArray[np.float32], rule: int) -> Any:
    """Return the part and the value of the interactions of one pair."""
    lowest, total, highest, count = parts[0], np.float64(values[0]), values[0], 1
    for i in range(1, len(values)):
        if parts[i] < lowest:
            lowest, total, highest, count = parts[i], np.float64(values[i]), values[i], 1
        elif parts[i] == lowest:
            total += values[i]
            highest = max(highest, values[i])
            count += 1
    if rule == MAX:
        return lowest, highest
    if count > 2:
        # A sum of more than two depends on their order, and a pair's interactions come in any order.
        total = np.sort(values[parts == lowest].astype(np.float64)).sum()
    return lowest, np.float32(total / count if rule == MEAN else total)
