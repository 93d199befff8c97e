"""Preparation: from interactions to a sparse matrix, a holdout and vocabularies."""

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from components.artifacts.holdout import HISTORY, TARGETS
from components.artifacts.holdout import SCHEMA as HOLDOUT_SCHEMA
from components.artifacts.interactions import SCHEMA as INTERACTIONS_SCHEMA
from components.artifacts.interactions import Interactions, Shard
from components.engines import Engine
from components.engines.duckdb import DuckDB
from components.prepare.options import DriftContract, PrepareOptions
from components.prepare.profile.contract import hold_to_contract
from components.prepare.profile.previous import Previous
from components.prepare.profile.profile import profile_of, ratings_of
from components.prepare.relations import SIDES, days_of, keep_core, number
from components.threads import ordered_map
from trainer.errors import InputError, counted, translated
from trainer.files import MANIFEST, begin_artifact, finish_artifact, identity, local_file, read_identified
from trainer.matrix import SCHEMA as MATRIX_SCHEMA
from trainer.scratch import scratch_folder
from trainer.vocabulary import SCHEMA as VOCABULARY_SCHEMA
from trainer.vocabulary import Vocabulary, save_vocabularies

logger = logging.getLogger(__name__)

_LARGEST_RATING = 1e15
"""Squares of larger ones overflow float32 when they are summed over 10^8 interactions."""

_TABLE = "interactions"
"""Name of the interactions' table in the engine."""


def prepare(
    options: PrepareOptions,
    *,
    interactions: Path,
    training: Path,
    holdout: Path,
    vocabulary: Path,
    profile: Path,
    profile_report: Path,
) -> dict[str, dict[str, Any]]:
    """Write the training matrix, the holdout and the vocabularies of an interactions artifact.

    The same interactions, parameters and seed give the same bytes, regardless of the order of the rows, their
    division into shards, and where the SQL runs: in this process, or in BigQuery if extraction left the
    interactions there. Only what the profile says of the interactions' artifact and source may differ.

    Args:
        options: how the interactions become a matrix and a holdout.
        interactions: folder of a ``wals.interactions`` artifact.
        training: folder for the ``wals.matrix`` to train on.
        holdout: folder for the ``wals.holdout``.
        vocabulary: folder for the ``wals.vocabulary``.
        profile: folder for the ``wals.profile`` of the interactions. It is the only output that is kept if
            they are refused for their drift.
        profile_report: path for the same as HTML with a picture.

    Returns:
        Metadata of each output, by its name; if the SQL ran in BigQuery, that of ``training`` has
        bytes_billed and slot_milliseconds.

    Raises:
        InputError: the interactions are damaged, too many to number, or differ from the previous run's;
            fewer than two users or items remain; the split leaves nothing to train on or to predict; or an
            output cannot be written.
        WalsError: BigQuery or Cloud Storage failed or denied access.
    """
    manifest, checksum = read_identified(interactions, INTERACTIONS_SCHEMA, Interactions)
    types = {column.name: column.type for column in manifest.columns}
    _check_times(options, types, manifest.rows_without_time)
    previous = Previous.find(options.previous_profile)
    begin_artifact(profile)
    profile_report.unlink(missing_ok=True)
    with (
        _all_or_none(training, holdout, vocabulary),
        contextlib.ExitStack() as stack,
        # Ends before the engine, which it may still be using when the step fails.
        ThreadPoolExecutor(1) as executor,
    ):
        # Takes half a second, during which the engine works.
        loading = executor.submit(_load_kernels)
        engine = stack.enter_context(_engine(interactions, manifest, options))
        logger.info("%s to prepare", counted(manifest.rows, "interaction"))
        filtered = keep_core(engine, _TABLE, options)
        ids = _number_ids(engine, filtered, types, options.seed)
        parameters = options.parameters(days_of(engine, filtered) if options.needs_time else [])
        loading.result()
        with _dealt(engine, filtered, types, options, parameters, ids) as assemble:
            # The engine is done with the matrices, and writing them leaves the processor idle at times.
            ratings = executor.submit(ratings_of, engine, _TABLE, types)
            matrices = assemble([training, *(holdout / part for part in options.parts)])
        _check_ratings(ratings.result())
        entries = _entries(options, matrices)
        current = profile_of(
            engine,
            _TABLE,
            types,
            ratings.result(),
            {"user": ids.user_counts, "item": ids.item_counts} if filtered == _TABLE else None,
            interactions=int(ids.user_counts.sum()),
            pairs=sum(entries.values()),
            source=manifest.source,
            checksum=checksum,
        )
        hold_to_contract(current, options, previous.profile, profile, profile_report)
        metadata = _finish(matrices, holdout, vocabulary, ids, options, entries)
        previous.keep(profile)
        metadata["training"].update(engine.cost())
    return metadata


