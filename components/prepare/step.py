"""Preparation: interactions to a sparse matrix, a holdout and the vocabularies."""

import contextlib
import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb

from components.artifacts.holdout import HISTORY, TARGETS
from components.artifacts.holdout import SCHEMA as HOLDOUT_SCHEMA
from components.artifacts.interactions import SCHEMA as INTERACTIONS_SCHEMA
from components.engines import Engine
from components.engines.duckdb import DuckDB
from components.prepare.options import PrepareOptions
from components.prepare.profile.contract import hold_to_contract
from components.prepare.profile.previous import Previous
from components.prepare.profile.profile import Profile, ratings_of
from components.prepare.relations import days_of, keep_core, number
from components.threads import ordered_map
from trainer.errors import InputError
from trainer.files import MANIFEST, begin_artifact, check_file, finish_artifact, identity, read_manifest
from trainer.matrix import SCHEMA as MATRIX_SCHEMA
from trainer.vocabulary import SCHEMA as VOCABULARY_SCHEMA
from trainer.vocabulary import Vocabulary, save_vocabularies

logger = logging.getLogger(__name__)


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

    The same interactions, parameters and seed give the same bytes, whatever the order of the rows, how they
    are divided into shards, and where the SQL runs: in this process, or in BigQuery if extraction left the
    interactions there.

    Args:
        options: how the interactions become a matrix and a holdout.
        interactions: folder of a ``wals.interactions`` artifact.
        training: folder for the ``wals.matrix`` to train on.
        holdout: folder for the ``wals.holdout``.
        vocabulary: folder for the ``wals.vocabulary``.
        profile: folder for the ``wals.profile`` of the interactions. It stays if they are refused for
            their drift; nothing else does.
        profile_report: path for the same as HTML with a picture.

    Returns:
        Metadata of each output, by its name; where the SQL ran in BigQuery, that of ``training`` has
        bytes_billed and slot_milliseconds.

    Raises:
        InputError: the interactions are damaged, too many to number, or
            differ from the previous run's, fewer than two users or items are left, the split leaves nothing
            to train on or to predict, or an output cannot be written.
        WalsError: BigQuery or Cloud Storage failed or refused.
    """
    manifest = read_manifest(interactions, INTERACTIONS_SCHEMA)
    _check_times(options, manifest)
    previous = Previous.find(options.previous_profile)
    begin_artifact(profile)
    profile_report.unlink(missing_ok=True)
    with (
        _whole_or_none(training, holdout, vocabulary),
        contextlib.ExitStack() as stack,
        # Ends before the engine does, which it may be using when the step fails.
        ThreadPoolExecutor(1) as executor,
    ):
        loading = executor.submit(_load_kernels)
        engine, table, cost = stack.enter_context(_engine(interactions, manifest, options))
        logger.info("%s interactions to prepare", f"{manifest['rows']:,}")
        kept = keep_core(engine, table, options)
        kinds = {column["name"]: column["type"] for column in manifest["columns"]}
        (users, user_counts), (items, item_counts) = (
            number(engine, kept, side, is_text=kinds[f"{side}_id"] == "string", seed=options.seed)
            for side in ("user", "item")
        )
        _check_sizes(len(users), len(items))
        parameters = options.parameters(days_of(engine, kept) if options.needs_time else [])
        loading.result()
        from components.prepare.matrix.assembly import assemble, deal_rows
        from components.prepare.matrix.encoding import encoded

        look_up = engine.in_process and kinds["user_id"] == kinds["item_id"] == "int64"
        encoding = encoded(engine, kept, options, parameters, look_up=look_up)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wals-")))
        by_row = stack.enter_context(deal_rows(encoding, scratch, user_counts, item_counts))
        # The engine is done with the interactions, and the processor has to wait for the disk at times.
        ratings = executor.submit(ratings_of, engine, table, kinds)
        folders = [training, *(holdout / part for part in options.parts)]
        entries = _entries(options, assemble(by_row, scratch, item_counts, folders, options.duplicates))
        counts = {"user": user_counts, "item": item_counts} if kept == table else None
        found = Profile.of(
            engine, table, kinds, ratings.result(), counts, int(user_counts.sum()), sum(entries.values())
        )
        hold_to_contract(found, options, previous.profile, profile, profile_report)
        metadata = _finish(training, holdout, vocabulary, users, items, options, entries)
        previous.keep(profile)
    metadata["training"].update(cost())
    return metadata


def _load_kernels() -> None:
    """Import what is compiled and have numba set itself up: half a second, in which the engine can work."""
    from components.prepare.matrix import encoding, kernels  # noqa: F401 - imports the rest of them

    kernels.load()


def _entries(options: PrepareOptions, matrices: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many entries the matrices have, by the part of the split."""
    entries = {
        part: matrix["entries"] for part, matrix in zip(("training", *options.parts), matrices, strict=True)
    }
    if not entries["training"] or not entries[TARGETS]:
        raise InputError(
            "split",
            options.split,
            f"leaves {entries['training']} interactions to train on and {entries[TARGETS]} to predict",
            "change its parameters, or give more interactions",
        )
    return entries


