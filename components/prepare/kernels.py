"""Sorting and merging of interactions, compiled."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

INTERACTION = np.dtype([("row", np.int32), ("column", np.int32), ("value", np.float32), ("part", np.int32)])
"""An encoded interaction: dense indices, value, and part of the split."""

TIMED_INTERACTION = np.dtype([*INTERACTION.descr, ("time", np.int64)])
"""The same with its time in microseconds since 1970, for where only the last of a pair counts."""

SUM, MEAN, MAX = range(3)


@numba.njit(cache=True, nogil=True)
def stable_sort(interactions: NDArray[Any], keys: NDArray[np.int32], first: int, size: int) -> NDArray[Any]:
    """Return the interactions in the order of their keys, equal ones in the order they had.

    A counting sort: its time grows with the number of interactions plus ``size``.

    Args:
        interactions: (n,) `INTERACTION`.
        keys: (n,) from ``first`` to below ``first + size``.
        first: the lowest key.
        size: number of possible keys.
    """
    ends = np.zeros(size + 1, np.int64)
    for key in keys:
        ends[key - first + 1] += 1
    for key in range(size):
        ends[key + 1] += ends[key]
    ordered = np.empty_like(interactions)
    for place in range(len(keys)):
        key = keys[place] - first
        ordered[ends[key]] = interactions[place]
        ends[key] += 1
    return ordered


@numba.njit(cache=True, nogil=True)
def compress(
    interactions: NDArray[Any], majors: NDArray[np.int32], minors: NDArray[np.int32], first: int, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Return interactions, sorted by major index, as compressed sparse rows.

    Args:
        interactions: (n,) `INTERACTION`.
        majors: (n,) their rows, from ``first`` to below ``first + size``, or their columns.
        minors: (n,) the other of the two.
        first: major index of the first row.
        size: number of rows.

    Returns:
        Offsets (size + 1,), indices (n,) and values (n,).
    """
    indptr = np.zeros(size + 1, np.int64)
    indices = np.empty(len(interactions), np.int32)
    values = np.empty(len(interactions), np.float32)
    for place in range(len(interactions)):
        indptr[majors[place] - first + 1] += 1
        indices[place] = minors[place]
        values[place] = interactions[place].value
    for row in range(size):
        indptr[row + 1] += indptr[row]
    return indptr, indices, values


@numba.njit(cache=True, nogil=True)
def of_part(interactions: NDArray[Any], part: int) -> NDArray[Any]:
    """Return the interactions of one part of the split, in their order."""
    count = 0
    for interaction in interactions:
        count += interaction.part == part
    chosen = np.empty(count, interactions.dtype)
    count = 0
    for interaction in interactions:
        if interaction.part == part:
            chosen[count] = interaction
            count += 1
    return chosen


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
