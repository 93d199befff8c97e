"""Vocabularies: the ids behind the rows and columns of a matrix.

As an artifact (schema ``wals.vocabulary`` v1) the two are a folder with ``users.parquet`` and
``items.parquet``, one column ``id`` each, int64 or string, strictly ascending (strings by their UTF-8
bytes). The position of an id is its index in the matrix.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trainer.errors import InputError, translated
from trainer.files import (
    Count,
    Digest,
    Manifest,
    Schema,
    begin_artifact,
    finish_artifact,
    having,
    local_file,
    read_manifest,
    replacing,
    sha256,
)
from trainer.matrix import InteractionMatrix
from trainer.scratch import scratch_folder

SCHEMA = Schema("wals.vocabulary", 1)
USERS_FILE = "users.parquet"
ITEMS_FILE = "items.parquet"


@dataclass(frozen=True)
class Vocabulary:
    """Ids in ascending order; the index of an id is its position.

    Attributes:
        ids: int64 or string, without nulls, strictly ascending.
    """

    ids: "pa.Array[Any]"

    def __post_init__(self) -> None:
        """Check the ids.

        Raises:
            InputError: ids of another type, missing ids, or ids that are not strictly ascending.
        """
        if not (pa.types.is_int64(self.ids.type) or pa.types.is_string(self.ids.type)):
            raise InputError("ids", str(self.ids.type), "is neither int64 nor string", "convert the ids")
        if self.ids.null_count:
            raise InputError("ids", None, "is not an id", "remove the rows without one")
        rising = pc.less(self.ids[:-1], self.ids[1:])
        if len(self.ids) > 1 and not pc.all(rising).as_py():
            at = pc.index(rising, False).as_py()
            raise InputError(
                "ids", self.ids[at + 1].as_py(), "is not above the id before it", "sort the unique ids"
            )

    @classmethod
    def of(cls, ids: Any) -> Self:
        """Return the vocabulary of ids in any order with any number of repeats.

        Args:
            ids: integers or strings, as a sequence or a NumPy, pandas or Arrow array.
        """
        array = _arrow(ids)
        target = pa.int64() if pa.types.is_integer(array.type) else pa.string()
        unique = pc.unique(array.cast(target))
        return cls(unique.take(pc.array_sort_indices(unique)))

    @classmethod
    def of_range(cls, size: int) -> Self:
        """Return the vocabulary in which each id is its own index."""
        # pa.array() would import pandas, where it is installed.
        ids: Any = np.arange(size, dtype=np.int64)
        return cls(pa.Array.from_buffers(pa.int64(), size, [None, pa.py_buffer(ids)]))

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a vocabulary from a Parquet file with a column ``id``.

        Raises:
            InputError: the file is missing or damaged, has no such column, or its ids cannot be used.
        """

        def damaged(_: Exception) -> InputError:
            problem = "is not a Parquet file with a column id"
            return InputError("vocabulary", str(path), problem, "run the step that wrote it again")

        # `pq.read_table` would import all of Arrow's data sets first.
        with (
            translated(((OSError, KeyError, pa.ArrowException), damaged)),
            pq.ParquetFile(path) as file,
        ):
            column = file.read(["id"]).column("id")
        return cls(column.combine_chunks())

    def save(self, path: Path) -> str:
        """Write the vocabulary to a Parquet file, replacing it in one step, and return the file's SHA-256."""
        with replacing(path) as temporary:
            pq.write_table(pa.table({"id": self.ids}), temporary, compression="zstd")
            return sha256(temporary)

    def index_of(self, ids: Any) -> NDArray[np.int64]:
        """Return the index of each id, -1 where it is unknown.

        Args:
            ids: a sequence, or a NumPy, pandas or Arrow array, of ids of the vocabulary's type.

        Returns:
            (len(ids),) int64.

        Raises:
            InputError: the ids are not of the vocabulary's type.
        """

        def mistyped(_: Exception) -> InputError:
            return InputError("ids", ids, f"are not of type {self.ids.type}", "give ids of that type")

        with translated(((pa.ArrowException, OverflowError), mistyped)):
            indices = pc.index_in(_arrow(ids).cast(self.ids.type), value_set=self.ids)
        return np.asarray(indices.fill_null(-1), np.int64)

    def index_of_texts(self, texts: "pa.Array[Any] | pa.ChunkedArray[Any]") -> NDArray[np.int64]:
        """Return the index of each id that is given as text, -1 where it is unknown.

        An integer is only found in its usual form, so that "07" and "7" are not the same id.

        Args:
            texts: (n,) strings without nulls.

        Returns:
            (n,) int64.
        """
        indices = pc.index_in(texts, value_set=self.ids.cast(pa.string()))
        return np.asarray(indices.fill_null(-1), np.int64)

    def places_in(self, texts: "pa.Array[Any] | pa.ChunkedArray[Any]") -> "pa.Array[Any]":
        """Return the place of each of the vocabulary's ids among ids that are given as text.

        Args:
            texts: strings, each at most once.

        Returns:
            (len(self),) int32, null for an id that is not among them, as ``take`` expects.
        """
        places: pa.Array[Any] = pc.index_in(self.ids.cast(pa.string()), value_set=texts)
        return places

    def take(self, indices: NDArray[Any]) -> list[Any]:
        """Return the ids at ``indices`` as Python integers or strings."""
        taken: list[Any] = self.ids.take(pa.array(indices)).to_pylist()
        return taken

    def parse(self, text: str) -> int | str:
        """Return the id that a user wrote as ``text``, converted to the vocabulary's type.

        Raises:
            InputError: the ids are integers and ``text`` is not one of 64 bits.
        """
        if pa.types.is_string(self.ids.type):
            return text
        try:
            number = int(text)
        except ValueError as error:
            raise InputError("id", text, "is not an integer like the other ids", "give an integer") from error
        if not -(2**63) <= number < 2**63:
            raise InputError("id", text, "does not fit 64 bits like the other ids", "give one of the ids")
        return number


