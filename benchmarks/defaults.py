"""Compares what is chosen where parameters are left at ``auto`` with fixed values, a grid and popularity.

A tenth of each matrix is held out, from the search too:

    python benchmarks/defaults.py --data movielens shop power-law 20m

The column "fixed" has the values that were the defaults before, 64 factors and lambda 0.003; all have w0 0.1
unless another one was chosen. Every model is trained for 16 iterations with solver cg.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import sparse
from train_data import movielens_matrix, power_law_matrix, split

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.trainer.shapes import interactions  # noqa: E402
from trainer import auto  # noqa: E402
from trainer.auto import choose  # noqa: E402
from trainer.config import TrainConfig, TrainOptions  # noqa: E402
from trainer.matrix import InteractionMatrix  # noqa: E402
from trainer.metrics import ranking_metrics  # noqa: E402
from trainer.model import Model, seen_of  # noqa: E402
from trainer.popularity import Popularity  # noqa: E402
from trainer.training import fit  # noqa: E402

_K = 20
_JUDGED = 10_000
_FACTORS, _STRENGTHS = (16, 64, 128), (0.001, 0.003, 0.01, 0.03, 0.1)
_MOST_OF_A_GRID = 1_000_000

DATA: Mapping[str, Callable[[], sparse.csr_array]] = {
    "movielens": lambda: movielens_matrix(ROOT / "data/ml-latest-small/ratings.csv"),
    "shop": lambda: interactions(22_000, 4_000, 300_000, skew=1.1, taste=1.0, activity=1.0),
    "dense": lambda: interactions(2_000, 800, 200_000, skew=0.5, taste=2.0, activity=0.4),
    "long tail": lambda: interactions(4_000, 8_000, 60_000, skew=1.2, taste=1.0, activity=1.3),
    "counts": lambda: interactions(3_000, 1_000, 60_000, counts=True),
    "tiny": lambda: interactions(50, 60, 700, taste=2.0, activity=0.5),
    "power-law": power_law_matrix,
    "20m": lambda: sparse.vstack([power_law_matrix()] * 4, format="csr"),
}


class Result(NamedTuple):
    """A model's parameters and what it achieves on the holdout."""

    ndcg: float
    config: TrainConfig


def main() -> None:
    """Print a row for each matrix."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", choices=DATA, default=[*DATA])
    parser.add_argument("--sample", type=int, help="entries to search on, without a grid")
    given = parser.parse_args()
    if given.sample:
        auto._ENTRIES = auto._LARGEST_ROW = given.sample
    print(
        "| data | users | items | entries | popularity | fixed | auto | chosen | best of a grid | with "
        "| search, s | CPU s | tries |"
    )
    print(f"|{'---|' * 13}")
    for name in given.data:
        print(_row(name, *split(DATA[name]()), with_grid=not given.sample), flush=True)


def _row(name: str, train: sparse.csr_array, test: sparse.csr_array, *, with_grid: bool) -> str:
    matrix = InteractionMatrix.from_scipy(train)
    # Compiles the kernels, if that has not been done.
    choose(InteractionMatrix.from_scipy(train[:100]), TrainOptions())
    wall, cpu = time.perf_counter(), time.process_time()
    config, choice = choose(matrix, TrainOptions(solver="cg"))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    tries = len(choice.tried) if choice else 0
    judge = Judge(matrix, test)
    chosen = Result(judge.model(config), config)
    fixed = Result(judge.model(TrainConfig(solver="cg")), TrainConfig())
    best = fixed
    with_grid &= matrix.entries <= _MOST_OF_A_GRID
    if with_grid:
        pairs = itertools.product(_FACTORS, _STRENGTHS)
        grid = [TrainConfig(latent_factors=d, regularization=value, solver="cg") for d, value in pairs]
        best = max((Result(judge.model(one), one) for one in grid), key=lambda result: result.ndcg)
    cells = (
        *(name, f"{matrix.rows:,}", f"{matrix.columns:,}", f"{matrix.entries + test.nnz:,}"),
        *(f"{judge.popularity():.4f}", f"{fixed.ndcg:.4f}", f"{chosen.ndcg:.4f}", _values(config)),
        *((f"{best.ndcg:.4f}", _values(best.config)) if with_grid else ("", "")),
        *(f"{wall:.1f}", f"{cpu:.1f}", str(tries)),
    )
    return f"| {' | '.join(cells)} |"


def _values(config: TrainConfig) -> str:
    alpha = f", alpha {config.alpha:g}" if config.alpha else ""
    return f"d {config.latent_factors}, lambda {config.regularization:g}, w0 {config.unobs_weight:g}{alpha}"


class Judge:
    """NDCG@20 on the holdout, of users with training entries."""

    def __init__(self, matrix: InteractionMatrix, test: sparse.csr_array) -> None:
        self._matrix = matrix
        users = np.flatnonzero((np.diff(test.indptr) > 0) & (matrix.row_counts() > 0))
        self._users = np.sort(np.random.default_rng(1).permutation(users)[:_JUDGED])
        self._targets = test[self._users]
        self._masked = seen_of(matrix.by_row).rows(self._users)

    def model(self, config: TrainConfig) -> float:
        """Return the metric of a model that is trained with these parameters."""
        return self.of(fit(self._matrix, config))

    def of(self, model: Model) -> float:
        """Return the metric of a model."""
        return self._ndcg(model.recommend(self._users, _K)[0])

    def popularity(self) -> float:
        """Return the metric of popularity."""
        return self._ndcg(Popularity(self._matrix.column_counts()).recommend(self._users, _K, self._masked))

    def _ndcg(self, lists: np.ndarray) -> float:
        values = ranking_metrics(lists, self._targets.indptr, self._targets.indices, [_K])
        return float(values[f"ndcg_at_{_K}"].mean())


if __name__ == "__main__":
    main()
