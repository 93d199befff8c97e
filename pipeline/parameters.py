"""The pipelines' parameters: types, defaults, what a person reads about them, how they reach the steps."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trainer.config import TrainConfig

REQUIRED = inspect.Parameter.empty

_DEFAULT = TrainConfig()


@dataclass(frozen=True)
class Parameter:
    """A parameter of a pipeline.

    Attributes:
        type: ``str``, ``int``, ``float`` or ``bool``.
        default: never None, which platforms cannot pass; "" for what is not given, or `REQUIRED`.
        description: what the consoles and ``wals run --help`` show.
    """

    type: type
    default: Any
    description: str


TRAINING = {
    "source": Parameter(
        str,
        REQUIRED,
        "Where the interactions are: CSV or Parquet files, also gs:// and s3://, or bq://project.dataset.table.",
    ),
    "data_type": Parameter(
        str,
        "ratings",
        "What the source holds: ratings, user_ratings, web_views (Analytics 360), ga4, or query.",
    ),
    "user_column": Parameter(
        str, "", "Name of the column with the user ids; found by its usual names if empty."
    ),
    "item_column": Parameter(
        str, "", "Name of the column with the item ids; found by its usual names if empty."
    ),
    "rating_column": Parameter(
        str, "", "Name of the column with the ratings; found by its usual names if empty."
    ),
    "timestamp_column": Parameter(
        str, "", "Name of the column with the times; found by its usual names if empty."
    ),
    "delimiter": Parameter(str, "", "Character between the fields of CSV files; found out if empty."),
    "has_header": Parameter(bool, True, "Whether CSV files begin with the names of their columns."),
    "window_start": Parameter(
        str, "", "Leave out interactions before this time (ISO 8601, UTC); no bound if empty."
    ),
    "window_end": Parameter(
        str, "", "Leave out interactions from this time on (ISO 8601, UTC); no bound if empty."
    ),
    "window_days": Parameter(
        int,
        0,
        "Take only the last days before window_end, or before the snapshot, or before now; 0 is no bound.",
    ),
    "row_filter": Parameter(
        str, "", "SQL condition on the source's columns; rows that do not meet it are left out."
    ),
    "query": Parameter(str, "", "SELECT in BigQuery SQL that yields the ratings, for data_type query."),
    "item_key": Parameter(
        str, "", "What names an event's item: a ga4 event parameter, or the index of a custom dimension."
    ),
    "event_name": Parameter(str, "page_view", "Events that count, for data_type ga4."),
    "event_rating": Parameter(
        str, "count", "Rating of a ga4 item: count of its events, or seconds of engagement."
    ),
    "project": Parameter(str, "", "Project that runs and pays for BigQuery; the source's own if empty."),
    "location": Parameter(str, "", "Location of the BigQuery data, such as EU; found out if empty."),
    "snapshot": Parameter(
        str, "", "Read the table as it was at this time (ISO 8601, UTC; at most 7 days ago); now if empty."
    ),
    "maximum_bytes_billed": Parameter(
        int, 0, "Fail, before it costs anything, if a query would read more bytes; 0 is none."
    ),
    "staging_dataset": Parameter(
        str, "", "BigQuery dataset (project.dataset) to prepare the interactions in; none if empty."
    ),
    "split": Parameter(
        str,
        "random",
        "How the holdout is chosen: random, last (of each user), time, or users (held out whole).",
    ),
    "holdout_fraction": Parameter(float, 0.1, "Share to hold out, above 0 and below 1."),
    "holdout_last": Parameter(int, 1, "Items to hold out of each user, for split last."),
    "holdout_from": Parameter(
        str, "", "Moment from which all is held out (ISO 8601, UTC), for split time; found if empty."
    ),
    "duplicates": Parameter(
        str, "mean", "How repeated interactions become one value: sum, mean, max or last."
    ),
    "min_user_interactions": Parameter(int, 1, "Leave out users with fewer interactions."),
    "min_item_interactions": Parameter(int, 1, "Leave out items with fewer interactions."),
    "max_user_interactions": Parameter(
        int, 0, "Leave out users with more interactions, such as bots; 0 is no bound."
    ),
    "half_life_days": Parameter(
        float, 0.0, "Halve a rating's weight for each such time before the newest one; 0 is never."
    ),
    "previous_profile": Parameter(
        str, "", "Folder of a profile to compare with, or one that keeps the latest run's; none if empty."
    ),
    "on_drift": Parameter(
        str, "warn", "What to do when the data have drifted from the previous profile: warn, or fail."
    ),
    "max_volume_drop": Parameter(float, 0.5, "Share of the previous interactions that may be missing."),
    "max_density_change": Parameter(
        float, 2.0, "Factor by which the density may differ from the previous one."
    ),
    "max_psi": Parameter(
        float, 0.25, "Most that ratings, activity and duplicates may drift, as population stability index."
    ),
    "latent_factors": Parameter(
        int, _DEFAULT.latent_factors, "Length of a factor; more find finer tastes, and cost more."
    ),
    "num_iters": Parameter(
        int, _DEFAULT.num_iters, "Iterations at most, each one pass over the users and one over the items."
    ),
    "regularization": Parameter(float, _DEFAULT.regularization, "Strength of the L2 regularisation, lambda."),
    "regularization_exponent": Parameter(
        float,
        _DEFAULT.regularization_exponent,
        "How lambda grows with a row's interactions, nu; 0 is the same for all.",
    ),
    "unobs_weight": Parameter(
        float, _DEFAULT.unobs_weight, "Weight of the pairs nobody rated, whose target is 0."
    ),
    "feedback": Parameter(
        str,
        _DEFAULT.feedback,
        'Either "implicit" (an interaction is a liking, its value a confidence) or "explicit" '
        "(the value is the target).",
    ),
    "alpha": Parameter(float, _DEFAULT.alpha, "Confidence per unit of value, of implicit feedback."),
    "wt_type": Parameter(
        int,
        _DEFAULT.wt_type,
        "Weighting by an item's frequency, of explicit feedback; 0 is linear, 1 is log.",
    ),
    "feature_wt_factor": Parameter(float, _DEFAULT.feature_wt_factor, "Factor of the linear weighting."),
    "feature_wt_exp": Parameter(float, _DEFAULT.feature_wt_exp, "Exponent of the log weighting."),
    "min_rel_progress": Parameter(
        float,
        _DEFAULT.min_rel_progress,
        "Stop when an iteration improves the objective by less than this share; 0 never.",
    ),
    "solver": Parameter(str, _DEFAULT.solver, 'One of "auto", "cg", "cholesky", "ialspp" and "tensorflow".'),
    "seed": Parameter(
        int,
        _DEFAULT.seed,
        "Seed of the split and of the initial factors; the same seed gives the same model.",
    ),
    "eval_k": Parameter(int, 20, "Length of the ranked lists that Recall and NDCG judge."),
    "top_k": Parameter(int, 10, "Recommendations to publish for each user."),
}
"""Of the training pipeline."""

TUNING = {
    **TRAINING,
    "width": Parameter(int, 4, "Trials that run side by side in each of the study's rounds."),
    "max_latent_factors": Parameter(int, 128, "Most latent factors that a trial may have; at least 8."),
}
"""Of the tuning pipeline."""


def pipeline_function(
    summary: str,
    parameters: Mapping[str, Parameter],
    outputs: type,
    wire: Callable[[Mapping[str, Any]], Any],
) -> Callable[..., Any]:
    """Return a function that ``dsl.pipeline`` makes a pipeline of.

    kfp reads the parameters from a function's signature and their descriptions from its docstring. Both are
    made here, so that pipelines share parameters without repeating them.

    Args:
        summary: the docstring's first line.
        parameters: by name.
        outputs: named tuple of the pipeline's outputs.
        wire: makes the tasks, given the parameters' values by name, and returns the outputs.
    """

    def function(*values: Any) -> Any:
        return wire(dict(zip(parameters, values, strict=True)))

    lines = [f"    {name}: {parameter.description}" for name, parameter in parameters.items()]
    function.__doc__ = "\n".join([summary, "", "Args:", *lines])
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, kind, default=parameter.default, annotation=parameter.type)
            for name, parameter in parameters.items()
        ],
        return_annotation=outputs,
    )
    return function


def of_step(component: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the parameters that a step's component takes, for they have the same names."""
    return {name: given[name] for name in component.component_spec.inputs if name in given}
