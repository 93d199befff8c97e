"""How people write the metrics, and in which order they read them."""

from collections.abc import Iterable

BASELINE_PREFIX = "popularity_"

_LABELS = {"ndcg": "NDCG", "recall": "Recall", "coverage": "Catalogue coverage", "rmse": "RMSE"}


def metric_label(name: str) -> str:
    """Return how people write a metric: ``recall_at_20`` is ``Recall@20``; one not known here as it is."""
    kind, _, k = name.partition("_at_")
    return _LABELS[kind] + (f"@{k}" if k else "") if kind in _LABELS else name


def model_metrics(names: Iterable[str]) -> list[str]:
    """Return those of the names that are the model's own, not the baseline's, in reading order.

    Those not known here, as another version of the pipeline has them, come last.
    """
    order = {kind: place for place, kind in enumerate(_LABELS)}
    own = (name for name in names if not name.startswith(BASELINE_PREFIX))
    return sorted(own, key=lambda name: order.get(name.partition("_at_")[0], len(order)))
