"""Measures extraction and preparation, compared with the plain pandas script that they replace.

Each runs in a separate process over the same generated file. The table shows its seconds from start to end
(imports included), the CPU seconds of all its threads and its peak resident memory, each the minimum of
several turns, and the most bytes on disk at a time, with the source. A different one goes first in each turn,
because on a virtual machine the memory of an earlier process is available sooner. A step runs with the
packages of its image, the plain script with those of this environment:

    python benchmarks/data.py --millions 1 10 20 100

Every turn writes to new folders, as a nightly run does. Before the measurements everything runs once on a
little data, so that no figure includes the compilation of Python's bytecode or of our kernels, which are
cached from then on.

The plain script reads the file with pandas, factorizes both ids and builds the CSR and the CSC matrix in
memory; it holds nothing out, checks nothing and writes nothing. The second one also holds out a tenth and
writes the arrays, so that its output can be trained on like that of the two steps.
"""

import argparse
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from environments import python_of
from measuring import Usage, folder_size, measure
from pyarrow import csv

ROOT = Path(__file__).parents[1]

_CHUNK = 1_000_000
_WARM_UP = 100_000
_MEBIBYTE = 1 << 20

_EXTRACT = """
from pathlib import Path
from components.extract.options import ExtractOptions
from components.extract.step import extract
folder = Path({folder!r})
extract(
    ExtractOptions(source={source!r}), interactions=folder / "interactions", catalogue=folder / "catalogue"
)
"""

_PREPARE = """
from pathlib import Path
from components.prepare.options import PrepareOptions
from components.prepare.step import prepare
folder = Path({folder!r})
prepare(
    PrepareOptions(),
    interactions=folder / "interactions",
    training=folder / "training",
    holdout=folder / "holdout",
    vocabulary=folder / "vocabulary",
    profile=folder / "profile",
    profile_report=folder / "profile.html",
)
"""

_PANDAS = """
import pandas as pd
from scipy.sparse import csr_matrix
ratings = pd.read_{format}({source!r})
users, user_ids = pd.factorize(ratings["user_id"])
items, item_ids = pd.factorize(ratings["item_id"])
by_user = csr_matrix((ratings["rating"], (users, items)), shape=(len(user_ids), len(item_ids)))
by_item = by_user.tocsc()
"""

_PANDAS_SAVED = """
from pathlib import Path
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
folder = Path({folder!r}) / "plain"
folder.mkdir(exist_ok=True)
ratings = pd.read_{format}({source!r})
users, user_ids = pd.factorize(ratings["user_id"])
items, item_ids = pd.factorize(ratings["item_id"])
pd.DataFrame({{"id": user_ids}}).to_parquet(folder / "users.parquet")
pd.DataFrame({{"id": item_ids}}).to_parquet(folder / "items.parquet")
held_out = np.random.default_rng(42).random(len(ratings)) < 0.1
for name, part in (("training", ~held_out), ("holdout", held_out)):
    matrix = csr_matrix(
        (ratings["rating"].to_numpy()[part], (users[part], items[part])), shape=(len(user_ids), len(item_ids))
    )
    for orientation, compressed in (("by_user", matrix), ("by_item", matrix.tocsc())):
        for array in ("indptr", "indices", "data"):
            np.save(folder / f"{{name}}.{{orientation}}.{{array}}.npy", getattr(compressed, array))
"""


