"""Delivery to BigQuery: all tables of a dataset change together to those of one model.

The dataset gets the tables

    recommendations    user_id, item_id, predicted_score, rank
    similar_items      item_id, similar_item_id, cosine_similarity, rank
    user_embeddings    user_id, embedding
    item_embeddings    item_id, embedding
    deliveries         version, delivered: a row for each delivery; the last one is what the others hold

The first four hold the rows of one model only, with the ``delivery_date`` that they are partitioned by, and
are clustered by their first column.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from google.cloud import bigquery

from components.artifacts.published import EMBEDDINGS, RECOMMENDATIONS, SIMILAR_ITEMS, read_shards
from components.deliver.bigquery_options import dataset_of
from components.engines.bigquery import BigQuery, Layout
from components.engines.sql import Checked, quoted, render
from trainer.errors import InputError, WalsError, translated
from trainer.files import Schema, local_file
from trainer.scratch import scratch_folder

logger = logging.getLogger(__name__)

_SQL = Path(__file__).parent / "sql"
_DATE = "delivery_date"
_DELIVERIES = "deliveries"
_FIELD = "destination"


@dataclass(frozen=True)
class _Table:
    """A table, and the artifact that its rows come from.

    Attributes:
        name: name in the dataset.
        schema: schema of the artifact.
        prefix: prefix of the artifact's files.
        columns: name of each column, by its name in the files.
    """

    name: str
    schema: Schema
    prefix: str
    columns: Mapping[str, str]


_TABLES = (
    _Table(
        "recommendations",
        RECOMMENDATIONS,
        "part",
        {"user_id": "user_id", "item_id": "item_id", "score": "predicted_score", "rank": "rank"},
    ),
    _Table(
        "similar_items",
        SIMILAR_ITEMS,
        "part",
        {
            "item_id": "item_id",
            "similar_item_id": "similar_item_id",
            "score": "cosine_similarity",
            "rank": "rank",
        },
    ),
    _Table("user_embeddings", EMBEDDINGS, "users", {"id": "user_id", "embedding": "embedding"}),
    _Table("item_embeddings", EMBEDDINGS, "items", {"id": "item_id", "embedding": "embedding"}),
)


def deliver_to_bigquery(
    destination: str,
    recommendations: Path,
    similar_items: Path,
    embeddings: Path,
    version: str,
    *,
    expiration_days: int = 0,
) -> Mapping[str, int]:
    """Replace the rows of a dataset's tables by those of a model, all at once.

    The files are loaded into staging tables, whose names come from the version, and one transaction replaces
    the rows of all tables. Until it commits, readers see the old rows of all tables, whatever fails. If the
    dataset already has the rows of this version, nothing changes.

    Args:
        destination: ``bq://project.dataset``; see `BigQueryDelivery`. Jobs run in its project and location.
        recommendations: folder of a ``wals.recommendations`` artifact.
        similar_items: folder of a ``wals.similar_items`` artifact.
        embeddings: folder of a ``wals.embeddings`` artifact.
        version: name of the model's version in the registry.
        expiration_days: days after which rows that no other delivery has replaced are deleted; 0 for never.

    Returns:
        The loaded rows by table; none if the dataset already had the version.

    Raises:
        InputError: an artifact is damaged, the dataset does not exist, or a table in it has other columns.
        WalsError: BigQuery refused or failed, or another delivery came first.
    """
    dataset = dataset_of(destination)
    engine = BigQuery(
        project=dataset.rpartition(".")[0],
        location="",
        dataset=dataset,
        prefix="",
        maximum_bytes_billed=0,
    )
    engine.check_dataset(_FIELD)
    folders = {RECOMMENDATIONS: recommendations, SIMILAR_ITEMS: similar_items, EMBEDDINGS: embeddings}
    contents = [_Content.read(table, folders[table.schema], version) for table in _TABLES]
    engine.ensure(_DELIVERIES, _DELIVERIES_LAYOUT, _FIELD)
    held = [engine.ensure(content.table.name, content.layout, _FIELD) for content in contents]
    served = _served(engine)
    # Rows may have expired, or somebody may have dropped a table.
    lost = any(content.rows and not rows for content, rows in zip(contents, held, strict=True))
    rows = {}
    if served == version and not lost:
        logger.info("%s already has version %s", dataset, version)
    else:
        for content in contents:
            content.load(engine)
        rows = {content.table.name: content.rows for content in contents}
        _swap(engine, contents, version, served)
        logger.info("%s now has version %s instead of %s", dataset, version, served or "none")
    engine.keep(_DELIVERIES, 0)
    for content in contents:
        engine.keep(content.table.name, expiration_days)
        for name in content.staged:
            engine.drop(name)
    return rows


_DELIVERIES_LAYOUT = Layout(
    (bigquery.SchemaField("version", "STRING"), bigquery.SchemaField("delivered", "TIMESTAMP"))
)


@dataclass(frozen=True)
class _Content:
    """The rows of a table.

    Attributes:
        table: the table.
        fields: columns of the files.
        files: path and digest of each file, and its number of rows, by the name of its staging table.
    """

    table: _Table
    fields: tuple[bigquery.SchemaField, ...]
    files: Mapping[str, tuple[Path, str, int]]

    @classmethod
    def read(cls, table: _Table, folder: Path, version: str) -> "_Content":
        shards = read_shards(folder, table.schema, table.prefix)
        prefix = re.sub(r"\W", "_", f"wals_staging_{version}_{table.name}")
        files = {
            f"{prefix}_{number:05d}": (folder / shard.path, shard.sha256, shard.rows)
            for number, shard in enumerate(shards)
        }
        return cls(table, _fields(folder / shards[0].path, table.columns), files)

    @property
    def layout(self) -> Layout:
        names = list(self.table.columns.values())
        columns = [
            bigquery.SchemaField(name, field.field_type, field.mode)
            for name, field in zip(names, self.fields, strict=True)
        ]
        return Layout((*columns, bigquery.SchemaField(_DATE, "DATE")), _DATE, names[0])

    @property
    def staged(self) -> list[str]:
        return list(self.files)

    @property
    def rows(self) -> int:
        return sum(rows for _, _, rows in self.files.values())

    def load(self, engine: BigQuery) -> None:
        """Load the files into the staging tables."""
        for name, (path, digest, rows) in self.files.items():
            with scratch_folder() as scratch:
                loaded = engine.load(name, local_file(path, digest, scratch), self.fields)
            if loaded != rows:
                raise WalsError(f"BigQuery loaded {loaded:,} rows of {path}, which has {rows:,}")
            logger.info("loaded %s rows of %s", f"{rows:,}", path.name)


def _fields(path: Path, names: Iterable[str]) -> tuple[bigquery.SchemaField, ...]:
    """Return columns of a Parquet file."""

    def damaged(_: Exception) -> InputError:
        problem = f"is not a Parquet file with the columns {', '.join(names)}"
        return InputError("file", str(path), problem, "run the step that wrote its folder again")

    with translated(((OSError, KeyError, pa.ArrowException), damaged)):
        schema = pq.read_schema(path)
        return tuple(_field(schema.field(name), name) for name in names)


def _field(field: "pa.Field[Any]", name: str) -> bigquery.SchemaField:
    repeated = pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type)
    kind = field.type.value_type if repeated else field.type
    if pa.types.is_integer(kind):
        return bigquery.SchemaField(name, "INTEGER")
    if pa.types.is_floating(kind):
        return bigquery.SchemaField(name, "FLOAT", "REPEATED" if repeated else "NULLABLE")
    return bigquery.SchemaField(name, "STRING")


def _served(engine: BigQuery) -> str:
    """Return the version that the dataset has; "" for none."""
    table = engine.table(_DELIVERIES)
    rows = engine.fetch(f"SELECT version FROM {table} ORDER BY delivered DESC LIMIT 1").to_pylist()  # noqa: S608
    return str(rows[0]["version"]) if rows else ""


def _swap(engine: BigQuery, contents: list[_Content], version: str, served: str) -> None:
    """Replace the rows of all tables, unless the dataset has another version than ``served`` by now."""
    tables = [
        {
            "target": engine.table(content.table.name),
            "columns": _listed(content.table.columns.values()),
            "selected": _listed(content.table.columns),
            "shards": [engine.table(name) for name in content.staged],
        }
        for content in contents
    ]
    sql = render(_SQL, "swap.sql", tables=tables, deliveries=engine.table(_DELIVERIES))
    try:
        engine.run_script("swap the tables", sql, {"version": version, "served": served})
    except WalsError:
        # A former attempt of this run may have been committed after it was stopped.
        if served == version or _served(engine) != version:
            raise


def _listed(columns: Iterable[str]) -> Checked:
    return Checked(", ".join(quoted("column", name) for name in columns))
