"""The whole job: ``wals run`` from Parquet to published recommendations, beside a script with implicit.

    python benchmarks/pipeline.py --millions 1 10 20 100 --script-up-to 20

Both run in separate processes over the same generated file, and take turns; a different one goes first in
each turn. The table shows seconds from start to end (imports included) and the peak resident memory of the
largest process, and below them those of each step, or part of the script: the best of the turns. Everything
runs once on a little data before, so that no figure includes compiling.

`wals run` trains for as many iterations as the script, and delivers the evaluated model
(``--refit-iters 0``). It also does what the script does not: it checks the data, judges baselines, with
intervals and segments, finds similar items, and writes embeddings, reports and checksums.
"""

import argparse
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from environments import python_of
from measuring import Usage, measure

from data import generate

HERE = Path(__file__).parent
ROOT = HERE.parent

_FACTORS, _ITERATIONS = 64, 16
_WARM_UP = 100_000
_MEBIBYTE = 1 << 20
_STEP = re.compile(r"--function_to_execute\0([a-z_]+)")
_OPTIONS = {
    "latent-factors": _FACTORS,
    "num-iters": _ITERATIONS,
    "regularization": 0.003,
    "unobs-weight": 0.1,
    "alpha": 0.0,
    "refit-iters": 0,
    # On random data, what is popular is best.
    "min-over-popularity": -1,
}


@dataclass(frozen=True)
class Turn:
    """What one run took.

    Attributes:
        whole: of all processes.
        seconds: seconds by step, or by part of the script.
        ndcg: the model's NDCG@20.
    """

    whole: Usage
    seconds: dict[str, float]
    ndcg: float


def ours(source: Path, folder: Path, environment: dict[str, str]) -> Turn:
    """Run the pipeline."""
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    options = [f"--{name}={value}" for name, value in _OPTIONS.items()]
    wals = Path(sys.executable).with_name("wals")
    command = [str(wals), "run", "--source", str(source), "--output-dir", str(run), *options]
    usage = measure(command, environment, folder=folder, name_of=_step_of)
    record = json.loads((run / "run.json").read_text("utf-8"))
    seconds = {
        step["name"]: (_time(step["ended"]) - _time(step["started"])).total_seconds()
        for step in record["steps"]
    }
    evaluation = json.loads((run / "evaluation" / "_manifest.json").read_text("utf-8"))
    return Turn(usage, seconds, evaluation["metrics"]["model"]["ndcg_at_20"]["value"])


def script(source: Path, folder: Path, environment: dict[str, str]) -> Turn:
    """Run the script."""
    output = folder / "recommendations.parquet"
    python = python_of("peers", HERE / "peers.lock.txt")
    command = [str(python), str(HERE / "pipeline_script.py"), str(source), str(output)]
    command += [f"--factors={_FACTORS}", f"--iterations={_ITERATIONS}"]
    # As implicit asks for.
    usage = measure(command, environment | {"OPENBLAS_NUM_THREADS": "1"}, folder=folder)
    printed = json.loads(usage.printed.splitlines()[-1])
    return Turn(usage, printed["seconds"], printed["ndcg"])


def _step_of(command: list[str]) -> str:
    found = _STEP.search("\0".join(command))
    return found[1].replace("_", "-") if found else ""


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def rows_of(interactions: int, name: str, turns: list[Turn]) -> Iterator[str]:
    """Yield the rows of the table of one contestant."""
    best = min(turns, key=lambda turn: turn.whole.seconds)
    peak = max(best.whole.peak_bytes, *best.whole.peaks.values(), 0) / _MEBIBYTE
    start = f"| {interactions:,} "
    yield (
        f"{start}| **{name}** | **{best.whole.seconds:.1f}** | {best.whole.cpu_seconds:.1f} "
        f"| **{peak:,.0f}** | {best.whole.disk_bytes / _MEBIBYTE:,.0f} | {best.ndcg:.4f} |"
    )
    for part in best.seconds:
        seconds = min(turn.seconds[part] for turn in turns)
        own = best.whole.peaks.get(part)
        yield f"{start}| {name}: {part} | {seconds:.1f} | | {f'{own / _MEBIBYTE:,.0f}' if own else ''} | | |"


def main() -> None:
    """Generate, measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--millions", type=int, nargs="+", default=[1, 10, 20, 100], help="interactions, in millions"
    )
    parser.add_argument("--turns", type=int, default=1, help="number of turns of both")
    parser.add_argument(
        "--script-up-to", type=int, default=20, help="largest input for the script, in millions"
    )
    parser.add_argument("--folder", type=Path, help="folder for the data; a temporary one by default")
    arguments = parser.parse_args()
    load = os.getloadavg()[1]
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"load before: {load:.1f}\n"
    )
    print("| interactions | what | seconds | CPU seconds | peak MiB | disk MiB | NDCG@20 |")
    print("|---:|---|---:|---:|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        folder = Path(scratch)
        source = folder / "source.parquet"
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"TMPDIR": str(folder)}
        for interactions in (_WARM_UP, *(millions * 1_000_000 for millions in arguments.millions)):
            generate(source, interactions)
            contestants = {"wals run": ours}
            if interactions <= arguments.script_up_to * 1_000_000:
                contestants["script"] = script
            turns: dict[str, list[Turn]] = {name: [] for name in contestants}
            for turn in range(arguments.turns if interactions != _WARM_UP else 1):
                for name in list(contestants)[:: -1 if turn % 2 else 1]:
                    turns[name].append(contestants[name](source, folder, environment))
            if interactions != _WARM_UP:
                for name in contestants:
                    print(*rows_of(interactions, name, turns[name]), sep="\n", flush=True)


if __name__ == "__main__":
    main()
