"""Mounted buckets, which are slow to read and refuse what Cloud Storage cannot do."""

import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import MountedBucket
from tests.trainer.test_training import random_matrix
from trainer import extras, mounts, task
from trainer.arrays import load_array, save_array
from trainer.checkpoint import Checkpoints
from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.files import make_writable, replacing
from trainer.matrix import InteractionMatrix
from trainer.mounts import file_system, is_mounted_bucket
from trainer.training import fit

Usage = namedtuple("Usage", "total used free")


def refused(bucket: MountedBucket) -> list[list[str]]:
    return [operation for operation in bucket.operations() if operation[0] in ("refused", "rename")]


def test_a_bucket_is_told_by_the_type_of_its_file_system(
    mounted_bucket: MountedBucket, tmp_path: Path
) -> None:
    assert file_system(mounted_bucket.folder / "not" / "there") == "fuse.gcsfuse"
    assert is_mounted_bucket(mounted_bucket.folder)
    assert not is_mounted_bucket(tmp_path)


def test_a_file_appears_whole_or_not_at_all(mounted_bucket: MountedBucket) -> None:
    path = mounted_bucket.folder / "file"
    path.write_text("old", "utf-8")
    with pytest.raises(UnicodeEncodeError), replacing(path) as temporary:
        temporary.write_text("half \udc00", "utf-8")
    assert path.read_text("utf-8") == "old"
    # A disk that fails while the file is copied to the bucket.
    with pytest.raises(FileNotFoundError), replacing(path) as temporary:
        temporary.unlink()
    assert not path.exists()
    with replacing(path) as temporary:
        temporary.write_text("new", "utf-8")
    assert path.read_text("utf-8") == "new"
    assert not temporary.exists()


def test_an_array_is_mapped_from_a_local_copy(mounted_bucket: MountedBucket, tmp_path: Path) -> None:
    array = np.arange(300_000)
    digest = save_array(mounted_bucket.folder / "a.npy", array)
    assert "open" not in {name for name, *_ in mounted_bucket.operations()}
    loaded = load_array(mounted_bucket.folder / "a.npy", digest)
    mounted_bucket.operations()
    assert np.array_equal(loaded, array)
    assert not mounted_bucket.operations()


def test_a_full_disk_is_reported_once_and_files_are_read_in_place(
    mounted_bucket: MountedBucket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mounts._warn.cache_clear()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(1 << 30, 0, 1 << 20))
    arrays = [np.arange(size) for size in (300_000, 200_000)]
    for array in arrays:
        digest = save_array(mounted_bucket.folder / "a.npy", array)
        assert np.array_equal(load_array(mounted_bucket.folder / "a.npy", digest), array)
    (message,) = caplog.messages
    assert "in place, which is slow" in message
    assert "larger disk" in message


def test_damage_is_reported_with_the_path_in_the_bucket(mounted_bucket: MountedBucket) -> None:
    path = mounted_bucket.folder / "a.npy"
    digest = save_array(path, np.arange(3))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=f"file '{path}': does not match the checksum"):
        load_array(path, digest)
    path.unlink()
    with pytest.raises(InputError, match=f"file '{path}': cannot be read"):
        load_array(path, digest)


@pytest.mark.skipif(os.getuid() != 0, reason="requires root, to become another user")
def test_a_bucket_of_another_user_is_reported_with_the_remedy(mounted_bucket: MountedBucket) -> None:
    os.seteuid(10001)
    try:
        with pytest.raises(InputError, match=r"cannot be written by user 10001 .*images with RUN_AS=0:0"):
            make_writable(mounted_bucket.folder / "artifact")
    finally:
        os.seteuid(0)


def test_training_resumes_from_checkpoints_in_a_bucket(mounted_bucket: MountedBucket) -> None:
    config = TrainConfig(latent_factors=4, num_iters=4, solver="cg")
    matrix = InteractionMatrix.from_scipy(random_matrix())
    folder = mounted_bucket.folder / "checkpoints"
    fit(matrix, config, checkpoints=Checkpoints(folder, 2))
    numbers: list[int] = []
    longer = config.replace(num_iters=5)
    on_iteration = lambda iteration: numbers.append(iteration.number)  # noqa: E731
    fit(matrix, longer, checkpoints=Checkpoints(folder, 2), on_iteration=on_iteration)
    assert numbers == [5]
    assert not refused(mounted_bucket)


def test_a_job_writes_its_output_to_a_bucket(
    mounted_bucket: MountedBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "tensorflow_is_installed", lambda: False)
    lines = [f"{user}\t{item}\t{1 + (user * item) % 5}\n" for user in range(12) for item in range(8)]
    (tmp_path / "u.data").write_text("".join(lines), "utf-8")
    flags = ["--job-dir", str(mounted_bucket.folder / "job"), "--train-file", str(tmp_path / "u.data")]
    assert task.main([*flags, "--solver", "cg", "--num_iters", "2", "--checkpoint_every", "1"]) == 0
    assert (mounted_bucket.folder / "job" / "metrics.json").exists()
    assert not refused(mounted_bucket)
