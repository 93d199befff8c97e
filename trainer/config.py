"""Parameters of a training run."""

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from trainer.options import AUTO, NumberOrAuto, Options, group, invalid

Feedback = Literal["explicit", "implicit"]
SolverName = Literal["auto", "cg", "cholesky", "ialspp", "cuda", "tensorflow"]


def _check_integer(value: object) -> object:
    # A Literal would take True and 1.0 for 1.
    if isinstance(value, bool) or not isinstance(value, int):
        raise invalid("is not an integer", "choose from 0, 1")
    return value


MAX_FACTORS = 16_384

MAX_EXACT = 2**53 - 1
"""The platforms pass parameters as numbers of JSON, which are exact up to here."""

Weighting = Annotated[Literal[0, 1], BeforeValidator(_check_integer)]

LINEAR: Final = 0
LOG: Final = 1

Seed = Annotated[
    int,
    Field(
        ge=0,
        le=MAX_EXACT,
        description="Seed of the split and of the initial factors; the same seed gives the same model.",
        json_schema_extra=group("Training"),
    ),
]
DEFAULT_SEED = 42

FeedbackOption = Annotated[
    Feedback,
    Field(
        description='Either "implicit" (an interaction is a preference, its value a confidence) or '
        '"explicit" (the value is the target and is required).',
        json_schema_extra=group("Model"),
    ),
]
DEFAULT_FEEDBACK: Final = "implicit"

_MODEL, _TRAINING, _SOLVER = group("Model"), group("Training"), group("Solver")


class _Numbers(Options):
    latent_factors: int = Field(
        default=64,
        ge=1,
        le=MAX_FACTORS,
        description="Length of a factor; larger values capture finer tastes and cost more.",
        json_schema_extra=group("Model", common=True),
    )
    regularization: float = Field(
        default=0.003,
        ge=0,
        le=1e9,
        description="Strength of the L2 regularisation, lambda.",
        json_schema_extra=_MODEL,
    )
    unobs_weight: float = Field(
        default=0.1,
        ge=0,
        le=1e6,
        description="Weight w0 of the pairs without an interaction, whose target is 0.",
        json_schema_extra=_MODEL,
    )
    alpha: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        description="Confidence per unit of value, for implicit feedback.",
        json_schema_extra=_MODEL,
    )


def _or_auto(name: str) -> Any:
    """Return the declaration of a field of `_Numbers` as text."""
    field = _Numbers.model_fields[name]
    return Field(
        default=AUTO,
        description=f"{(field.description or '').rstrip('.')}; auto chooses it for the data.",
        json_schema_extra=field.json_schema_extra,
    )


class _NumbersOrAuto(Options):
    latent_factors: Annotated[str, NumberOrAuto.of(_Numbers, "latent_factors")] = _or_auto("latent_factors")
    regularization: Annotated[str, NumberOrAuto.of(_Numbers, "regularization")] = _or_auto("regularization")
    unobs_weight: Annotated[str, NumberOrAuto.of(_Numbers, "unobs_weight")] = _or_auto("unobs_weight")
    alpha: Annotated[str, NumberOrAuto.of(_Numbers, "alpha")] = _or_auto("alpha")


class _Shared(Options):
    num_iters: int = Field(
        default=16,
        ge=1,
        le=10_000,
        description="Maximum number of iterations, each one pass over the users and one over the items.",
        json_schema_extra=group("Training", common=True),
    )
    regularization_exponent: float = Field(
        default=1.0,
        ge=-10,
        le=10,
        description="How lambda grows with a row's n interactions: (n + w0 N)^nu, with N the rows of the "
        "other side; 0 gives all rows the same lambda.",
        json_schema_extra=_MODEL,
    )
    feedback: FeedbackOption = DEFAULT_FEEDBACK
    wt_type: Weighting = Field(
        default=LINEAR,
        description="Weighting by an item's frequency, for explicit feedback; 0 is linear, 1 is log.",
        json_schema_extra=_MODEL,
    )
    feature_wt_factor: float = Field(
        default=130.0,
        ge=0,
        le=1e9,
        description="Factor of the linear weighting, feature_wt_factor / n.",
        json_schema_extra=_MODEL,
    )
    feature_wt_exp: float = Field(
        default=0.08,
        ge=-10,
        le=10,
        description="Exponent of the log weighting, (1 / n)^feature_wt_exp.",
        json_schema_extra=_MODEL,
    )
    init_stddev: float = Field(
        default=0.1,
        ge=1e-6,
        le=1e3,
        description="Standard deviation sigma of the initial item factors, which are N(0, sigma / sqrt(d)).",
        json_schema_extra=_TRAINING,
    )
    seed: Seed = DEFAULT_SEED
    solver: SolverName = Field(
        default="auto",
        description='Either "cg" (conjugate gradients), "cholesky" (exact), "ialspp" (block coordinate '
        'descent), "cuda" (conjugate gradients on a GPU), "tensorflow" (exact, for GPUs), or "auto": cuda if '
        "there is a GPU, else cg.",
        json_schema_extra=_SOLVER,
    )
    cg_steps: int = Field(
        default=2,
        ge=1,
        le=1000,
        description="Steps of the solvers cg and cuda for each row and iteration.",
        json_schema_extra=_SOLVER,
    )
    block_size: int = Field(
        default=64,
        ge=1,
        le=MAX_FACTORS,
        description="Coordinates that solver ialspp solves at a time.",
        json_schema_extra=_SOLVER,
    )
    min_rel_progress: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Stop when an iteration improves the objective by less than this share; 0 never stops.",
        json_schema_extra=_TRAINING,
    )
    num_threads: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="Threads of the CPU solvers; 0 uses every core.",
        json_schema_extra=_SOLVER,
    )


class TrainConfig(_Shared, _Numbers):
    """Parameters of weighted alternating least squares.

    Training minimises, over user factors ``u_i`` and item factors ``v_j`` of ``latent_factors`` numbers each,

        sum_ij W_ij (T_ij - u_i . v_j)^2 + sum_i l_i |u_i|^2 + sum_j l_j |v_j|^2

    where the sum runs over every pair of a user and an item. ``docs/trainer.md`` derives the weights W and
    targets T of both kinds of feedback, and the regularisation l of each row. The defaults are for ranking
    from implicit feedback (Rendle et al. 2021, "iALS++").
    """


class TrainOptions(_Shared, _NumbersOrAuto):
    """Parameters of `TrainConfig` as users give them: four of them may be ``auto``.

    `trainer.auto.choose` turns them into a `TrainConfig`. These four are text, ``auto`` or a number, because
    a parameter of a platform has one type.
    """

    def given(self) -> dict[str, Any]:
        """Return the values of the parameters that are not ``auto``, numbers as numbers."""
        values = self.model_dump()
        texts = {name: values.pop(name) for name in AUTOMATIC}
        numbers = {
            name: NumberOrAuto.of(_Numbers, name).kind(text) for name, text in texts.items() if text != AUTO
        }
        return {**values, **numbers}


AUTOMATIC = tuple(_Numbers.model_fields)
"""Parameters that may be ``auto``."""
