"""Training and ranking compared with other libraries: seconds per iteration, and seconds to equal quality.

    python benchmarks/train.py [--d 64 128 256] [--rounds 2] [--data power-law movielens]

The peers (benchmarks/peers.lock.txt) run in a separate environment under build/. Libraries take turns in each
round, on all cores; a figure is the best of the rounds. Prints Markdown tables.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from environments import BUILD, python_of
from scipy import sparse
from train_data import movielens_matrix, power_law_matrix, split

from trainer.matrix import InteractionMatrix

HERE = Path(__file__).parent
MOVIELENS = HERE.parent / "data" / "ml-latest-small" / "ratings.csv"

CONTESTANTS = {
    "ours, CG": ("ours", "cg"),
    "irspack, CG": ("irspack", "CG"),
    "implicit, CG": ("implicit", "CG"),
    "ours, Cholesky": ("ours", "cholesky"),
    "irspack, Cholesky": ("irspack", "CHOLESKY"),
    "ours, iALS++": ("ours", "ialspp"),
    "irspack, iALS++": ("irspack", "IALSPP"),
    "Spark ALS": ("spark", "Cholesky"),
}
# What each library recommends, or sets itself when it is imported before NumPy.
ENVIRONMENT = {
    "ours": {"OPENBLAS_THREAD_TIMEOUT": "4"},
    "irspack": {},
    "implicit": {"OPENBLAS_NUM_THREADS": "1"},
    "spark": {"OPENBLAS_NUM_THREADS": "1"},
}
# The quality of this peer after this many iterations is the target for every library.
RIVAL = "irspack, CG"
RIVAL_ITERATIONS = 8
# By data set. For MovieLens, the value with the rival's best NDCG@20 among 0.001, 0.003, 0.01 and 0.03.
REGULARIZATION = {"power-law": 0.001, "movielens": 0.01}


def prepare(name: str) -> Path:
    """Return the folder of a data set's training and test matrix, created on first use."""
    folder = BUILD / name
    if not (folder / "test.npz").exists():
        folder.mkdir(parents=True, exist_ok=True)
        matrix = power_law_matrix() if name == "power-law" else movielens_matrix(MOVIELENS)
        for part, content in zip(("train", "test"), split(matrix), strict=True):
            sparse.save_npz(folder / f"{part}.npz", content)
    return folder


def run(contestant: str, data: Path, d: int, iterations: int) -> dict[str, Any]:
    """Train one contestant in a separate process and return its results."""
    library, solver = CONTESTANTS[contestant]
    python = Path(sys.executable) if library == "ours" else python_of("peers", HERE / "peers.lock.txt")
    script = str(HERE / "train_contestant.py")
    command = [
        str(python),
        script,
        library,
        solver,
        str(data),
        "--d",
        str(d),
        "--iterations",
        str(iterations),
        "--regularization",
        str(REGULARIZATION[data.name]),
    ]
    environment = os.environ | ENVIRONMENT[library]
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    result: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return result


_ALONE = """
import json, sys, time
began = time.perf_counter()
from pathlib import Path
from trainer.config import TrainConfig
from trainer.training import fit
from trainer.matrix import InteractionMatrix
imported = time.perf_counter()
matrix = InteractionMatrix.open(Path({folder!r}))
opened = time.perf_counter()
model = fit(matrix, TrainConfig(latent_factors={d}, num_iters=3, solver={solver!r}, unobs_weight=0.1))
# The peak from getrusage starts at the parent's memory at the time it started this process.
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(json.dumps({{
    "import": imported - began,
    # The first iteration's extra time over a later one is the loading of compiled kernels.
    "kernels": time.perf_counter() - opened - sum(i.seconds for i in model.history)
    + model.history[0].seconds - model.history[2].seconds,
    "peak": int(status["VmHWM"].split()[0]) * 1024,
    "data": sum(
        part.nbytes
        for shard in [*matrix.by_row, *matrix.by_column]
        for part in (shard.indptr, shard.indices, shard.values)
    ),
    "factors": model.user_factors.nbytes + model.item_factors.nbytes,
    "tensorflow": "tensorflow" in sys.modules,
}}))
"""


