"""The evaluation report: the page with which a team decides about a model."""

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from components.artifacts.evaluation import Estimate, Evaluation, Recommender, Segment
from components.artifacts.model_card import INTENDED_USE, LIMITS
from components.artifacts.profile import Profile
from components.evaluate.examples import Examples
from components.evaluate.labels import metric_kind, metric_label, metric_length
from components.evaluate.palette import Palette
from components.reports.charts import Chart, Point, Series, chart
from components.reports.page import Cell, Table, write_page
from components.reports.profile import profile_charts, profile_table
from trainer.choice import Choice
from trainer.config import AUTOMATIC
from trainer.history import Iteration

_NAMES: dict[Recommender, str] = {
    "model": "this model",
    "champion": "champion",
    "popularity": "popularity",
    "item_cosine": "item cosine",
    "random": "random",
}
_RANKING = ("ndcg", "recall", "map", "mrr", "hit_rate")
_ERRORS = ("rmse", "mae")
_LONG_TAIL = {
    "coverage": "share of the catalogue in the lists",
    "gini": "0: all items equally often; 1: one item only",
    "novelty": "mean self-information in bits; popular items have little",
    "popularity": "training interactions of the recommended items",
}
_STYLES = {"blessed": "passed", "rejected": "failed"}
_ITERATIONS = 60
"""Iterations shown of a training; of more, evenly spread ones are."""


def write_report(
    evaluation: Evaluation, examples: Examples, profile: Profile, served: Profile | None, path: Path
) -> None:
    """Write the report as a self-contained HTML file; the same arguments give the same bytes.

    Args:
        evaluation: what is known about the model.
        examples: what its lists look like.
        profile: profile of the data that it rests on.
        served: profile of the champion's data, if it is known.
        path: file to write.
    """
    recommenders = [name for name in _NAMES if name in evaluation.metrics]
    names = _by_kind(evaluation.metrics["model"])
    k = metric_length(evaluation.decision.metric)
    write_page(
        "components.evaluate",
        path,
        evaluation=evaluation,
        style=_STYLES[evaluation.decision.outcome],
        checks=_checks(evaluation),
        headline=_metrics_table(
            evaluation,
            recommenders,
            [
                name
                for name in names
                if metric_kind(name) in _ERRORS
                or (metric_kind(name) in _RANKING and metric_length(name) == k)
            ],
            "Metrics on the holdout, with 95 % intervals from a bootstrap over users",
        ),
        everything=_metrics_table(evaluation, recommenders, names, "All metrics"),
        curves=_curves(evaluation, recommenders, names),
        divisions=_divisions(evaluation),
        segments=_segments(evaluation, recommenders),
        long_tail=_long_tail(
            evaluation, recommenders, [name for name in names if metric_length(name) in ("", k)]
        ),
        training=_training(evaluation.history),
        iterations=_iterations(evaluation.history),
        examples=examples,
        palette=Palette(examples.items()),
        parameters=_pairs("Parameters of the training", evaluation.shown_parameters.items()),
        tried=_tried(evaluation.choice) if evaluation.choice else None,
        intended_use=INTENDED_USE,
        limits=LIMITS,
        profile=profile_table(
            "The interactions before filters",
            {"this run": profile, **({_NAMES["champion"]: served} if served else {})},
        ),
        histograms=profile_charts(profile, served, _NAMES["champion"]),
        drift=_drift(evaluation),
        facts=_pairs("What the model was trained and judged on", _facts(evaluation)),
    )


def _by_kind(names: Iterable[str]) -> list[str]:
    """Return the names of metrics in display order; unknown ones come last."""
    order = [*_RANKING, *_ERRORS, *_LONG_TAIL]
    places = {kind: place for place, kind in enumerate(order)}
    return sorted(
        names,
        key=lambda name: (places.get(metric_kind(name), len(order)), int(metric_length(name) or 0), name),
    )


