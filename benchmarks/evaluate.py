"""Ranking metrics compared with implicit's `ranking_metrics_at_k`: seconds and memory on the same factors.

    python benchmarks/evaluate.py [--d 64] [--k 20 100] [--rounds 3]

The libraries take turns in each round, each in a separate process on all cores, implicit in the environment
of the training benchmark; a figure is the best of the rounds. Ends with an error if the metrics that both
have differ. Prints a Markdown table.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from environments import python_of
from scipy import sparse
from train import ENVIRONMENT, HERE, prepare

from trainer.config import TrainConfig
from trainer.matrix import InteractionMatrix
from trainer.training import fit

# What a report needs, from the same lists.
LENGTHS = (10, 20, 50, 100)
# Products of float32 in another order swap a few items whose scores are nearly equal.
TOLERANCE = 1e-4


def factors(data: Path, d: int) -> Path:
    """Return the file of the factors that all contestants rank by, trained on first use."""
    path = data / f"factors-{d}.npz"
    if not path.exists():
        matrix = InteractionMatrix.from_scipy(sparse.csr_array(sparse.load_npz(data / "train.npz")))
        config = TrainConfig(latent_factors=d, num_iters=5, regularization=0.001, unobs_weight=0.1)
        model = fit(matrix, config)
        np.savez(path, users=model.user_factors, items=model.item_factors)
    return path


def run(library: str, data: Path, path: Path, ks: tuple[int, ...]) -> dict[str, Any]:
    """Judge the lists of one library in a separate process and return its results."""
    python = Path(sys.executable) if library == "ours" else python_of("peers", HERE / "peers.lock.txt")
    script = str(HERE / "evaluate_contestant.py")
    command = [str(python), script, library, str(data), str(path), *map(str, ks)]
    environment = os.environ | ENVIRONMENT[library]
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    result: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--d", type=int, default=64)
    parser.add_argument("--k", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    data = prepare("power-law")
    path = factors(data, arguments.d)
    train, test = (sparse.load_npz(data / f"{part}.npz") for part in ("train", "test"))
    print(
        f"power-law, {test.shape[0]:,} users, {test.shape[1]:,} items, {train.nnz:,} training and "
        f"{test.nnz:,} held-out entries, d = {arguments.d}\n"
    )
    print("| k | | s | ratio | peak MiB | NDCG | MAP |")
    print("|" + "---|" * 7)
    for k in arguments.k:
        contestants = {"implicit": ("implicit", (k,)), "ours": ("ours", (k,))}
        if k == max(LENGTHS):
            contestants[f"ours, at {', '.join(map(str, LENGTHS))}"] = ("ours", LENGTHS)
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
        for _ in range(arguments.rounds):
            for name, (library, ks) in contestants.items():
                results[name].append(run(library, data, path, ks))
        best = {name: min(result["seconds"] for result in runs) for name, runs in results.items()}
        metrics = {name: runs[0]["metrics"] for name, runs in results.items()}
        for name, runs in results.items():
            values = [metrics[name][f"{kind}_at_{k}"] for kind in ("ndcg", "map")]
            print(
                f"| {k} | {name} | {best[name]:.2f} | {best[name] / best['implicit']:.2f} "
                f"| {max(result['peak_mib'] for result in runs):.0f} | {values[0]:.5f} | {values[1]:.5f} |",
                flush=True,
            )
        for name, value in metrics["implicit"].items():
            if abs(value - metrics["ours"][name]) > TOLERANCE:
                raise SystemExit(f"{name}: implicit {value}, ours {metrics['ours'][name]}")


if __name__ == "__main__":
    main()
