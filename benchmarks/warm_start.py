"""Counts the iterations of a nightly training from random factors and from yesterday's model.

A tenth of each matrix is held out; of the rest, yesterday's data lack a share, as a night's new interactions:

    python benchmarks/warm_start.py --data movielens shop power-law --new 0.02

Yesterday's model has 16 iterations on yesterday's data. Today's trainings have the parameters that were
chosen for yesterday's, as with `warm_start`. The table has the iterations that they take: to the objective of
16 cold ones, to 99.5 % of their NDCG@20, and until ``min_rel_progress`` ends the training, with the NDCG@20
there.
"""

import argparse
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from defaults import DATA, Judge
from scipy import sparse
from train_data import split

from trainer.auto import choose
from trainer.config import TrainConfig, TrainOptions
from trainer.history import Iteration
from trainer.matrix import InteractionMatrix
from trainer.model import Model
from trainer.training import fit, settled

_ITERATIONS = 16
_NEARLY = 0.995


def main() -> None:
    """Print a row for each matrix."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", choices=DATA, default=["movielens", "shop"])
    parser.add_argument("--new", type=float, default=0.02, help="share of the interactions that are new")
    parser.add_argument("--min-rel-progress", type=float, default=0.001)
    given = parser.parse_args()
    print("| data | entries | d | start | to the objective | to the NDCG | ends after | NDCG@20 | after 16 |")
    print(f"|{'---|' * 9}")
    for name in given.data:
        print(_rows(name, *split(DATA[name]()), given.new, given.min_rel_progress), flush=True)


def _rows(
    name: str, train: sparse.csr_array, test: sparse.csr_array, new: float, min_rel_progress: float
) -> str:
    today, yesterday = (InteractionMatrix.from_scipy(data) for data in (train, _without(train, new)))
    judge = Judge(today, test)
    config, _ = choose(yesterday, TrainOptions(solver="cg", num_iters=_ITERATIONS))
    earlier = fit(yesterday, config)
    histories = {
        "cold": _history(today, config, judge, None),
        "warm": _history(today, config, judge, earlier),
    }
    objective, ndcg = histories["cold"][-1].objective, histories["cold"][-1].validation or 0
    rows = []
    for start, history in histories.items():
        end = _end(history, min_rel_progress)
        cells = (
            *(name, f"{today.entries + test.nnz:,}", str(config.latent_factors), start),
            _first(history, lambda iteration: iteration.objective <= objective),
            _first(history, lambda iteration: (iteration.validation or 0) >= _NEARLY * ndcg),
            *(str(end.number), f"{end.validation:.4f}", f"{history[-1].validation:.4f}"),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _without(train: sparse.csr_array, share: float) -> sparse.csr_array:
    """Return the entries without some at random, of the same users and items."""
    entries = train.tocoo()
    kept = np.random.default_rng(2).random(entries.nnz) >= share
    rows, columns = entries.coords
    return sparse.coo_array((entries.data[kept], (rows[kept], columns[kept])), train.shape).tocsr()


def _history(
    matrix: InteractionMatrix, config: TrainConfig, judge: Judge, earlier: Model | None
) -> Sequence[Iteration]:
    return fit(matrix, config, warm_start=earlier, validation=judge.of).history


def _end(history: Sequence[Iteration], min_rel_progress: float) -> Iteration:
    """Return the iteration at which a training ends, which knows nothing of the holdout."""
    unaware = [dataclasses.replace(iteration, validation=None) for iteration in history]
    count = next((n for n in range(2, len(history)) if settled(unaware[:n], min_rel_progress)), len(history))
    return history[count - 1]


def _first(history: Sequence[Iteration], reached: Callable[[Iteration], bool]) -> str:
    return next((str(iteration.number) for iteration in history if reached(iteration)), f"> {len(history)}")


if __name__ == "__main__":
    main()