def _figure(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"


def _cell(estimate: Estimate | None) -> Cell:
    if estimate is None:
        return Cell("-", style="none")
    if estimate.low is None or estimate.high is None:
        return Cell(_figure(estimate.value))
    return Cell(_figure(estimate.value), f"{_figure(estimate.low)} to {_figure(estimate.high)}")


def _checks(evaluation: Evaluation) -> Table:
    rows = tuple(
        (Cell(check.name), Cell(result, style=result), Cell(check.detail))
        for check in evaluation.decision.checks
        for result in ["passed" if check.passed else "failed"]
    )
    return Table("Conditions of the decision", ("condition", "result", "figures"), rows, words=True)


def _metrics_table(
    evaluation: Evaluation, recommenders: Sequence[Recommender], names: Sequence[str], caption: str
) -> Table:
    rows = tuple(
        (
            Cell(metric_label(name), "decides" if name == evaluation.decision.metric else ""),
            *(_cell(evaluation.metrics[recommender].get(name)) for recommender in recommenders),
        )
        for name in names
    )
    return Table(caption, ("metric", *(_NAMES[recommender] for recommender in recommenders)), rows)


def _curves(evaluation: Evaluation, recommenders: Sequence[Recommender], names: Sequence[str]) -> list[Chart]:
    """Return a chart by list length of recall, and of the metric that decides if that is another one."""
    decides = metric_kind(evaluation.decision.metric)
    charts = []
    for kind in dict.fromkeys(("recall", decides)):
        at = [name for name in names if metric_kind(name) == kind]
        if len(at) > 1:
            series = [
                Series(
                    _NAMES[recommender],
                    recommender,
                    [_point(evaluation.metrics[recommender].get(name)) for name in at],
                    "line",
                )
                for recommender in recommenders
            ]
            title = f"{metric_label(kind)} by length of the list"
            charts.append(
                chart(title, [metric_length(name) for name in at], series, x_title="k", as_text=_figure)
            )
    return charts


def _point(estimate: Estimate | None) -> Point | None:
    return None if estimate is None else Point(estimate.value, estimate.low, estimate.high)


def _divisions(evaluation: Evaluation) -> list[Chart]:
    """Return a chart of the metric that decides for each division of the holdout into segments."""
    metric = evaluation.decision.metric
    charts = []
    for by, group in groupby(evaluation.segments, key=lambda segment: segment.by):
        segments = list(group)
        series = [
            Series(
                name, recommender, [_point(_of_segment(segment, recommender, metric)) for segment in segments]
            )
            for recommender, name in _NAMES.items()
            if any(recommender in segment.metrics for segment in segments)
        ]
        title = f"{metric_label(metric)} by {by}"
        charts.append(chart(title, [segment.name for segment in segments], series, as_text=_figure))
    return charts


def _segments(evaluation: Evaluation, recommenders: Sequence[Recommender]) -> Table:
    metric = evaluation.decision.metric
    rows = tuple(
        (
            Cell(segment.name, segment.by),
            Cell(f"{segment.users:,}"),
            *(_cell(_of_segment(segment, recommender, metric)) for recommender in recommenders),
        )
        for segment in evaluation.segments
    )
    head = ("segment", "users", *(_NAMES[recommender] for recommender in recommenders))
    return Table(f"{metric_label(metric)} by segment", head, rows)


def _of_segment(segment: Segment, recommender: Recommender, metric: str) -> Estimate | None:
    return segment.metrics.get(recommender, {}).get(metric)


def _long_tail(evaluation: Evaluation, recommenders: Sequence[Recommender], names: Sequence[str]) -> Table:
    rows = tuple(
        (
            Cell(metric_label(name), _LONG_TAIL[metric_kind(name)]),
            *(_cell(evaluation.metrics[recommender].get(name)) for recommender in recommenders),
        )
        for name in names
        if metric_kind(name) in _LONG_TAIL
    )
    head = ("metric", *(_NAMES[recommender] for recommender in recommenders))
    return Table("What the lists of all judged users contain", head, rows)


def _shown(history: Sequence[Iteration]) -> list[Iteration]:
    """Return the first, the last and evenly spread iterations between them."""
    if len(history) <= _ITERATIONS:
        return list(history)
    return [history[round(place * (len(history) - 1) / (_ITERATIONS - 1))] for place in range(_ITERATIONS)]


def _training(history: Sequence[Iteration]) -> list[Chart]:
    shown = _shown(history)
    if not shown:
        return []
    seconds = [iteration.seconds for iteration in history]
    took = f"{min(seconds):.3g} to {max(seconds):.3g}, {sum(seconds):,.3g} in total"
    charts = [
        _curve("Objective", shown, [iteration.objective for iteration in shown]),
        chart(
            "Seconds per iteration",
            [str(iteration.number) for iteration in shown],
            [Series("this model", "model", [Point(iteration.seconds) for iteration in shown], "bars")],
            x_title="iteration",
            summary=f"Seconds per iteration: {took}.",
        ),
    ]
    validated = [iteration for iteration in shown if iteration.validation is not None]
    if validated:
        values = [iteration.validation for iteration in validated if iteration.validation is not None]
        charts.append(_curve("Validation metric", validated, values))
    return charts


def _curve(title: str, iterations: Sequence[Iteration], values: Sequence[float]) -> Chart:
    ends = (
        f"{value:,.6g} after iteration {iteration.number}"
        for iteration, value in ((iterations[0], values[0]), (iterations[-1], values[-1]))
    )
    return chart(
        title,
        [str(iteration.number) for iteration in iterations],
        [Series("this model", "model", [Point(value) for value in values], "line")],
        x_title="iteration",
        from_zero=False,
        summary=f"{title}: {', '.join(ends)}.",
    )


def _iterations(history: Sequence[Iteration]) -> Table:
    rows = tuple(
        (
            Cell(str(iteration.number)),
            Cell(f"{iteration.objective:,.6g}"),
            Cell(f"{iteration.seconds:.3f}"),
            Cell("-", style="none") if iteration.validation is None else Cell(_figure(iteration.validation)),
        )
        for iteration in _shown(history)
    )
    return Table("Iterations of the training", ("iteration", "objective", "seconds", "validation"), rows)


def _drift(evaluation: Evaluation) -> Table:
    rows = tuple(
        (
            Cell(drift.name),
            Cell("warning", style="doubtful") if drift.exceeded else Cell("within the limit"),
            Cell(f"{drift.detail[:1].upper()}{drift.detail[1:]}."),
        )
        for drift in evaluation.drift
    )
    return Table(
        "Differences from the data of the champion", ("difference", "result", "figures"), rows, words=True
    )


def _tried(choice: Choice) -> Table:
    """Return what was tried for the parameters at ``auto``, in this order, and the baseline."""
    rows = [
        (*(Cell(f"{getattr(one, name):g}") for name in AUTOMATIC), Cell(_figure(one.score)))
        for one in choice.tried
    ]
    if choice.baseline is not None:
        empty = (Cell("-", style="none") for _ in AUTOMATIC[1:])
        rows.append((Cell(choice.baseline_name), *empty, Cell(_figure(choice.baseline))))
    head = (*AUTOMATIC, metric_label(choice.metric))
    return Table("Values tried for the parameters at auto", head, tuple(rows))


def _pairs(caption: str, pairs: Iterable[tuple[str, object]]) -> Table:
    rows = tuple((Cell(name), Cell(str(value))) for name, value in pairs)
    return Table(caption, ("name", "value"), rows, words=True)


def _facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    holdout = evaluation.holdout
    return [
        *evaluation.facts.items(),
        ("judged users", f"{holdout.users:,}"),
        ("judged interactions", f"{holdout.entries:,}"),
        ("checksum of the holdout", holdout.checksum),
    ]
