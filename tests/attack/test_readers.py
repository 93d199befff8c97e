"""Random text in place of configuration and ratings: read, or refused in one line."""

import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from components.extract.options import ExtractOptions
from components.extract.step import extract
from pipeline.definition.mappings import read_mapping
from trainer.errors import WalsError
from trainer.files import MANIFEST
from trainer.job.reading import read_interactions

pytestmark = pytest.mark.attack

# Random inputs differ in each run, so that the attacks go on; a failure is printed with its input.
SETTINGS = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}

YAML = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *(
                    "a: ",
                    "b: ",
                    "- ",
                    "? ",
                    ": ",
                    "\n",
                    "\n  ",
                    "\n    ",
                    "\t",
                    "{",
                    "}",
                    "[",
                    "]",
                    ",",
                    "|",
                    ">",
                ),
                *(
                    "&a ",
                    "*a",
                    "<<: ",
                    "!!python/object:os.system ",
                    "!!str ",
                    "!",
                    "---\n",
                    "...\n",
                    "%YAML 1.1\n",
                ),
                *(
                    "010",
                    "1:30",
                    ".inf",
                    ".nan",
                    "1e999",
                    "0x1f",
                    "~",
                    "no",
                    "2020-01-01",
                    "'",
                    '"',
                    "\\",
                    "#",
                    "\0",
                ),
                *("\ufeff", "\x85", "\u2028", "\ud800", "9" * 5000, "[" * 200),
            ]
        ),
        st.text(max_size=4),
    ),
    max_size=24,
)
FIELDS = st.one_of(
    st.sampled_from(
        [
            *(
                "1",
                "2",
                "3",
                "1.0",
                "-1",
                "007",
                "9" * 25,
                "x",
                "",
                " ",
                "5",
                "0.5",
                "nan",
                "inf",
                "1e999",
                "true",
            ),
            *(
                '"',
                '""',
                "'",
                '"a,b"',
                "\0",
                "\x1b[2J",
                "\ufeff",
                "2020-01-01",
                "1400000000",
                "-9" * 12,
                "é" * 50,
            ),
        ]
    ),
    st.text(max_size=3),
)
ROWS = st.lists(st.lists(FIELDS, min_size=2, max_size=5), max_size=6)
HEADERS = st.sampled_from(
    [
        "user_id,item_id,rating",
        "user_id,item_id,rating,timestamp",
        "userId,movieId,rating,timestamp",
        "user_id,user_id,rating",
        "a,b,c",
        "",
    ]
)
CSV = st.tuples(HEADERS, ROWS, st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())


@settings(max_examples=1_500, **SETTINGS)
@given(parts=YAML)
def test_a_configuration_is_read_or_refused(parts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_bytes("".join(parts).encode("utf-8", "surrogatepass"))
        with contextlib.suppress(WalsError):
            found = read_mapping("config", path)
            assert all(isinstance(name, str) for name in found)


def written(folder: Path, csv: tuple[str, list[list[str]], str, bool]) -> Path:
    header, rows, newline, ends = csv
    path = folder / "ratings.csv"
    lines = [header, *(",".join(row) for row in rows)]
    text = newline.join(lines) + (newline if ends else "")
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return path


@settings(max_examples=400, **SETTINGS)
@given(csv=CSV, headers=st.booleans())
def test_the_training_job_reads_or_refuses_a_file(
    csv: tuple[str, list[list[str]], str, bool], headers: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(WalsError):
        data = read_interactions(written(Path(folder), csv), delimiter=",", headers=headers)
        assert data.matrix.shape == (len(data.users), len(data.items))
        assert 1 <= data.matrix.nnz <= 1 + len(csv[1])


@settings(max_examples=150, phases=[Phase.generate], **SETTINGS)
@given(csv=CSV)
def test_the_extraction_reads_or_refuses_a_file(csv: tuple[str, list[list[str]], str, bool]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = ExtractOptions(source=str(written(folder, csv)))
        outputs = {part: folder / part for part in ("interactions", "catalogue")}
        refused = True
        with contextlib.suppress(WalsError):
            extract(options, **outputs)
            refused = False
        assert (folder / "interactions" / MANIFEST).exists() != refused
