"""Scores recommenders on the held-out entries, in blocks of users; the users' metrics go to a file."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.artifacts.evaluation import Estimate, Segment
from components.artifacts.evaluation import Recommender as Name
from components.evaluate.targets import Targets
from trainer.baselines import Recommender
from trainer.matrix import Shard
from trainer.metrics import RANKING_METRICS, Exposure, bootstrap_each, metric_name, ranking_metrics

LENGTHS = (10, 20, 50, 100)
"""Lengths of the lists that metrics are computed of, besides eval_k."""

_USERS_AT_ONCE = 10_000
_LISTED_AT_ONCE = 1 << 21

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lists:
    """The lists that are judged.

    Attributes:
        ks: lengths that metrics are named after, ascending.
        eval_k: the one that decides, which the segments' metrics and those beyond accuracy are of.
        items: number of items; longer lists are as long as this.
    """

    ks: tuple[int, ...]
    eval_k: int
    items: int

    @classmethod
    def of(cls, eval_k: int, items: int) -> Self:
        """Return the usual lengths that a catalogue has items for, and ``eval_k``."""
        return cls(tuple(sorted({eval_k, *(k for k in LENGTHS if k <= items)})), eval_k, items)

    @property
    def longest(self) -> int:
        """Number of items to rank."""
        return self.length(self.ks[-1])

    @property
    def users_at_once(self) -> int:
        """Number of users whose lists may be in memory."""
        return max(1, min(_USERS_AT_ONCE, _LISTED_AT_ONCE // self.longest))

    def length(self, k: int) -> int:
        """Return the number of items in a list of length k."""
        return min(k, self.items)

    def metrics(
        self, recommended: NDArray[np.int32], targets: Targets, ks: Sequence[int]
    ) -> dict[str, NDArray[np.float64]]:
        """Return the metrics of some users' lists at some of the lengths, by name."""
        lengths = sorted({self.length(k) for k in ks})
        values = ranking_metrics(recommended, targets.indptr, targets.items, lengths)
        return {
            metric_name(kind, k): values[metric_name(kind, self.length(k))]
            for kind in RANKING_METRICS
            for k in ks
        }

    @property
    def deciding(self) -> list[str]:
        """Names of the metrics at ``eval_k``."""
        return [metric_name(kind, self.eval_k) for kind in RANKING_METRICS]


@dataclass(frozen=True)
class Jury:
    """What every recommender is judged by.

    Attributes:
        lists: lengths of the lists.
        targets: held-out entries.
        masked: function that returns the items of some users that no recommender may return.
        columns: further columns of the file, by name, with a value for each user.
        parts: which items belong to a part of the catalogue that is judged separately, by its name.
        exposure: function that begins the account of a recommender's lists.
    """

    lists: Lists
    targets: Targets
    masked: Callable[[NDArray[np.int64]], Shard]
    columns: Mapping[str, NDArray[Any]]
    parts: Mapping[str, NDArray[np.bool_]]
    exposure: Callable[[], Exposure]

    def judge(self, recommenders: Mapping[Name, Recommender], path: Path) -> "Verdict":
        """Score the recommenders and write the users' metrics to a Parquet file.

        Besides a block of users, only counts of the items are kept.
        """
        exposures = {name: self.exposure() for name in recommenders}
        schema = pa.schema(
            [("user", pa.int64())]
            + [(name, pa.array(values[:0]).type) for name, values in self.columns.items()]
            + [(column, pa.float32()) for column in self._names(recommenders)]
        )
        scored = 0
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for block in self.targets.blocks(self.lists.users_at_once):
                users = slice(scored, scored + len(block.users))
                columns: dict[str, NDArray[Any]] = {"user": block.users}
                columns |= {name: values[users] for name, values in self.columns.items()}
                masked = self.masked(block.users)
                parts = {part: block.only(items[block.items]) for part, items in self.parts.items()}
                for name, recommender in recommenders.items():
                    lists = recommender.recommend(block.users, self.lists.longest, masked)
                    exposures[name].add(lists[:, : self.lists.length(self.lists.eval_k)])
                    columns |= self._scores(name, lists, block, parts)
                writer.write_table(pa.table({field.name: _nullable(columns[field.name]) for field in schema}))
                scored = users.stop
                logger.info("judged %d of %d users", scored, len(self.targets.users))
        return Verdict(path, self.lists, exposures)

    def _names(self, recommenders: Mapping[Name, Recommender]) -> list[str]:
        names = [metric_name(kind, k) for kind in RANKING_METRICS for k in self.lists.ks]
        whole = [column_of(metric, recommender) for recommender in recommenders for metric in names]
        return whole + [
            column_of(metric, recommender, part)
            for part in self.parts
            for recommender in recommenders
            for metric in self.lists.deciding
        ]

    def _scores(
        self,
        name: Name,
        lists: NDArray[np.int32],
        block: Targets,
        parts: Mapping[str, tuple[Targets, NDArray[np.int64]]],
    ) -> dict[str, NDArray[np.float32]]:
        """Return the columns of a recommender for a block of users and, by name, the parts of its entries."""
        scores = {
            column_of(metric, name): values.astype(np.float32)
            for metric, values in self.lists.metrics(lists, block, self.lists.ks).items()
        }
        for part, (entries, users) in parts.items():
            missing = np.full(len(block.users), np.nan, np.float32)
            columns = {metric: missing.copy() for metric in self.lists.deciding}
            if entries.entries:
                shown = lists[users, : self.lists.length(self.lists.eval_k)]
                found = self.lists.metrics(shown, entries, [self.lists.eval_k])
                for metric, values in found.items():
                    columns[metric][users] = values
            scores |= {column_of(metric, name, part): values for metric, values in columns.items()}
        return scores


