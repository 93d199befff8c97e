"""Sources that are named like files but are not: one line each, and no wait for a writer."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from components.engines.duckdb import DuckDB
from components.extract.storage import find_files
from trainer.errors import InputError
from trainer.job.reading import read_interactions

pytestmark = pytest.mark.attack

CSV = "user,item,rating\n1,2,3\n"


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def _link_to_nothing(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


PLACES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a link to itself": (_link_to_itself, "cannot be read (Too many levels of symbolic links)"),
    "a link to nothing": (_link_to_nothing, "cannot be read (No such file or directory)"),
    "a named pipe": (_pipe, "is not a regular file"),
    "a device": (_device, "is not a regular file"),
}
places = pytest.mark.parametrize(("make", "reported"), PLACES.values(), ids=PLACES)


def found(source: object) -> list[str]:
    with DuckDB.open(ordered=True) as database:
        return find_files(database, str(source))


@places
@pytest.mark.parametrize("source", ["a.csv", ".", "*.csv"])
def test_what_is_not_a_file_is_refused_by_name(
    source: str, make: Callable[[Path], None], reported: str, tmp_path: Path
) -> None:
    (tmp_path / "b.csv").write_text(CSV, "utf-8")
    make(tmp_path / "a.csv")
    with pytest.raises(InputError) as refused:
        found(tmp_path / source)
    assert reported in str(refused.value)
    assert str(tmp_path / "a.csv") in str(refused.value)


@places
def test_the_training_job_refuses_them_too(
    make: Callable[[Path], None], reported: str, tmp_path: Path
) -> None:
    make(tmp_path / "a.csv")
    with pytest.raises(InputError) as refused:
        read_interactions(tmp_path / "a.csv", delimiter=",", headers=True)
    assert reported in str(refused.value)


@pytest.mark.parametrize("name", ["a" * 5000, "a/" * 5000 + "b.csv", f"{'a' * 300}*.csv"])
def test_a_name_that_no_file_can_have_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(InputError, match=r"cannot be read|there is no such file") as refused:
        found(name)
    assert len(str(refused.value)) < 500


def test_folders_named_like_files_are_folders(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    (tmp_path / "a.csv" / "b.csv").write_text(CSV, "utf-8")
    (tmp_path / "c.parquet").mkdir()
    inner = str(tmp_path / "a.csv" / "b.csv")
    assert found(tmp_path) == [inner]
    assert found(tmp_path / "a.csv") == [inner]
    assert found(f"{tmp_path}/**") == [inner]
    with pytest.raises(InputError, match="there is no such file"):
        found(tmp_path / "*.parquet")


def test_links_to_folders_above_do_not_repeat_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV, "utf-8")
    (tmp_path / "again").symlink_to(tmp_path)
    assert found(f"{tmp_path}/**/*.csv") == [str(tmp_path / "a.csv")]
