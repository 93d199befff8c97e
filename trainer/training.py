"""Training: alternate between users and items until the iterations are done or progress stops."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.checkpoint import Checkpoints, State, fingerprint
from trainer.config import TrainConfig
from trainer.distributed.training import LedTraining
from trainer.distributed.workers import Workers
from trainer.errors import InputError
from trainer.history import Iteration
from trainer.matrix import InteractionMatrix
from trainer.model import Model, check_finite, seen_of
from trainer.progress import progress
from trainer.solvers import Training, begin
from trainer.vocabulary import Vocabulary
from trainer.weighting import PrecisionError, Problem, too_small

logger = logging.getLogger(__name__)

_LARGE = 1e4
"""Value of an entry above those of common ratings and counts, which is the likely cause of an overflow."""


def fit(
    matrix: InteractionMatrix,
    config: TrainConfig,
    *,
    users: Vocabulary | None = None,
    items: Vocabulary | None = None,
    warm_start: Model | None = None,
    checkpoints: Checkpoints | None = None,
    validation: Callable[[Model], float] | None = None,
    on_iteration: Callable[[Iteration], None] | None = None,
    workers: Workers | None = None,
    has_holdout: bool = False,
) -> Model:
    """Train a model.

    Args:
        matrix: training entries.
        config: parameters.
        users: ids of the rows; their indices if omitted.
        items: ids of the columns; their indices if omitted.
        warm_start: an earlier model whose factors are reused by id; new ids start as in a new training, and
            ids that no longer occur are dropped.
        checkpoints: checkpoints to save the run's state to, and to resume from if there is one.
        validation: function that returns a metric of the model so far; larger is better, and
            ``min_rel_progress`` then applies to it.
        on_iteration: function that is called after each iteration.
        workers: processes to divide the rows among, of which this one is the chief; the others call
            `trainer.distributed.training.assist` meanwhile.
        has_holdout: whether entries were held out of the matrix, which explains users and items without any.

    Returns:
        The model, with the history of its training.

    Raises:
        InputError: the matrix is empty, ids do not match it, the parameters do not define a well-posed
            problem, or the warm start or the checkpoint does not match matrix and parameters.
        WalsError: a device failed, or a worker failed or is lost.
    """
    if matrix.entries == 0:
        raise InputError(
            "matrix", f"{matrix.rows} x {matrix.columns}", "has no entries", "give a matrix with entries"
        )
    users = _vocabulary("users", users, matrix.rows)
    items = _vocabulary("items", items, matrix.columns)
    problem = Problem.of(config, matrix.row_counts(), matrix.column_counts())
    _log_empty("user", matrix.row_counts(), has_holdout)
    _log_empty("item", matrix.column_counts(), has_holdout)
    data = fingerprint(matrix) if checkpoints else ""
    state = checkpoints.load(config, data) if checkpoints else None
    state = state or _initial(config, users, items, warm_start)
    history = list(state.history)
    seen = seen_of(matrix.by_row)
    with (
        _begun(config, matrix, problem, state, workers) as training,
        _blaming_large_values(matrix, config, users, items),
        progress("iteration", config.num_iters, logger, done=len(history)) as report,
    ):
        while len(history) < config.num_iters and not settled(history, config.min_rel_progress):
            began = time.perf_counter()
            objective = training.iterate()
            seconds = time.perf_counter() - began
            if not np.isfinite(objective):
                raise too_small(config.regularization, "lets the factors overflow float32")
            metric = None
            if validation:
                model = Model(config, *training.factors(), users, items, seen, tuple(history))
                metric = validation(model)
            history.append(Iteration(len(history) + 1, objective, seconds, metric))
            report(_note(history[-1]))
            if on_iteration:
                on_iteration(history[-1])
            if checkpoints and checkpoints.due(len(history)):
                checkpoints.save(State(*training.factors(), tuple(history)), config, data)
        return Model(config, *training.factors(), users, items, seen, tuple(history), matrix.checksum)


@contextlib.contextmanager
def _begun(
    config: TrainConfig, matrix: InteractionMatrix, problem: Problem, state: State, workers: Workers | None
) -> Iterator[Training]:
    """Begin a training by this process alone, or by several."""
    factors = state.user_factors, state.item_factors
    if workers is None:
        yield begin(config, matrix, problem, *factors)
        return
    led = LedTraining(workers, config, matrix, problem, factors, len(state.history))
    yield led
    led.finish()


@contextlib.contextmanager
def _blaming_large_values(
    matrix: InteractionMatrix, config: TrainConfig, users: Vocabulary, items: Vocabulary
) -> Iterator[None]:
    """Name the largest value, if it is large, when equations cannot be solved in single precision."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            yield
    except (PrecisionError, np.linalg.LinAlgError) as error:
        counts = config.feedback == "explicit" or config.alpha > 0
        row, column, value = _largest(matrix)
        if counts and abs(value) > _LARGE:
            user, item = users.ids[row].as_py(), items.ids[column].as_py()
            raise InputError(
                "rating",
                value,
                f"of user {user!r} and item {item!r} is too large to train on in single precision",
                "fix or filter it, or divide all ratings by a number",
            ) from error
        if isinstance(error, InputError):
            raise
        raise too_small(config.regularization, "lets the factors overflow float32") from error