def _arrow(ids: Any) -> Any:
    return ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array(ids)


def save_vocabularies(
    folder: Path, users: Vocabulary, items: Vocabulary, *, training: str | None = None
) -> dict[str, Any]:
    """Write both vocabularies as an artifact and return its manifest.

    Args:
        folder: folder to write.
        users: ids of the rows.
        items: ids of the columns.
        training: checksum of the training matrix that they belong to, if there is one.

    Raises:
        InputError: the folder cannot be written.
    """
    begin_artifact(folder)
    content: dict[str, Any] = {
        "users": len(users),
        "items": len(items),
        "training": training,
        "sha256": {},
    }
    for name, vocabulary in ((USERS_FILE, users), (ITEMS_FILE, items)):
        content["sha256"][name] = vocabulary.save(folder / name)
    finish_artifact(folder, SCHEMA, content)
    return content


class _VocabularyManifest(Manifest):
    users: Count
    items: Count
    training: Digest | None = None
    sha256: Annotated[dict[str, Digest], having(USERS_FILE, ITEMS_FILE)]


def load_vocabularies(folder: Path, matrix: InteractionMatrix | None = None) -> tuple[Vocabulary, Vocabulary]:
    """Read the users and the items of a vocabulary artifact.

    Args:
        folder: folder of the artifact.
        matrix: training matrix that it has to belong to.

    Raises:
        InputError: it is not a complete ``wals.vocabulary`` artifact, it belongs to another matrix, or one
            of its files cannot be used.
    """
    manifest = read_manifest(folder, SCHEMA, _VocabularyManifest)
    if matrix:
        matrix.check_same_run("vocabulary", folder, manifest.training)
    return read_sides(folder, manifest.sha256)


def read_sides(folder: Path, digests: Mapping[str, str]) -> tuple[Vocabulary, Vocabulary]:
    """Read the users and the items from the files of an artifact.

    Args:
        folder: folder of the artifact.
        digests: SHA-256 of each file, from the manifest.

    Raises:
        InputError: a file is missing, truncated or changed, or its ids cannot be used.
    """
    with scratch_folder() as scratch:
        users, items = (
            Vocabulary.load(local_file(folder / name, digests[name], scratch))
            for name in (USERS_FILE, ITEMS_FILE)
        )
    return users, items
