"""One library in the training benchmark: trains, and prints its times and qualities as a JSON object.

Runs in the environment of the library. The same code measures the quality of every library, outside the
measured times.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

ALPHA0 = 0.1
K = 20
_SCORED_USERS = 10_000
_USERS_AT_ONCE = 1_000

Observer = Callable[..., None]
"""Takes the seconds of an iteration and, if the library gives access to them, the factors after it."""


def ndcg(users: np.ndarray, items: np.ndarray, train: sparse.csr_array, test: sparse.csr_array) -> float:
    """Return NDCG@20 over the users with held-out items, or an evenly spaced sample if there are many."""
    chosen = np.flatnonzero(np.diff(test.indptr))
    chosen = chosen[:: max(1, len(chosen) // _SCORED_USERS)]
    discounts = 1 / np.log2(np.arange(2, K + 2))
    gains = []
    for start in range(0, len(chosen), _USERS_AT_ONCE):
        block = chosen[start : start + _USERS_AT_ONCE]
        scores = users[block] @ items.T
        seen = train[block].tocoo()
        scores[seen.row, seen.col] = -np.inf
        best = np.argpartition(-scores, K, axis=1)[:, :K]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
        best = np.take_along_axis(best, order, 1)
        relevant = test[block].toarray() > 0
        ideal = np.cumsum(discounts)[np.minimum(relevant.sum(axis=1), K) - 1]
        gains.append(np.take_along_axis(relevant, best, 1) @ discounts / ideal)
    return float(np.concatenate(gains).mean())


def ours(
    train: sparse.csr_array, d: int, iterations: int, regularization: float, observe: Observer, solver: str
) -> Callable[[], None]:
    """Train with this project's library."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from trainer.config import TrainConfig
    from trainer.matrix import InteractionMatrix
    from trainer.model import Model
    from trainer.training import fit

    matrix = InteractionMatrix.from_scipy(train)
    config = TrainConfig(
        latent_factors=d,
        num_iters=iterations,
        regularization=regularization,
        # The peers' loss weights entries 1 + alpha0 and has targets 1 / (1 + alpha0); ours is that rescaled.
        unobs_weight=ALPHA0 / (1 + ALPHA0),
        solver=solver,  # type: ignore[arg-type]
    )
    models: list[Model] = []

    def validation(model: Model) -> float:
        models.append(model)
        return 0.0

    fit(
        matrix,
        config,
        validation=validation,
        on_iteration=lambda it: observe(it.seconds, models[-1].user_factors, models[-1].item_factors),
    )
    model = models[-1]
    model.recommend(np.arange(10), K)
    return lambda: model.recommend(np.arange(train.shape[0]), K)


def irspack(
    train: sparse.csr_array, d: int, iterations: int, regularization: float, observe: Observer, solver: str
) -> Callable[[], None]:
    """Train with irspack's iALS."""
    from irspack.recommenders.ials import IALSRecommender

    recommender = IALSRecommender(
        sparse.csr_matrix(train),
        n_components=d,
        alpha0=ALPHA0,
        reg=regularization,
        nu=1.0,
        solver_type=solver,
    )
    trainer = recommender._create_trainer()
    for _ in range(iterations):
        began = time.perf_counter()
        trainer.run_epoch()
        seconds = time.perf_counter() - began
        observe(seconds, np.asarray(trainer.core_trainer.user), np.asarray(trainer.core_trainer.item))
    return lambda: None


def implicit(
    train: sparse.csr_array, d: int, iterations: int, regularization: float, observe: Observer, solver: str
) -> Callable[[], None]:
    """Train with implicit's ALS: weights 10 and 1 for 1 and 0.1, and the mean of the scaled lambdas."""
    from implicit.cpu.als import AlternatingLeastSquares

    users, items = train.shape
    mean_mass = train.nnz / users + ALPHA0 * items
    model = AlternatingLeastSquares(
        factors=d,
        regularization=regularization / ALPHA0 * mean_mass,
        alpha=1 / ALPHA0,
        iterations=iterations,
        use_cg=solver == "CG",
        random_state=1,
    )
    csr = sparse.csr_matrix(train)
    model.fit(
        csr,
        show_progress=False,
        callback=lambda _, seconds, __: observe(seconds, model.user_factors, model.item_factors),
    )
    return lambda: model.recommend(np.arange(users), csr, N=K, filter_already_liked_items=True)


