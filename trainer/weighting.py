"""Weights, targets and regularisation, which turn a matrix into least-squares problems.

The objective's weight is ``W_ij = w0 + e_ij`` on entries and w0 elsewhere, so that the normal equations of
row i split into a part that all rows share and a part of its entries (Hu et al. 2008):

    (w0 V'V + sum_j e_ij v_j v_j' + l_i I) u_i = sum_j (w0 + e_ij) t_ij v_j
"""

import dataclasses
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from trainer.config import LINEAR, TrainConfig
from trainer.errors import InputError


@dataclass(frozen=True)
class HalfProblem:
    """The least-squares problems of one side ("major") with the factors of the other ("minor") held fixed.

    An entry of value x in major row i and minor row j has the excess weight
    ``e_ij = major_weight[i] minor_weight[j] + value_weight |x|`` over w0.

    Attributes:
        unobs_weight: w0.
        major_weight: (majors,) float32.
        minor_weight: (minors,) float32.
        value_weight: alpha.
        binary: whether targets are 1 for positive values and 0 for others, instead of the values.
        regularization: (majors,) float32, the lambda of each major row.
    """

    unobs_weight: float
    major_weight: NDArray[np.float32]
    minor_weight: NDArray[np.float32]
    value_weight: float
    binary: bool
    regularization: NDArray[np.float32]

    @classmethod
    def of_users(
        cls, config: TrainConfig, user_counts: NDArray[np.int64], item_counts: NDArray[np.int64]
    ) -> Self:
        """Return the users' problem.

        Args:
            config: parameters.
            user_counts: (users,) entries of each user, who may not have been in training.
            item_counts: (items,) training entries of each item.

        Raises:
            InputError: as `Problem.of`.
        """
        return cls(
            config.unobs_weight,
            *entry_weights(config, len(user_counts), item_counts),
            value_weight(config),
            config.feedback == "implicit",
            scaled_regularization(config, user_counts, len(item_counts)),
        )

    def rows(self, first: int, stop: int) -> Self:
        """Return the problems of the major rows from ``first`` up to ``stop``."""
        return dataclasses.replace(
            self,
            major_weight=self.major_weight[first:stop],
            regularization=self.regularization[first:stop],
        )


@dataclass(frozen=True)
class Problem:
    """Both halves of the alternating problem: users given items, and items given users."""

    users: HalfProblem
    items: HalfProblem

    @classmethod
    def of(cls, config: TrainConfig, user_counts: NDArray[np.int64], item_counts: NDArray[np.int64]) -> Self:
        """Derive weights and regularisation from the number of entries of each user and item.

        Raises:
            InputError: without regularisation, a user or item without entries has no unique factor; or the
                scaled regularisation or the weights overflow.
        """
        users = HalfProblem.of_users(config, user_counts, item_counts)
        items = dataclasses.replace(
            users,
            major_weight=users.minor_weight,
            minor_weight=users.major_weight,
            regularization=scaled_regularization(config, item_counts, len(user_counts)),
        )
        return cls(users, items)


def value_weight(config: TrainConfig) -> float:
    """Return alpha, the weight of an entry per unit of its value; 0 with explicit feedback."""
    return config.alpha if config.feedback == "implicit" else 0.0


def entry_weights(
    config: TrainConfig, users: int, item_counts: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the weights r_i of users and c_j of items whose product is an entry's weight beyond w0.

    With explicit feedback r_i = 1, and c_j depends on the item's number of entries n_j: linear,
    ``feature_wt_factor / n_j``, or log, ``(1 / n_j) ^ feature_wt_exp``. With implicit feedback the total
    weight is ``1 + alpha |x|``, so r_i c_j = 1 - w0 and the value adds the rest.

    Returns:
        (users,) and (items,) float32.
    """
    if config.feedback == "implicit":
        item_weight = np.full(len(item_counts), 1.0 - config.unobs_weight)
    else:
        counts = np.maximum(item_counts, 1).astype(np.float64)
        with np.errstate(over="ignore"):
            if config.wt_type == LINEAR:
                item_weight = config.feature_wt_factor / counts
            else:
                item_weight = (1.0 / counts) ** config.feature_wt_exp
    blamed = "feature_wt_factor" if config.wt_type == LINEAR else "feature_wt_exp"
    return np.ones(users, np.float32), _finite(blamed, getattr(config, blamed), item_weight)


def scaled_regularization(config: TrainConfig, counts: NDArray[np.int64], others: int) -> NDArray[np.float32]:
    """Return ``lambda (n + w0 N)^nu`` of each row (Rendle et al. 2021, eq. 11).

    Args:
        config: gives lambda, nu and w0.
        counts: (rows,) n, the entries of each row.
        others: N, the number of rows of the other side.

    Raises:
        InputError: lambda is 0 and a row has no entries, so that its factor is undetermined; or the result
            overflows.
    """
    if config.regularization == 0 and np.any(counts == 0):
        raise InputError(
            "regularization",
            config.regularization,
            "leaves a user or item without entries undetermined",
            "raise it above 0 or drop the empty rows and columns",
        )
    mass = counts + config.unobs_weight * others
    _finite("unobs_weight", config.unobs_weight, mass)
    with np.errstate(divide="ignore", over="ignore"):
        power = mass**config.regularization_exponent
        # A row without any weight has the factor 0, regardless of its lambda.
        power[mass == 0] = 1.0
        scaled = config.regularization * power
    _finite("regularization_exponent", config.regularization_exponent, power)
    return _finite("regularization", config.regularization, scaled)


class PrecisionError(InputError):
    """Equations that cannot be solved in single precision."""


def too_small(regularization: float, problem: str) -> PrecisionError:
    """Return the error for equations that cannot be solved in single precision.

    Args:
        regularization: lambda, as given or scaled for a row.
        problem: what comes of it.
    """
    remedy = "raise it, or lower unobs_weight, alpha or feature_wt_factor"
    return PrecisionError("regularization", float(f"{regularization:.6g}"), problem, remedy)


def _finite(field: str, value: float, result: NDArray[np.floating]) -> NDArray[np.float32]:
    if not np.all(np.abs(result) <= np.finfo(np.float32).max):
        raise InputError(field, value, "makes weights overflow", "give a value closer to 0")
    return result.astype(np.float32)
