"""What a training run is asked to do, validated in one place."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from trainer.errors import InputError

Feedback = Literal["explicit", "implicit"]
SolverName = Literal["auto", "cg", "cholesky", "ialspp", "tensorflow"]

LINEAR, LOG = 0, 1


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Parameters of weighted alternating least squares.

    Training minimises, over user factors ``u_i`` and item factors ``v_j`` of ``latent_factors`` numbers each,

        sum_ij W_ij (T_ij - u_i . v_j)^2 + sum_i l_i |u_i|^2 + sum_j l_j |v_j|^2

    where the sum runs over every pair of a user and an item. ``docs/trainer.md`` derives all of it. The
    defaults are for ranking from implicit feedback (Rendle et al. 2021, "iALS++").

    Attributes:
        latent_factors: d, the length of a factor; at least 1.
        num_iters: iterations at most, each one pass over the users and one over the items; at least 1.
        regularization: lambda, at least 0.
        regularization_exponent: nu. A row with n entries is regularised by ``lambda (n + w0 N)^nu``, N the
            rows of the other side (Rendle et al. 2021, eq. 11); 0 is the same lambda for all.
        unobs_weight: w0, the weight W of a pair without an entry, whose target T is 0; at least 0.
        feedback: ``explicit``: an entry's value is its target, with weight ``w0 + c_j`` by the item's
            frequency (``wt_type``). ``implicit``: a positive value has target 1, zero and negative values
            target 0, with confidence ``1 + alpha |value|`` as the weight (Hu et al. 2008).
        alpha: of implicit feedback; at least 0. 0 gives every entry the weight 1.
        wt_type: of explicit feedback: 0, linear, ``c_j = feature_wt_factor / n_j``; 1, log,
            ``c_j = (1 / n_j) ^ feature_wt_exp``, with n_j the entries of item j.
        feature_wt_factor: of ``wt_type`` 0; at least 0.
        feature_wt_exp: of ``wt_type`` 1.
        init_stddev: sigma; item factors start as N(0, sigma / sqrt(d)). Above 0.
        seed: of those random numbers; at least 0. The same seed gives the same bytes on one machine.
        solver: ``cg`` (conjugate gradients, started from the last factors), ``cholesky`` (exact), ``ialspp``
            (block coordinate descent), ``tensorflow`` (exact, batched for accelerators), or ``auto``.
        cg_steps: steps of ``cg`` for each row and iteration; at least 1.
        block_size: coordinates that ``ialspp`` solves at a time; at least 1.
        min_rel_progress: stop once an iteration lowers the objective (or raises the validation metric) by
            less than this share of it; 0 runs all iterations.
        num_threads: of the CPU solvers; 0 takes every core.
    """

    latent_factors: int = 64
    num_iters: int = 16
    regularization: float = 0.003
    regularization_exponent: float = 1.0
    unobs_weight: float = 0.1
    feedback: Feedback = "implicit"
    alpha: float = 0.0
    wt_type: int = LINEAR
    feature_wt_factor: float = 130.0
    feature_wt_exp: float = 0.08
    init_stddev: float = 0.1
    seed: int = 42
    solver: SolverName = "auto"
    cg_steps: int = 2
    block_size: int = 64
    min_rel_progress: float = 0.0
    num_threads: int = 0

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            InputError: naming the first field that cannot be used.
        """
        for name, least in _LEAST_INTEGER.items():
            _check_integer(name, getattr(self, name), least)
        for name, (least_number, open_below) in _LEAST_NUMBER.items():
            _check_number(name, getattr(self, name), least_number, open_below)
        _check_choice("feedback", self.feedback, get_args(Feedback))
        _check_choice("solver", self.solver, get_args(SolverName))
        _check_choice("wt_type", self.wt_type, (LINEAR, LOG))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """Make a config of the JSON object that `to_dict` gives; missing keys take their defaults.

        Raises:
            InputError: a key that is no parameter, or a value that cannot be used.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                raise InputError(
                    name, values[name], "is no training parameter", f"choose from {', '.join(sorted(known))}"
                )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as a JSON object."""
        return dataclasses.asdict(self)


_LEAST_INTEGER = {
    "latent_factors": 1,
    "num_iters": 1,
    "seed": 0,
    "cg_steps": 1,
    "block_size": 1,
    "num_threads": 0,
}

# Least value, and whether that value itself is excluded.
_LEAST_NUMBER = {
    "regularization": (0.0, False),
    "regularization_exponent": (-math.inf, False),
    "unobs_weight": (0.0, False),
    "alpha": (0.0, False),
    "feature_wt_factor": (0.0, False),
    "feature_wt_exp": (-math.inf, False),
    "init_stddev": (0.0, True),
    "min_rel_progress": (0.0, False),
}


def _check_integer(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(name, value, "is not an integer", f"give an integer of at least {least}")
    if value < least:
        raise InputError(name, value, f"is below {least}", f"give an integer of at least {least}")


def _check_number(name: str, value: object, least: float, open_below: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(name, value, "is not a finite number", "give a number")
    if value < least or (open_below and value == least):
        bound = f"above {least:g}" if open_below else f"of at least {least:g}"
        raise InputError(name, value, "is out of range", f"give a number {bound}")


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices or isinstance(value, bool):
        raise InputError(name, value, "is unknown", f"choose from {', '.join(map(str, choices))}")