def spark(
    train: sparse.csr_array,
    d: int,
    iterations: int,
    regularization: float,
    observe: Observer,
    solver: str,  # noqa: ARG001
) -> Callable[[], None]:
    """Train with Spark's ALS in one process: weights 10 and 1, and lambda times the entries of a row.

    It gives no access to factors between iterations, so it trains once for one iteration and once for all.
    The seconds of an iteration come from their difference, and only the quality after the last one is known.
    """
    import pandas as pd
    from pyspark.ml.recommendation import ALS
    from pyspark.sql import SparkSession

    users, items = train.shape
    mean_entries = train.nnz / users
    settings = {
        "spark.master": "local[*]",
        "spark.driver.memory": "14g",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.log.level": "ERROR",
        "spark.sql.shuffle.partitions": "8",
    }
    builder = SparkSession.builder
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    entries = train.tocoo()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "entries.csv"
        frame = pd.DataFrame({"user": entries.row, "item": entries.col, "rating": entries.data})
        frame.to_csv(path, index=False)
        ratings = session.read.csv(str(path), header=True, schema="user INT, item INT, rating FLOAT")
        ratings = ratings.repartition(8).cache()
        ratings.count()
        seconds = {}
        for count in (1, iterations):
            estimator = ALS(
                rank=d,
                maxIter=count,
                regParam=regularization / ALPHA0 * (mean_entries + ALPHA0 * items) / mean_entries,
                implicitPrefs=True,
                alpha=1 / ALPHA0,
                seed=1,
            )
            began = time.perf_counter()
            model = estimator.fit(ratings)
            user_factors = _spark_factors(model.userFactors, users, d)
            item_factors = _spark_factors(model.itemFactors, items, d)
            seconds[count] = time.perf_counter() - began
    for number in range(iterations):
        factors = (user_factors, item_factors) if number == iterations - 1 else ()
        observe((seconds[iterations] - seconds[1]) / (iterations - 1), *factors)
    session.stop()
    return lambda: None


def _spark_factors(frame: Any, rows: int, d: int) -> np.ndarray:
    """Return the factors of a Spark data frame with the columns id and features; 0 for missing ids."""
    factors = np.zeros((rows, d), np.float32)
    for row in frame.toLocalIterator():
        factors[row.id] = row.features
    return factors


LIBRARIES = {"ours": ours, "irspack": irspack, "implicit": implicit, "spark": spark}


def main() -> None:
    """Train on the matrices in a folder and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("solver")
    parser.add_argument("data", type=Path)
    parser.add_argument("--d", type=int, required=True)
    parser.add_argument("--iterations", type=int, required=True)
    parser.add_argument("--regularization", type=float, required=True)
    arguments = parser.parse_args()
    train = sparse.csr_array(sparse.load_npz(arguments.data / "train.npz"))
    test = sparse.csr_array(sparse.load_npz(arguments.data / "test.npz"))
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    qualities: list[float] = []
    last_cpu_time = time.process_time()

    def observe(elapsed: float, *factors: np.ndarray) -> None:
        nonlocal last_cpu_time
        seconds.append(elapsed)
        cpu_seconds.append(time.process_time() - last_cpu_time)
        qualities.append(ndcg(*factors, train, test) if factors else 0.0)
        last_cpu_time = time.process_time()

    rank = LIBRARIES[arguments.library](
        train, arguments.d, arguments.iterations, arguments.regularization, observe, arguments.solver
    )
    began = time.perf_counter()
    rank()
    # The peak from getrusage starts at the parent's memory at the time it started this process.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
                "ndcg": qualities,
                "rank_seconds": time.perf_counter() - began,
                "peak_mib": int(status["VmHWM"].split()[0]) / 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
