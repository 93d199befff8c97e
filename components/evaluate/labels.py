"""Display names and display order of the metrics."""

from collections.abc import Iterable

BASELINE_PREFIX = "popularity_"
CHAMPION_PREFIX = "champion_"

_LABELS = {
    "ndcg": "NDCG",
    "recall": "Recall",
    "map": "MAP",
    "mrr": "MRR",
    "hit_rate": "Hit rate",
    "coverage": "Catalogue coverage",
    "gini": "Gini index",
    "novelty": "Novelty",
    "popularity": "Mean popularity",
    "rmse": "RMSE",
    "mae": "MAE",
}


def metric_kind(name: str) -> str:
    """Return a metric's name without the length of the lists, such as ``ndcg``."""
    return name.partition("_at_")[0]


def metric_length(name: str) -> str:
    """Return the length of a metric's lists as its name has it, such as ``20``; "" if it has none."""
    return name.partition("_at_")[2]


def metric_label(name: str) -> str:
    """Return the display name of a metric, such as ``Recall@20``; an unknown metric keeps its name."""
    kind, k = metric_kind(name), metric_length(name)
    return _LABELS[kind] + (f"@{k}" if k else "") if kind in _LABELS else name


def model_metrics(names: Iterable[str]) -> list[str]:
    """Return the names of the model's own metrics, not the baseline's or the champion's, in display order.

    Unknown ones, which another version of the pipeline may have, come last.
    """
    order = {kind: place for place, kind in enumerate(_LABELS)}
    own = (name for name in names if not _is_of_another(name))
    return sorted(own, key=lambda name: order.get(metric_kind(name), len(order)))


def _is_of_another(name: str) -> bool:
    # The model's own popularity_at_20 begins like the metrics of the baseline.
    is_baseline = name.startswith(BASELINE_PREFIX) and not name.startswith(f"{BASELINE_PREFIX}at_")
    return is_baseline or name.startswith(CHAMPION_PREFIX)
