"""Assembly of matrices in blocks."""

import contextlib
import os
import resource
import sys
from collections import defaultdict
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.prepare.matrix import assembly
from components.prepare.matrix.kernels import INTERACTION, TIMED_INTERACTION
from components.prepare.options import Duplicates
from trainer import scratch
from trainer.matrix import InteractionMatrix

INTERACTIONS = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.integers(0, 4),
        st.integers(-3, 3),
        st.integers(0, 1),
        st.integers(0, 2),
    ),
    max_size=60,
)


def assembled(batches, scratch, user_counts, item_counts, parts, duplicates):
    def write(batch, interactions):
        interactions[:] = batch

    scratch.mkdir()
    encoded = assembly.Encoded(batches, batches[0].dtype, write)
    with assembly.deal_rows(encoded, scratch, user_counts, item_counts) as by_row:
        return assembly.assemble(by_row, scratch, item_counts, parts, duplicates)


def expected(interactions, duplicates, part):
    """The merged entries of a part, computed the slow and obvious way."""
    of_pair = defaultdict(list)
    for row, column, value, its_part, time in interactions:
        of_pair[row, column].append((its_part, time, value))
    matrix = np.zeros((7, 5))
    for pair, values_of_pair in of_pair.items():
        lowest = min(its_part for its_part, _, _ in values_of_pair)
        if lowest != part:
            continue
        here = [(time, value) for its_part, time, value in values_of_pair if its_part == lowest]
        values = [value for _, value in here]
        matrix[pair] = {
            "sum": sum(values),
            "mean": sum(values) / len(values),
            "max": max(values),
            "last": max(here)[1],
        }[duplicates]
    return matrix


@pytest.mark.parametrize("sizes", [(4, 1, 0), (4, 4, 400), (16, 4, 400), (1 << 20, 1 << 18, 1 << 29)])
@settings(max_examples=40, deadline=None)
@given(duplicates=st.sampled_from(get_args(Duplicates)), interactions=INTERACTIONS, batches=st.integers(1, 4))
def test_merging_gives_what_the_obvious_way_gives(tmp_path_factory, duplicates, sizes, interactions, batches):
    shard, block, in_memory = sizes
    folder = tmp_path_factory.mktemp("assembly")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "_SHARD_INTERACTIONS", shard)
        patch.setattr(assembly, "_MIN_BLOCK", block)
        patch.setattr(assembly, "_BYTES_IN_MEMORY", in_memory)
        array = np.array(interactions, TIMED_INTERACTION)
        assembled(
            np.array_split(array, batches),
            folder / "scratch",
            np.bincount(array["row"], minlength=7),
            np.bincount(array["column"], minlength=5),
            [folder / "0", folder / "1"],
            duplicates,
        )
    for part in (0, 1):
        matrix = InteractionMatrix.open(folder / str(part))
        entries = expected(interactions, duplicates, part)
        np.testing.assert_allclose(matrix.to_scipy().toarray(), entries, rtol=1e-6)
        transposed = InteractionMatrix(5, 7, matrix.by_column, matrix.by_row).to_scipy().toarray()
        np.testing.assert_allclose(transposed, entries.T, rtol=1e-6)
    if shard == 4 and len(interactions) > 20:
        assert len(matrix.by_row) > 1


def test_the_order_holds_after_spilling_to_disk(tmp_path, monkeypatch):
    """Shards that would fit in memory again, after a large one that did not."""
    monkeypatch.setattr(assembly, "_SHARD_INTERACTIONS", 4)
    monkeypatch.setattr(assembly, "_MIN_BLOCK", 4)
    monkeypatch.setattr(assembly, "_BYTES_IN_MEMORY", 200)
    pairs = [(row, column) for row, items in enumerate([1, 40, 2, 1, 3, 40, 1]) for column in range(items)]
    array = np.array([(row, column, row + 1, 0) for row, column in pairs], INTERACTION)
    counts = np.bincount(array["row"]), np.bincount(array["column"])
    assembled(np.array_split(array, 3), tmp_path / "scratch", *counts, [tmp_path / "0"], "sum")
    matrix = InteractionMatrix.open(tmp_path / "0")
    entries = np.zeros((7, 40))
    entries[array["row"], array["column"]] = array["value"]
    np.testing.assert_array_equal(matrix.to_scipy().toarray(), entries)
    transposed = InteractionMatrix(40, 7, matrix.by_column, matrix.by_row).to_scipy().toarray()
    np.testing.assert_array_equal(transposed, entries.T)