def alone(data: str, dimensions: list[int]) -> None:
    """Print what our library needs by itself to train from a matrix on disk with compiled kernels."""
    folder = BUILD / data / "matrix"
    if not folder.exists():
        InteractionMatrix.from_scipy(sparse.load_npz(BUILD / data / "train.npz")).save(folder)
    print(f"\n{data}: a separate process that opens the matrix, memory-mapped, and trains\n")
    print(
        "| d | solver | matrix, both ways, MiB | factors, MiB | peak, MiB | beyond factors, MiB | imports, s "
        "| loading kernels, s |"
    )
    print("|" + "---|" * 8)
    for d in dimensions:
        for solver in ("cg", "cholesky", "ialspp"):
            script = _ALONE.format(folder=str(folder), d=d, solver=solver)
            # The first run compiles the kernels if this machine has not yet.
            for _ in range(2):
                finished = subprocess.run(
                    [sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, cwd=HERE.parent
                )
            result = json.loads(finished.stdout.splitlines()[-1])
            if result["tensorflow"]:
                raise SystemExit("the trainer imported TensorFlow")
            size = {name: result[name] / 2**20 for name in ("peak", "data", "factors")}
            beyond = size["peak"] - size["factors"]
            print(
                f"| {d} | {solver} | {size['data']:.0f} | {size['factors']:.0f} | {size['peak']:.0f} "
                f"| {beyond:.0f} | {result['import']:.2f} | {result['kernels']:.2f} |",
                flush=True,
            )


def machine_limit() -> tuple[float, float]:
    """Return GFLOP/s of a large float32 matrix product and GB/s of a large copy, on all cores."""
    square = np.ones((2048, 2048), np.float32)
    long = np.ones(64 << 20, np.float32)
    copy = np.empty_like(long)
    product, moved = [], []
    for _ in range(5):
        began = time.perf_counter()
        square @ square
        product.append(time.perf_counter() - began)
        began = time.perf_counter()
        np.copyto(copy, long)
        moved.append(time.perf_counter() - began)
    return 2 * 2048**3 / min(product) / 1e9, 2 * long.nbytes / min(moved) / 1e9


def iterations_to(target: float, result: dict[str, Any]) -> float:
    """Return the iterations until the quality is reached; infinite if it never is."""
    reached = np.flatnonzero(np.array(result["ndcg"]) >= target)
    return float(reached[0] + 1) if reached.size else float("inf")


def seconds_to(target: float, result: dict[str, Any]) -> float:
    """Return the seconds of training until the quality is reached; infinite if it never is."""
    needed = iterations_to(target, result)
    return float(sum(result["seconds"][: int(needed)])) if np.isfinite(needed) else needed


def cpu_seconds(result: dict[str, Any]) -> float:
    """Return the median CPU seconds of the iterations after the first, which includes the set-up."""
    return float(np.median(result["cpu_seconds"][1:]))


def compare(data: str, d: int, contestants: list[str], rounds: int, iterations: int) -> None:
    """Print the table of one data set and d."""
    folder = prepare(data)
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
    for name in contestants:
        if CONTESTANTS[name][0] == "ours":
            # Compiles the kernels if this machine has not yet. The first iteration then loads them.
            run(name, folder, d, 1)
    for _ in range(rounds):
        for name in contestants:
            results[name].append(run(name, folder, d, iterations))
    rival = results[RIVAL][0]
    target = rival["ndcg"][RIVAL_ITERATIONS - 1]
    best = {name: min(seconds_to(target, result) for result in runs) for name, runs in results.items()}
    cpu = {name: min(map(cpu_seconds, runs)) for name, runs in results.items()}
    cpu_best = {name: cpu[name] * iterations_to(target, runs[0]) for name, runs in results.items()}
    entries = sparse.load_npz(folder / "train.npz").nnz
    print(f"\n{data}, {entries:,} training entries, d = {d}; NDCG@20 to reach {target:.4f}\n")
    print(
        "| | s per iteration | CPU s per iteration | NDCG@20 at the end | s to equal NDCG@20 | ratio "
        "| CPU s to equal NDCG@20 | ratio | peak MiB | top-20 of all, s |"
    )
    print("|" + "---|" * 10)
    for name, runs in results.items():
        iteration = min(float(np.median(result["seconds"])) for result in runs)
        rank = min(result["rank_seconds"] for result in runs)
        library = CONTESTANTS[name][0]
        shown_rank = f"{rank:.2f}" if library in ("ours", "implicit") else ""
        # Spark runs in a Java process, whose time and memory are not measured here.
        shown_cpu = f"{cpu[name]:.3f}" if library != "spark" else ""
        shown_cpu_best = f"{cpu_best[name]:.2f}" if library != "spark" else ""
        shown_cpu_ratio = f"{cpu_best[name] / cpu_best[RIVAL]:.2f}" if library != "spark" else ""
        shown_peak = f"{runs[0]['peak_mib']:.0f}" if library != "spark" else ""
        print(
            f"| {name} | {iteration:.3f} | {shown_cpu} | {runs[0]['ndcg'][-1]:.4f} "
            f"| {best[name]:.2f} | {best[name] / best[RIVAL]:.2f} | {shown_cpu_best} "
            f"| {shown_cpu_ratio} | {shown_peak} | {shown_rank} |",
            flush=True,
        )
    if "ours, CG" in results:
        # Two steps: the residual (4d), a step (4d), the last step without its residual (2d), on both sides.
        work = 2 * entries * 10 * d / 1e9
        fastest = min(float(np.median(result["seconds"])) for result in results["ours, CG"])
        flops, bandwidth = machine_limit()
        traffic = 2 * entries * 4 * d / 1e9
        print(
            f"\nOurs, CG: {work:.1f} GFLOP an iteration at {work / fastest:.0f} GFLOP/s "
            f"({work / fastest / flops:.0%} of this machine's matrix product, {flops:.0f} GFLOP/s); "
            f"factor rows fetched at {traffic / fastest:.0f} GB/s if all were in single precision, "
            f"where a copy of main memory moves {bandwidth:.0f} GB/s."
        )


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--d", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--data", nargs="+", default=["power-law", "movielens"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), metavar="NAME")
    arguments = parser.parse_args()
    for data in arguments.data:
        for d in arguments.d:
            compare(data, d, arguments.contestants, arguments.rounds, arguments.iterations)
        alone(data, arguments.d)


if __name__ == "__main__":
    main()