def _finish(
    training: Path,
    holdout: Path,
    vocabulary: Path,
    users: Vocabulary,
    items: Vocabulary,
    options: PrepareOptions,
    entries: dict[str, int],
) -> dict[str, dict[str, Any]]:
    save_vocabularies(vocabulary, users, items)
    content = {
        "split": options.split,
        "seed": options.seed,
        "fraction": options.holdout_fraction,
        "entries": entries[TARGETS],
        "history_entries": entries.get(HISTORY, 0),
    }
    finish_artifact(holdout, HOLDOUT_SCHEMA, content)
    logger.info(
        "%s users, %s items, %s interactions to train on, %s to predict",
        *(f"{n:,}" for n in (len(users), len(items), entries["training"], entries[TARGETS])),
    )
    shape = {"users": len(users), "items": len(items)}
    density = entries["training"] / (len(users) * len(items))
    return {
        "training": {
            **shape,
            "entries": entries["training"],
            "density": density,
            **identity(training, MATRIX_SCHEMA),
        },
        "holdout": {**shape, **content, **identity(holdout, HOLDOUT_SCHEMA)},
        "vocabulary": {**shape, **identity(vocabulary, VOCABULARY_SCHEMA)},
    }


def _check_times(options: PrepareOptions, manifest: dict[str, Any]) -> None:
    if not options.needs_time:
        return
    if "event_time" not in {column["name"] for column in manifest["columns"]}:
        raise InputError(
            options.needs_time,
            "",
            "needs times",
            "extract them: map their column with --timestamp-column NAME",
        )
    if manifest["rows_without_time"]:
        raise InputError(
            options.needs_time,
            "",
            f"needs times, and {manifest['rows_without_time']:,} interactions have none",
            "mend or filter them",
        )


def _check_sizes(users: int, items: int) -> None:
    sizes = f"{users:,} users, {items:,} items"
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
def _whole_or_none(*folders: Path) -> Iterator[None]:
    """Begin artifacts, with those inside them, and leave none of them whole if the block fails."""

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
def _engine(
    folder: Path, manifest: dict[str, Any], options: PrepareOptions
) -> Iterator[tuple[Engine, str, Callable[[], dict[str, int]]]]:
    """Yield the engine where the interactions are, the name of their table, and what tells its cost."""
    staged = manifest.get("staged")
    if staged:
        from components.engines.bigquery import BigQuery  # slow to import, and most runs have no use for it

        # Names that follow from the work let a retry write over what an earlier attempt left.
        digest = hashlib.sha256(repr((staged["table"], options)).encode()).hexdigest()[:12]
        engine = BigQuery(
            project=staged["project"],
            location=staged["location"],
            dataset=staged["dataset"],
            prefix=f"wals_{digest}_",
            maximum_bytes_billed=staged["maximum_bytes_billed"],
        )
        engine.adopt("interactions", staged["table"])
        yield engine, "interactions", lambda: asdict(engine.cost)
        return
    with DuckDB.open(ordered=False) as database:
        _expose(database, folder, manifest["shards"])
        yield database, "interactions", dict


def _expose(database: DuckDB, folder: Path, shards: Sequence[Mapping[str, Any]]) -> None:
    """Make the view ``interactions`` over the shards of an artifact, once their bytes are what was written.

    The checksums take a hundredth of the time of the work, and what they read is in memory for it.
    """

    def checked(shard: Mapping[str, Any]) -> str:
        check_file(folder / shard["path"], shard["sha256"])
        return str(folder / shard["path"])

    files = list(ordered_map(checked, shards))
    try:
        database.connection.read_parquet(files).create_view("interactions")
    except duckdb.Error as error:
        raise InputError(
            "interactions", str(folder), "cannot be read as Parquet", "run the step that wrote it again"
        ) from error