def test_shards_are_large_enough_for_a_bucket(tmp_path):
    """Files of 16 MB, for which opening one takes no longer than reading it."""
    counts = np.full(1000, 10_000)
    with contextlib.closing(assembly.Blocks(tmp_path, INTERACTION, counts, len(counts))) as blocks:
        assert [group.end - group.first for group in blocks.groups[:-1]] == [420, 419]


def test_more_shards_than_open_files_are_allowed_at_first(tmp_path, monkeypatch):
    monkeypatch.setattr(assembly, "_SHARD_INTERACTIONS", 10)
    monkeypatch.setattr(assembly, "_MIN_BLOCK", 10)
    monkeypatch.setattr(assembly, "_BYTES_IN_MEMORY", 200)
    places = np.arange(2_000)
    array = np.zeros(len(places), INTERACTION)
    array["row"], array["column"], array["value"] = places, places[::-1], 1
    once = np.ones(len(places), np.int64)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = (sum(1 for _ in Path("/dev/fd").iterdir()) + 30, limits[1])
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, few)
        assembled([array], tmp_path / "scratch", once, once, [tmp_path / "0"], "sum")
        resource.setrlimit(resource.RLIMIT_NOFILE, few)
        matrix = InteractionMatrix.open(tmp_path / "0")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    np.testing.assert_array_equal(matrix.to_scipy().toarray(), np.fliplr(np.eye(2_000)))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="requires /proc")
def test_interactions_leave_memory_as_they_enter_the_matrix(tmp_path, monkeypatch):
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    def assemble(array, folder):
        counts = np.bincount(array["row"]), np.bincount(array["column"])
        folder.mkdir()
        encoded = assembly.Encoded([array], INTERACTION, lambda batch, dealt: np.copyto(dealt, batch))
        with assembly.deal_rows(encoded, folder, *counts) as by_row:
            dealt = resident()
            assembly.assemble(by_row, folder, counts[1], [folder / "0"], "sum")
            return dealt - resident()

    monkeypatch.setattr(assembly, "_SHARD_INTERACTIONS", 1 << 19)
    array = np.zeros(1 << 21, INTERACTION)
    array["row"], array["column"] = np.divmod(np.random.default_rng(1).permutation(len(array)), 1 << 10)
    array["value"] = array["row"] - array["column"]
    assemble(array[:1000], tmp_path / "loads kernels")
    assert assemble(array, tmp_path / "all") > array.nbytes / 2
    matrix = InteractionMatrix.open(tmp_path / "all" / "0").to_scipy().toarray()
    np.testing.assert_array_equal(matrix, np.subtract.outer(np.arange(1 << 11), np.arange(1 << 10)))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems keep the space")
def test_space_on_disk_is_freed_group_by_group(tmp_path, monkeypatch):
    monkeypatch.setattr(assembly, "_SHARD_INTERACTIONS", 1 << 14)
    monkeypatch.setattr(assembly, "_MIN_BLOCK", 1 << 12)
    monkeypatch.setattr(assembly, "_BYTES_IN_MEMORY", 0)
    interactions = np.zeros(1 << 17, INTERACTION)
    interactions["row"] = np.arange(len(interactions)) % 64
    counts = np.bincount(interactions["row"])

    def write(batch, array):
        array[:] = batch

    encoded = assembly.Encoded(np.array_split(interactions, 4), INTERACTION, write)
    left = []

    def release(descriptor, offset, length):
        scratch.release(descriptor, offset, length)
        left.append(os.fstat(descriptor).st_blocks)

    monkeypatch.setattr(assembly, "release", release)
    with assembly.deal_rows(encoded, tmp_path, counts, np.array([len(interactions)])) as by_row:
        assembly.assemble(by_row, tmp_path, np.array([len(interactions)]), [tmp_path / "0"], "sum")
    of_rows = left[: 4 * len(by_row.groups)]
    assert len(by_row.groups) == 8
    assert of_rows == sorted(of_rows, reverse=True)
    assert of_rows[-1] == 0