@dataclass(frozen=True)
class _Ids:
    """The ids of the rows and the columns.

    Attributes:
        users: ids of the rows.
        items: ids of the columns.
        user_counts: (users,) interactions of each user.
        item_counts: (items,) interactions of each item.
    """

    users: Vocabulary
    items: Vocabulary
    user_counts: NDArray[np.int64]
    item_counts: NDArray[np.int64]


def _number_ids(engine: Engine, filtered: str, types: Mapping[str, str], seed: int) -> _Ids:
    (users, user_counts), (items, item_counts) = (
        number(engine, filtered, side, is_text=types[f"{side}_id"] == "string", seed=seed) for side in SIDES
    )
    _check_sizes(len(users), len(items))
    return _Ids(users, items, user_counts, item_counts)


def _load_kernels() -> None:
    """Import the compiled part of preparation and initialise numba; see `_dealt`."""
    from components.prepare.matrix import encoding, kernels  # noqa: F401 - imports the rest of them

    kernels.load()


@contextlib.contextmanager
def _dealt(
    engine: Engine,
    filtered: str,
    types: Mapping[str, str],
    options: PrepareOptions,
    parameters: dict[str, int | float],
    ids: _Ids,
) -> Iterator[Callable[[Sequence[Path]], list[dict[str, Any]]]]:
    """Deal the encoded interactions into blocks, and yield a function that writes the matrices to folders."""
    # `_load_kernels` has imported them already, while the engine worked.
    from components.prepare.matrix.assembly import assemble, deal_rows
    from components.prepare.matrix.encoding import encoded

    look_up = engine.in_process and types["user_id"] == types["item_id"] == "int64"
    encoding = encoded(engine, filtered, options, parameters, look_up=look_up)
    with (
        scratch_folder() as scratch,
        deal_rows(encoding, scratch, ids.user_counts, ids.item_counts) as by_row,
    ):
        yield partial(assemble, by_row, scratch, ids.item_counts, duplicates=options.duplicates)


