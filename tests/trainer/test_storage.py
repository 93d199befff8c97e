"""Deliveries that end at any file leave nothing that a reader would take for whole."""

from pathlib import Path

import pytest

from trainer import storage
from trainer.errors import WalsError
from trainer.files import MANIFEST

FILES = ("metrics.json", f"model/{MANIFEST}", "model/factors.npy", "model/ids.parquet", "weights.json")


@pytest.mark.parametrize("copies", range(len(FILES)))
def test_an_artifact_has_its_manifest_only_with_all_its_files(
    copies: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, destination = tmp_path / "output", tmp_path / "destination"
    for name in FILES:
        for folder, text in ((output, "new"), (destination, "old")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, "utf-8")
    left, copy = [copies], storage.copy_file

    def fail_later(source: Path, target: Path) -> None:
        if not left[0]:
            raise OSError("No space left on device")
        left[0] -= 1
        copy(source, target)

    monkeypatch.setattr(storage, "copy_file", fail_later)
    with pytest.raises(WalsError, match="No space left"):
        storage.deliver(output, "--job-dir", str(destination), "metrics.json")
    found = {path.relative_to(destination).as_posix(): path.read_text() for path in destination.rglob("*.*")}
    assert set(found.values()) <= {"new"}
    if f"model/{MANIFEST}" in found:
        assert {name for name in FILES if name.startswith("model/")} <= set(found)
    assert "metrics.json" not in found