def generate(path: Path, interactions: int, seed: int = 0) -> None:
    """Write interactions with popular items and busy users, a million at a time.

    A hundred interactions a user and a thousand an item on average, int64 ids with gaps, float32 ratings
    and no times.
    """
    users, items = max(interactions // 100, 2), max(interactions // 1000, 2)
    random = np.random.default_rng(seed)
    schema = pa.schema([("user_id", pa.int64()), ("item_id", pa.int64()), ("rating", pa.float32())])
    writer_of = csv.CSVWriter if path.suffix == ".csv" else pq.ParquetWriter
    with writer_of(path, schema) as writer:
        for start in range(0, interactions, _CHUNK):
            rows = min(_CHUNK, interactions - start)
            columns = [
                (random.random(rows) ** 1.5 * users).astype(np.int64) * 7 + 3,
                (random.random(rows) ** 2.5 * items).astype(np.int64) * 5 + 1,
                random.integers(1, 11, rows).astype(np.float32) / 2,
            ]
            writer.write_table(pa.table(columns, schema=schema))


def take_turns(
    contestants: Sequence[Sequence[tuple[str, str, list[str]]]], turns: int, folder: Path
) -> dict[str, list[Usage]]:
    """Run the parts of every contestant, with a different contestant first in each turn.

    Args:
        contestants: name, script and output folders of each part; a step is named like its lock.
        turns: number of turns of all contestants.
        folder: parent of the output folders, which are removed before a run.

    Returns:
        What each took in each turn, by name.
    """
    pythons = {
        step: python_of(step, ROOT / "requirements" / f"{step}.lock.txt") for step in ("extract", "prepare")
    }
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    figures: dict[str, list[Usage]] = {}
    for turn in range(turns):
        first = turn % len(contestants)
        for name, script, outputs in chain(*contestants[first:], *contestants[:first]):
            for output in outputs:
                shutil.rmtree(folder / output, ignore_errors=True)
            command = [str(pythons.get(name, sys.executable)), "-c", script]
            figures.setdefault(name, []).append(measure(command, environment, folder=folder))
    return figures


def main() -> None:
    """Generate, measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--millions", type=int, nargs="+", default=[1, 10, 20], help="interactions, in millions"
    )
    parser.add_argument("--turns", type=int, default=3, help="number of turns of all contestants")
    parser.add_argument(
        "--pandas-up-to", type=int, default=20, help="largest input for the plain script, in millions"
    )
    parser.add_argument("--format", choices=("parquet", "csv"), default="parquet", help="source format")
    parser.add_argument("--folder", type=Path, help="folder for the data; a temporary one by default")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}\n")
    columns = ["interactions", "what", "seconds", "CPU seconds", "peak MiB"]
    columns += ["CPU µs each", "output bytes each", "disk bytes each"]
    print("|", " | ".join(columns), "|")
    print("|---:|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        folder = Path(scratch)
        source = folder / f"source.{arguments.format}"
        for interactions in (_WARM_UP, *(millions * 1_000_000 for millions in arguments.millions)):
            generate(source, interactions)
            is_compared = interactions <= arguments.pandas_up_to * 1_000_000
            more_turns = is_compared or arguments.turns > 1 or interactions == _WARM_UP
            values = {"source": str(source), "folder": str(folder), "format": arguments.format}
            # What nobody reads again needs no room on disk.
            drop = "" if more_turns else f"\nPath({str(source)!r}).unlink()"
            ours = [
                ("extract", _EXTRACT.format(**values) + drop, ["interactions"]),
                ("prepare", _PREPARE.format(**values), ["training", "holdout", "vocabulary"]),
            ]
            contestants = [ours]
            if is_compared:
                contestants += [
                    [("plain pandas, in memory", _PANDAS.format(**values), [])],
                    [("plain pandas, with holdout and files", _PANDAS_SAVED.format(**values), ["plain"])],
                ]
            if interactions == _WARM_UP:
                take_turns(contestants, 1, folder)
                continue
            figures = take_turns(contestants, arguments.turns, folder)
            for name, _, outputs in chain(*contestants):
                seconds, cpu, peak = (
                    min(getattr(usage, of) for usage in figures[name])
                    for of in ("seconds", "cpu_seconds", "peak_bytes")
                )
                disk = max(usage.disk_bytes for usage in figures[name])
                written = sum(folder_size(folder / output) for output in outputs)
                print(
                    f"| {interactions:,} | {name} | {seconds:.2f} | {cpu:.2f} | {peak / _MEBIBYTE:,.0f} "
                    f"| {cpu / interactions * 1e6:.2f} | {written / interactions:.1f} "
                    f"| {disk / interactions:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
