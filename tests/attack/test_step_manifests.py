"""Hostile manifests between steps: a step uses an artifact as it was written, or refuses it in one line."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.attack.changes import changed, places
from tests.attack.test_bad_luck import STEPS, finished, loggers, run
from trainer.files import MANIFEST

pytestmark = pytest.mark.attack

__all__ = ["finished", "loggers"]

READ = [(step, artifact) for step, (_, _, _, read, _) in STEPS.items() for artifact in read.values()]
HOSTILE: list[Any] = [
    *(None, True, -1, 0, 1.0, 2**31, 2**63, 2**70, 1e308, float("nan"), float("inf"), [], {}, [None]),
    *(
        "",
        "x",
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        "part-00001.parquet",
        "\x1b]0;x\x07",
        "a\0b",
        "\ud800",
    ),
]


@pytest.fixture
def inputs(finished: Path, tmp_path: Path) -> Path:
    """Copies of the artifacts of a run."""
    return Path(shutil.copytree(finished, tmp_path / "inputs"))


def digests(content: Any) -> Iterator[str]:
    for place in places(content):
        value = content
        for key in place:
            value = value[key]
        if isinstance(value, str) and len(value) == 64:
            yield value


@pytest.mark.parametrize(("step", "artifact"), READ)
def test_a_step_survives_a_changed_manifest(
    step: str, artifact: str, inputs: Path, ratings_csv: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    contents = {
        path: json.loads(path.read_text("utf-8")) for path in sorted((inputs / artifact).rglob(MANIFEST))
    }
    manifests = [json.loads(path.read_text("utf-8")) for path in sorted(inputs.rglob(MANIFEST))]
    foreign = sorted({digest for content in manifests for digest in digests(content)})
    attacks = [(path, place) for path, content in contents.items() for place in places(content)]
    refused = 0

    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(attack=st.sampled_from(attacks), value=st.sampled_from([*HOSTILE, *foreign]))
    def survive(attack: tuple[Path, tuple[Any, ...]], value: Any) -> None:
        nonlocal refused
        path, place = attack
        path.write_text(json.dumps(changed(contents[path], place, value)), "utf-8")
        try:
            run(step, inputs, inputs.parent / "outputs", ratings_csv)
        except SystemExit as ended:
            code = ended.code
        else:
            code = 0
        lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("wals-error")]
        assert (code, len(lines)) in ((0, 0), (1, 1), (2, 1))
        refused += bool(lines)
        path.write_text(json.dumps(contents[path]), "utf-8")

    with contextlib.chdir(inputs.parent):
        survive()
    assert refused
    assert {path.name for path in inputs.parent.iterdir()} <= {"inputs", "outputs"}
