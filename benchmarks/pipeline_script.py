"""The script beside the pipeline: from Parquet to recommendations with pandas, SciPy and implicit.

As a competent user would write it; runs in the environment of these libraries. Prints a JSON object with the
seconds of its parts.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
from implicit.cpu.als import AlternatingLeastSquares
from implicit.evaluation import ranking_metrics_at_k
from scipy.sparse import csr_matrix

_USERS_AT_ONCE = 10_000


def main() -> None:
    """Read, factorize, split, train, evaluate and recommend."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--factors", type=int, required=True)
    parser.add_argument("--iterations", type=int, required=True)
    arguments = parser.parse_args()
    seconds: dict[str, float] = {}
    begun = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal begun
        now = time.perf_counter()
        seconds[name], begun = now - begun, now

    ratings = pd.read_parquet(arguments.source)
    users, user_ids = pd.factorize(ratings["user_id"])
    items, item_ids = pd.factorize(ratings["item_id"])
    shape = (len(user_ids), len(item_ids))
    held_out = np.random.default_rng(42).random(len(ratings)) < 0.1
    ones = np.ones(len(ratings), np.float32)
    training, holdout = (
        csr_matrix((ones[part], (users[part], items[part])), shape=shape) for part in (~held_out, held_out)
    )
    del ratings, users, items, ones
    lap("read and split")
    # The problem of our w0 = 0.1 and lambda = 0.003, but for scaling by counts, which implicit lacks.
    model = AlternatingLeastSquares(
        factors=arguments.factors,
        regularization=0.03,
        alpha=10.0,
        iterations=arguments.iterations,
        random_state=1,
    )
    model.fit(training, show_progress=False)
    lap("train")
    metrics = ranking_metrics_at_k(model, training, holdout, K=20, show_progress=False)
    lap("evaluate")
    tables = []
    for start in range(0, shape[0], _USERS_AT_ONCE):
        block = np.arange(start, min(start + _USERS_AT_ONCE, shape[0]))
        best, scores = model.recommend(block, training[block], N=10)
        tables.append(
            pd.DataFrame(
                {
                    "user_id": np.repeat(user_ids[block], 10),
                    "item_id": item_ids[best.ravel()],
                    "score": scores.ravel(),
                    "rank": np.tile(np.arange(1, 11), len(block)),
                }
            )
        )
    pd.concat(tables).to_parquet(arguments.output)
    lap("recommend")
    print(json.dumps({"seconds": seconds, "ndcg": float(metrics["ndcg"])}))


if __name__ == "__main__":
    main()