def _largest(matrix: InteractionMatrix) -> tuple[int, int, float]:
    """Return row, column and value of an entry whose value is the largest in size."""
    sizes = [np.abs(shard.values).max(initial=0) for shard in matrix.by_row]
    shard = matrix.by_row[int(np.argmax(sizes))]
    entry = int(np.argmax(np.abs(shard.values)))
    row = int(np.searchsorted(shard.indptr, entry, side="right")) - 1
    return shard.first + row, int(shard.indices[entry]), float(shard.values[entry])


def _vocabulary(side: str, ids: Vocabulary | None, size: int) -> Vocabulary:
    vocabulary = ids or Vocabulary.of_range(size)
    if len(vocabulary) != size:
        problem = f"does not match the matrix, which has {size}"
        raise InputError(side, len(vocabulary), problem, "give the ids of the matrix")
    return vocabulary


def _log_empty(kind: str, counts: NDArray[np.int64], has_holdout: bool) -> None:
    """Say how many users or items have no entries: a warning, unless a holdout explains it."""
    empty = int(np.sum(counts == 0))
    if not empty:
        return
    verb, their = ("has", "its") if empty == 1 else ("have", "their")
    entries = f"all {their} entries in the holdout" if has_holdout else "no entries"
    logger.log(
        logging.INFO if has_holdout else logging.WARNING,
        f"{empty:,} of {len(counts):,} {kind}s {verb} {entries}; {their} factors are 0",
    )


def _initial(config: TrainConfig, users: Vocabulary, items: Vocabulary, earlier: Model | None) -> State:
    """Return random item factors, and user factors of 0, which the first sweep solves for."""
    random = np.random.default_rng(config.seed)
    scale = np.float32(config.init_stddev / np.sqrt(config.latent_factors))
    user_factors = np.zeros((len(users), config.latent_factors), np.float32)
    item_factors = random.standard_normal((len(items), config.latent_factors), np.float32)
    item_factors *= scale
    if earlier is not None:
        _reuse("user_factors", user_factors, users, earlier.user_factors, earlier.users)
        _reuse("item_factors", item_factors, items, earlier.item_factors, earlier.items)
    return State(user_factors, item_factors, ())


def _reuse(
    name: str,
    factors: NDArray[np.float32],
    ids: Vocabulary,
    old_factors: NDArray[np.float32],
    old_ids: Vocabulary,
) -> None:
    """Overwrite the factors of known ids with the old ones."""
    if old_factors.shape[1] != factors.shape[1]:
        raise InputError(
            "latent_factors",
            factors.shape[1],
            f"differs from {old_factors.shape[1]} in the earlier model",
            "give the same number or train without a warm start",
        )
    if old_ids.ids.type != ids.ids.type:
        raise InputError(
            "warm_start", str(old_ids.ids.type), f"ids are not {ids.ids.type}", "give a model with such ids"
        )
    check_finite(name, old_factors)
    old_rows = old_ids.index_of(ids.ids)
    known = old_rows >= 0
    factors[known] = old_factors[old_rows[known]]


def settled(history: Sequence[Iteration], least: float) -> bool:
    """Return whether the last iteration made less relative progress than ``least``.

    Args:
        history: iterations so far.
        least: relative progress of the objective, or of the validation metric; 0 for never.
    """
    if least == 0 or len(history) < 2:
        return False
    before, after = history[-2], history[-1]
    if before.validation is not None and after.validation is not None:
        return after.validation - before.validation < least * abs(before.validation)
    return before.objective - after.objective < least * abs(before.objective)


def _note(iteration: Iteration) -> str:
    metric = "" if iteration.validation is None else f", validation {iteration.validation:.4f}"
    return f"objective {iteration.objective:.6g}{metric}, {iteration.seconds:.2f} s"