def _entries(options: PrepareOptions, matrices: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the number of entries of each matrix, by part of the split."""
    entries = {
        part: matrix["entries"] for part, matrix in zip(("training", *options.parts), matrices, strict=True)
    }
    if not entries["training"] or not entries[TARGETS]:
        trained = counted(entries["training"], "interaction")
        name = options.decides_split
        raise InputError(
            name,
            getattr(options, name),
            f"leaves {trained} to train on and {entries[TARGETS]:,} to predict",
            "change it, or give more interactions",
        )
    return entries


def _finish(
    matrices: Sequence[dict[str, Any]],
    holdout: Path,
    vocabulary: Path,
    ids: _Ids,
    options: PrepareOptions,
    entries: dict[str, int],
) -> dict[str, dict[str, Any]]:
    training, *parts = (identity(MATRIX_SCHEMA, matrix) for matrix in matrices)
    checksum = training["checksum"]
    vocabularies = save_vocabularies(vocabulary, ids.users, ids.items, training=checksum)
    facts = {
        "split": options.split,
        "seed": options.seed,
        "fraction": options.holdout_fraction,
        "entries": entries[TARGETS],
        "history_entries": entries.get(HISTORY, 0),
    }
    digests = {name: part["checksum"] for name, part in zip(options.parts, parts, strict=True)}
    content = {**facts, "training": checksum, "sha256": digests}
    finish_artifact(holdout, HOLDOUT_SCHEMA, content)
    users, items = len(ids.users), len(ids.items)
    logger.info(
        "%s users, %s items, %s interactions to train on, %s to predict",
        *(f"{number:,}" for number in (users, items, entries["training"], entries[TARGETS])),
    )
    shape = {"users": users, "items": items}
    return {
        "training": {
            **shape,
            "entries": entries["training"],
            "density": entries["training"] / (users * items),
            **training,
        },
        "holdout": {**shape, **facts, **identity(HOLDOUT_SCHEMA, content)},
        "vocabulary": {**shape, **identity(VOCABULARY_SCHEMA, vocabularies)},
    }


def _check_times(options: PrepareOptions, types: Mapping[str, str], rows_without_time: int) -> None:
    if not options.needs_time:
        return
    if "event_time" not in types:
        raise InputError(
            options.needs_time,
            "",
            "requires times",
            "extract them: map their column with --timestamp-column NAME",
        )
    if rows_without_time:
        raise InputError(
            options.needs_time,
            "",
            f"requires times; without one: {counted(rows_without_time, 'interaction')}",
            "fix or filter them",
        )


def _check_ratings(ratings: Sequence[Mapping[str, Any]]) -> None:
    """Refuse ratings that no training could use; see `ratings_of`."""
    for rating in (bound for row in ratings for bound in (row["lowest"], row["highest"])):
        if abs(rating) > _LARGEST_RATING:
            raise InputError(
                "rating",
                rating,
                f"is larger than {_LARGEST_RATING:.0e} in size, too large for single precision",
                "fix it, or leave it out with row_filter",
            )


def _check_sizes(users: int, items: int) -> None:
    sizes = f"{counted(users, 'user')}, {counted(items, 'item')}"
    if not users or not items:
        raise InputError(
            "min_user_interactions, min_item_interactions, max_user_interactions",
            sizes,
            "nothing is left",
            "lower the first two, or raise the third",
        )
    if users == 1 or items == 1:
        raise InputError("interactions", sizes, "are too few to learn from", "give at least two of each")


@contextlib.contextmanager
def _all_or_none(*folders: Path) -> Iterator[None]:
    """Begin artifacts and those inside them; if the block fails, leave none of them complete."""

    def forget() -> None:
        for folder in folders:
            for manifest in folder.rglob(MANIFEST):
                manifest.unlink()

    for folder in folders:
        begin_artifact(folder)
    forget()
    try:
        yield
    except BaseException:
        forget()
        raise


@contextlib.contextmanager
def _engine(folder: Path, manifest: Interactions, options: PrepareOptions) -> Iterator[Engine]:
    """Yield the engine where the interactions are, as the table `_TABLE`."""
    staged = manifest.staged
    if staged:
        from components.engines.bigquery import BigQuery  # slow to import, and most runs do not need it

        # A name that depends only on the work lets a retry overwrite the tables of an earlier attempt.
        work = options.model_dump(exclude=set(DriftContract.model_fields))
        digest = hashlib.sha256(repr((staged.table, work)).encode()).hexdigest()[:12]
        engine = BigQuery(
            project=staged.project,
            location=staged.location,
            dataset=staged.dataset,
            prefix=f"wals_{digest}_",
            maximum_bytes_billed=staged.maximum_bytes_billed,
        )
        engine.adopt(_TABLE, staged.table)
        yield engine
        return
    with (
        scratch_folder() as scratch,
        DuckDB.open(ordered=False) as database,
    ):
        _expose(database, folder, manifest.shards, scratch)
        yield database


def _expose(database: DuckDB, folder: Path, shards: Sequence[Shard], scratch: Path) -> None:
    """Create the view `_TABLE` over the shards of an artifact, once their checksums are verified.

    Checksums take a hundredth of the time of preparation, and leave the files in the system's cache. Queries
    would read shards in a mounted bucket several times, so those are copied to the local folder ``scratch``.
    """

    def checked(shard: Shard) -> str:
        return str(local_file(folder / shard.path, shard.sha256, scratch))

    files = list(ordered_map(checked, shards))
    not_parquet = InputError(
        "interactions", str(folder), "cannot be read as Parquet", "run the step that wrote it again"
    )
    with translated((duckdb.Error, lambda _: not_parquet)):
        database.connection.read_parquet(files, hive_partitioning=False).create_view(_TABLE)
