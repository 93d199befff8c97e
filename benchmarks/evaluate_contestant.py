"""One library in the evaluation benchmark: ranks and judges all users; prints a JSON object.

Runs in the environment of the library. Reading the data and loading code are outside the measured time.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy import sparse

Judge = Callable[[], dict[str, float]]
_USERS_AT_ONCE = 20_000


def ours(
    users: np.ndarray, items: np.ndarray, train: sparse.csr_array, test: sparse.csr_array, ks: Sequence[int]
) -> Judge:
    """Judge with this project's library, in blocks of users as the evaluation step does."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from trainer.config import TrainConfig
    from trainer.metrics import ranking_metrics
    from trainer.model import Model, Seen
    from trainer.vocabulary import Vocabulary

    model = Model(
        TrainConfig(latent_factors=users.shape[1]),
        users,
        items,
        Vocabulary.of_range(len(users)),
        Vocabulary.of_range(len(items)),
        Seen(train.indptr.astype(np.int64), train.indices),
    )

    def judge(judged: np.ndarray) -> dict[str, float]:
        blocks = []
        for start in range(0, len(judged), _USERS_AT_ONCE):
            block = judged[start : start + _USERS_AT_ONCE]
            held_out = test[block]
            recommended, _ = model.recommend(block, max(ks))
            blocks.append(ranking_metrics(recommended, held_out.indptr, held_out.indices, ks))
        return {name: float(np.concatenate([block[name] for block in blocks]).mean()) for name in blocks[0]}

    judged = np.flatnonzero(np.diff(test.indptr))
    judge(judged[:100])  # load the kernels
    return lambda: judge(judged)


def implicit(
    users: np.ndarray, items: np.ndarray, train: sparse.csr_array, test: sparse.csr_array, ks: Sequence[int]
) -> Judge:
    """Judge with implicit, which also computes a precision over all users and AUC."""
    from implicit.cpu.als import AlternatingLeastSquares
    from implicit.evaluation import ranking_metrics_at_k

    (k,) = ks
    model = AlternatingLeastSquares(factors=users.shape[1])
    model.user_factors, model.item_factors = users, items
    training, held_out = sparse.csr_matrix(train), sparse.csr_matrix(test)
    model.recommend(np.arange(100), training[:100], N=k)

    def judge() -> dict[str, float]:
        threads = len(os.sched_getaffinity(0))
        metrics = ranking_metrics_at_k(
            model, training, held_out, K=k, show_progress=False, num_threads=threads
        )
        return {f"{name}_at_{k}": float(metrics[name]) for name in ("ndcg", "map")}

    return judge


def load(path: Path) -> sparse.csr_array:
    """Return a matrix with the indices of 32 bits that both libraries work with."""
    matrix = sparse.csr_array(sparse.load_npz(path))
    matrix.indptr, matrix.indices = matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32)
    return matrix


LIBRARIES = {"ours": ours, "implicit": implicit}


def main() -> None:
    """Judge the factors in a file on the matrices in a folder and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("data", type=Path)
    parser.add_argument("factors", type=Path)
    parser.add_argument("ks", type=int, nargs="+")
    arguments = parser.parse_args()
    train, test = (load(arguments.data / f"{part}.npz") for part in ("train", "test"))
    factors = np.load(arguments.factors)
    judge = LIBRARIES[arguments.library](factors["users"], factors["items"], train, test, arguments.ks)
    began = time.perf_counter()
    metrics = judge()
    seconds = time.perf_counter() - began
    # The peak from getrusage starts at the parent's memory at the time it started this process.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) / 1024
    print(json.dumps({"seconds": seconds, "metrics": metrics, "peak_mib": peak}))


if __name__ == "__main__":
    main()
