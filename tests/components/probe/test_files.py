"""What folders for artifacts allow, with real files."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from components.probe import files
from components.probe.files import Speed, artifact_folder, attempt
from components.probe.findings import Finding

SIZE = 5 << 20
NOBODY = 65534


def by_check(found: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in found}


@contextmanager
def unwritable() -> Iterator[Path]:
    """Yield a folder of another user, or of this one if it cannot change, that cannot be written."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        is_root = os.geteuid() == 0
        folder.chmod(0o755 if is_root else 0o555)
        if is_root:
            os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            if is_root:
                os.seteuid(0)
            folder.chmod(0o755)


def test_a_folder_is_written_renamed_mapped_and_left_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "findings"
    found = by_check(artifact_folder(folder, SIZE, 10))
    assert {finding.status for finding in found.values()} == {"ok"}
    assert f"of uid {os.geteuid()} and mode" in found["artifacts"].found
    assert "MB/s" in found["artifact speed"].found
    assert found["artifact extras"].found == "rename folders yes, hard links yes, chmod yes"
    assert list(folder.iterdir()) == []


def test_a_folder_of_another_user_is_to_fix() -> None:
    with unwritable() as folder:
        (found,) = artifact_folder(folder, SIZE, 10)
        uid = os.geteuid()
    assert (found.status, found.found) == ("fix", "the artifact folder: Permission denied")
    assert found.remedy == f"let uid {uid} write there"


def test_an_attempt_that_can_leave_nothing_is_to_fix() -> None:
    with unwritable() as folder:
        (found,) = attempt(folder)
    assert (found.status, found.found) == ("fix", "cannot leave anything for a retry (Permission denied)")


def test_in_a_bucket_the_role_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", denied)
    (found,) = artifact_folder(Path("/gcs/bucket/run/findings"), SIZE, 10)
    assert found.found == "the bucket under /gcs: Permission denied"
    assert "roles/storage.objectUser" in found.remedy


def test_a_place_that_is_no_folder_is_to_fix(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (found,) = artifact_folder(tmp_path / "file", SIZE, 10)
    assert (found.check, found.status) == ("artifacts", "fix")


def test_slow_reading_is_a_warning_with_the_time_of_ten_gigabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "speed", lambda *_: Speed(write=8e6, read=10e6, files=6))
    found = by_check(artifact_folder(tmp_path, SIZE, 10))["artifact speed"]
    assert found.status == "warning"
    assert found.found == (
        "writes 8 MB/s, reads a mapped file at 10 MB/s, writes 6 small files/s: 10 GB take 17 minutes"
    )


def test_writing_and_reading_stop_when_their_time_is_over(tmp_path: Path) -> None:
    measured = files.speed(tmp_path, 1 << 40, 0.05)
    assert measured.write > 0
    assert measured.read > 0
    assert list(tmp_path.iterdir()) == []


def test_other_bytes_than_were_written_are_to_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = files._read

    def damaged(path: Path, seconds: float) -> tuple[int, int, float]:
        with path.open("r+b") as file:
            byte = file.read(1)
            file.seek(0)
            file.write(bytes([byte[0] ^ 1]))
        return read(path, seconds)

    monkeypatch.setattr(files, "_read", damaged)
    (found,) = artifact_folder(tmp_path, SIZE, 10)
    assert (found.status, found.found) == ("fix", "the artifact folder: reads other bytes than were written")


def test_an_attempt_sees_the_one_before_in_the_same_folder_only(tmp_path: Path) -> None:
    (first,) = attempt(tmp_path / "findings")
    (second,) = attempt(tmp_path / "findings")
    (elsewhere,) = attempt(tmp_path / "other")
    assert first.found == elsewhere.found == "the first one, or a retry that sees nothing of the one before"
    assert second.found.startswith("sees what an attempt left at 20")
    assert {found.status for found in (first, second, elsewhere)} == {"ok"}
