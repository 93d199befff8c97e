"""Options of the tuning steps."""

import pydantic
from pydantic import Field

from components.options import RankingOptions
from trainer.config import MAX_FACTORS, TrainConfig, TrainOptions
from trainer.options import Options, fields_of, group

TUNED = (
    *("latent_factors", "regularization", "regularization_exponent", "unobs_weight"),
    *("alpha", "feature_wt_factor", "feature_wt_exp"),
)
"""Training parameters that a candidate may set."""

MIN_FACTORS = 8

_SPACE = ("feedback", "wt_type")
"""Training parameters that decide which of `TUNED` are searched."""

_TUNING = group("Tuning", common=True)


class StudyOptions(RankingOptions):
    """Size and metric of a study."""

    width: int = Field(
        default=4,
        ge=1,
        le=1000,
        description="Number of trials in each round of the study, which run side by side, on this machine as "
        "many at once as it has cores.",
        json_schema_extra=_TUNING,
    )
    max_latent_factors: int = Field(
        default=128,
        ge=MIN_FACTORS,
        le=MAX_FACTORS,
        description="Maximum number of latent factors that a trial may have.",
        json_schema_extra=_TUNING,
    )


SuggestOptions = pydantic.create_model(
    "SuggestOptions", __base__=StudyOptions, **fields_of(TrainOptions, (*TUNED, *_SPACE, "seed"))
)
"""Options of `suggest`: the size and metric of the study, its search space and its start."""

TrialOptions = pydantic.create_model(
    "TrialOptions",
    __base__=RankingOptions,
    **fields_of(TrainConfig, [name for name in TrainConfig.model_fields if name not in TUNED]),
)
"""Options of a trial: every training parameter that its candidate does not set, so that trials train like
the final model."""

ChooseOptions = pydantic.create_model(
    "ChooseOptions", __base__=RankingOptions, **fields_of(TrainConfig, _SPACE)
)
"""Options of `choose`: what its report needs to know about the search space and the metric."""


def training_config(options: Options, **tuned: object) -> TrainConfig:
    """Return the training parameters among a step's options, with the defaults for the others.

    Whatever can be ``auto`` is tuned, so that nothing is chosen for the data beforehand: the defaults of
    `TrainConfig` stand for it where a study starts.

    Args:
        options: options of a tuning step.
        tuned: values of tuned parameters, which take precedence.
    """
    given = TrainOptions(**{name: value for name, value in options if name in TrainOptions.model_fields})
    return TrainConfig(**{**given.given(), **tuned})