@dataclass(frozen=True)
class Verdict:
    """The metrics of the recommenders, of which those of users are in a file.

    Attributes:
        path: Parquet file with a row for each user.
        lists: lengths of the lists.
        exposures: what each recommender showed.
    """

    path: Path
    lists: Lists
    exposures: Mapping[Name, Exposure] = field(repr=False)

    def values(
        self,
        recommender: Name,
        metrics: Sequence[str],
        part: str = "",
        users: NDArray[np.bool_] | None = None,
    ) -> dict[str, NDArray[np.float32]]:
        """Return users' metrics of a recommender by name.

        Args:
            recommender: name of the recommender.
            metrics: names of the metrics.
            part: part of the catalogue; all of it if omitted. Users without entries in it are left out.
            users: (users,) which users' to return; those of all if omitted.
        """
        names = {metric: column_of(metric, recommender, part) for metric in metrics}
        columns = self._columns(list(names.values()), users)
        return {metric: columns[name] for metric, name in names.items()}

    def _columns(self, names: list[str], users: NDArray[np.bool_] | None) -> dict[str, NDArray[np.float32]]:
        """Return columns of the file; without a selection of users without the places that have no value."""
        # Threads would take more memory than they save time.
        with pq.ParquetFile(self.path, pre_buffer=False) as file:
            table = file.read(names, use_threads=False)
        columns = {name: table.column(name).to_numpy() for name in names}
        return {
            name: values[~np.isnan(values) if users is None else users] for name, values in columns.items()
        }

    def estimates(self, seed: int) -> dict[Name, dict[str, Estimate]]:
        """Return every metric of every recommender; those averaged over users with their intervals."""
        names = [metric_name(kind, k) for kind in RANKING_METRICS for k in self.lists.ks]
        k = self.lists.eval_k
        return {
            recommender: _estimates(self.values(recommender, names), seed)
            | {
                metric_name("coverage", k): Estimate(value=exposure.coverage()),
                metric_name("gini", k): Estimate(value=exposure.gini()),
                metric_name("novelty", k): Estimate(value=exposure.novelty()),
                metric_name("popularity", k): Estimate(value=exposure.popularity()),
            }
            for recommender, exposure in self.exposures.items()
        }

    def segment(
        self, by: str, name: str, seed: int, *, part: str = "", users: NDArray[np.bool_] | None = None
    ) -> Segment | None:
        """Return the metrics at ``eval_k`` of a segment, or None if it has no users; see `values`."""
        names = {
            one: {metric: column_of(metric, one, part) for metric in self.lists.deciding}
            for one in self.exposures
        }
        values = self._columns([name for columns in names.values() for name in columns.values()], users)
        count = len(next(iter(values.values())))
        if not count:
            return None
        estimates = _estimates(values, seed)
        metrics = {
            one: {metric: estimates[name] for metric, name in columns.items()}
            for one, columns in names.items()
        }
        return Segment(by=by, name=name, users=count, metrics=metrics)


def column_of(metric: str, recommender: Name, part: str = "") -> str:
    """Return the name of a column of the file."""
    return ".".join(filter(None, (metric, recommender, part.replace(" ", "_"))))


def _estimates(values: Mapping[str, NDArray[np.float32]], seed: int) -> dict[str, Estimate]:
    intervals = bootstrap_each(values, seed)
    return {
        name: Estimate(
            value=float(np.mean(column, dtype=np.float64)),
            low=intervals[name].low,
            high=intervals[name].high,
        )
        for name, column in values.items()
    }


def _nullable(values: NDArray[Any]) -> "pa.Array[Any]":
    """Return an Arrow array in which NaN is missing."""
    array: pa.Array[Any] = pa.array(values, from_pandas=True)
    return array
