"""The files in which people configure: what they mean, and what is refused in one line."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.definition.mappings import read_mapping
from tests.pipeline.conftest import Wals
from trainer.errors import InputError

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
MERGE_BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], y{n}: 1}}\n" for n in range(1, 10)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 2000))
PIECES = """a b:_ a:_ ↵ __ -_ [ ] { } ,_ &a_ *a <<:_ ?_ !!int_ 010 1:30 ~ ' " |↵ % ---↵ = [[a]] ␀ é 0x .nan"""
REFUSED = {
    "a name twice": (
        "yaml",
        "platform: {host: a}\nimages: {}\nplatform: {host: b}",
        "platform is given twice",
    ),
    "its line": ("yaml", "a: 1\nb: 2\na: 3", "in line 3"),
    "a nested name twice": ("yaml", "train: {cpu: 1, memory: 1G, cpu: 2}", "cpu is given twice"),
    "a name twice in a list": ("yaml", "a: [{b: 1, b: 2}]", "b is given twice"),
    "a name twice, quoted": ("yaml", "a: 1\n'a': 2", "a is given twice"),
    "a name twice, under an anchor": ("yaml", "a: &x {b: 1, b: 2}\nc: {<<: *x}", "b is given twice"),
    "aliases of aliases": ("yaml", BOMB, "more than 10,000 values"),
    "merges of merges": ("yaml", MERGE_BOMB, "more than 10,000 values"),
    "a chain of aliases": ("yaml", CHAIN, "more than 32 levels"),
    "an alias of itself": ("yaml", "a: &a [*a]", "*a contains itself"),
    "a merge of itself": ("yaml", "a: &a {<<: *a}", "*a contains itself"),
    "deep lists": ("yaml", "a: " + "[" * 100_000, "more than 32 levels"),
    "deep mappings": ("yaml", "".join(f"{' ' * n}a:\n" for n in range(1000)), "more than 32 levels"),
    "many values": ("yaml", "a:\n" + "- 1\n" * 200_000, "more than 10,000 values"),
    "a large file": ("yaml", "# " + "x" * 2_000_000, "is larger than 1,048,576 bytes"),
    "a large TOML file": ("toml", "# " + "x" * 2_000_000, "is larger than 1,048,576 bytes"),
    "deep TOML": ("toml", "a = " + "[" * 100_000, "nested too deeply"),
    "a TOML name twice": ("toml", "a = 1\na = 2", "is not valid TOML"),
    "a number of 5,000 digits": ("yaml", "a: " + "9" * 5000, "is not valid YAML"),
    "a TOML number of 5,000 digits": ("toml", "a = " + "9" * 5000, "is not valid TOML"),
    "a name that is a number": ("yaml", "1: a", "is not text"),
    "a name that is a list": ("yaml", "? [a]\n: b", "is not text"),
    "an object of Python": ("yaml", "a: !!python/object/apply:os.system [ls]", "is not supported"),
    "a tag": ("yaml", "a: !!bool perhaps", "is not supported"),
    "a tag of a date": ("yaml", "a: !!timestamp perhaps", "is not supported"),
    "a control character": ("yaml", "a: \x1b[2J", "is not valid YAML"),
    "an unknown alias": ("yaml", "a: *b", "undefined alias"),
    "two documents": ("yaml", "a: 1\n---\nb: 1", "is not valid YAML"),
    "a list": ("yaml", "- a", "is not a mapping"),
}


@pytest.mark.parametrize(("suffix", "text", "reported"), REFUSED.values(), ids=REFUSED)
def test_what_would_have_to_be_guessed_is_refused_in_one_line(
    suffix: str, text: str, reported: str, tmp_path: Path
) -> None:
    path = tmp_path / f"config.{suffix}"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError) as refused:
        read_mapping("config", path)
    assert reported in str(refused.value)
    assert str(path) in str(refused.value)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", "010"),
        ("-010", "-010"),
        ("1:30", "1:30"),
        ("1:30.5", "1:30.5"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("0o17", 15),
        ("0x1F", 31),
        ("-7", -7),
        ("0", 0),
        ("1e-3", 0.001),
        ("1.5", 1.5),
        (".5", 0.5),
        ("2026-01-31", "2026-01-31"),
        ("2026-01-31 10:00:00", "2026-01-31 10:00:00"),
        ("no", "no"),
        ("on", "on"),
        ("NO", "NO"),
        ("=", "="),
        ("true", True),
        ("~", None),
        ("'7'", "7"),
    ],
)
def test_values_are_those_of_yaml_1_2(text: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"a: {text}\n", "utf-8")
    found = read_mapping("config", path)["a"]
    assert found == value
    assert type(found) is type(value)


def test_anchors_and_merges_work_within_the_limits(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("a: &a {x: 1, y: 1}\nb: {<<: *a, y: 2}\nc: *a\n", "utf-8")
    assert read_mapping("config", path) == {
        "a": {"x": 1, "y": 1},
        "b": {"x": 1, "y": 2},
        "c": {"x": 1, "y": 1},
    }


def test_a_number_that_yaml_1_1_takes_for_octal_is_refused(
    wals: Wals, kubeflow_config: Path, tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "platform: {target: kubeflow, host: http://localhost:1}\nparameters: {latent_factors: 010}\n"
    )
    result = wals("submit", "--config", path, "--dry-run")
    assert result.exit_code == 2
    assert "latent_factors '010': is neither auto nor an integer" in result.stderr
    assert result.stderr.count("\n") == 1


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


def _nothing(path: Path) -> None:
    pass


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


PLACES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a folder": (Path.mkdir, "is a folder"),
    "a named pipe": (_fifo, "is not a regular file"),
    "a device": (_device, "is not a regular file"),
    "a link to itself": (_loop, "cannot be read (Too many levels of symbolic links)"),
    "a link to nothing": (_dangling, "cannot be read (No such file or directory)"),
    "nothing": (_nothing, "cannot be read (No such file or directory)"),
}


@pytest.mark.parametrize(("make", "reported"), PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("name", ["config.yaml", "config.toml"])
def test_a_path_that_is_not_a_file_is_refused_in_one_line(
    name: str, make: Callable[[Path], Any], reported: str, tmp_path: Path
) -> None:
    make(tmp_path / name)
    with pytest.raises(InputError) as refused:
        read_mapping("config", tmp_path / name)
    assert reported in str(refused.value)


@pytest.mark.parametrize("name", ["a" * 5000, "a/" * 5000, "a\0b"])
def test_a_name_that_no_file_can_have_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_mapping("config", Path(name))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    suffix=st.sampled_from(["yaml", "toml"]),
    parts=st.lists(
        st.sampled_from(PIECES.split()),
        max_size=25,
    ),
)
def test_no_text_is_a_bug(suffix: str, parts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / f"any.{suffix}"
    path.write_text("".join(parts).translate(str.maketrans("_↵␀", " \n\0")), "utf-8")
    with contextlib.suppress(InputError):
        assert all(isinstance(name, str) for name in read_mapping("config", path))
