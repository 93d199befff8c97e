import numpy as np
import pytest

from trainer.errors import InputError
from trainer.metrics import ndcg_at_k, recall_at_k, rmse

# Users 0 to 3 hold out {1, 4}, nothing, {0, 1, 2, 3} and {5}.
INDPTR = np.array([0, 2, 2, 6, 7])
INDICES = np.array([1, 4, 0, 1, 2, 3, 5])
RECOMMENDED = np.array([[4, 0, 1], [0, 1, 2], [9, 2, 0], [5, -1, -1]])


def test_recall_by_hand() -> None:
    assert recall_at_k(RECOMMENDED, INDPTR, INDICES) == pytest.approx((2 / 2 + 2 / 3 + 1 / 1) / 3)


def test_ndcg_by_hand() -> None:
    gain = 1 / np.log2(np.arange(2, 5))
    expected = [
        (gain[0] + gain[2]) / (gain[0] + gain[1]),
        (gain[1] + gain[2]) / gain.sum(),
        1.0,
    ]
    assert ndcg_at_k(RECOMMENDED, INDPTR, INDICES) == pytest.approx(np.mean(expected))


def test_padding_is_not_a_hit() -> None:
    assert recall_at_k(np.full((4, 3), -1), INDPTR, INDICES) == 0


def test_rmse_by_hand() -> None:
    assert rmse([1, 2, 3], [1, 4, 7]) == pytest.approx(np.sqrt(20 / 3))


def test_nothing_held_out_is_refused() -> None:
    with pytest.raises(InputError):
        recall_at_k(RECOMMENDED, np.zeros(5, int), np.zeros(0, int))
    with pytest.raises(InputError):
        rmse([], [])
