"""Reading a file of interactions, CSV or Parquet, into a sparse matrix and the ids of its sides."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import sparse

from trainer.errors import InputError, counted, translated
from trainer.inputs import open_input
from trainer.job.flags import FIELD
from trainer.vocabulary import Vocabulary

_CSV_REMEDY = "check --delimiter, and give --headers if the first line names the columns"
_USUAL_NAMES = (
    {"userid", "clientid", "subscriberid"},
    {"itemid", "contentid", "groupid", "movieid"},
    {"rating", "timeonpage"},
)
_ID_IN_CSV = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True)
class Interactions:
    """Contents of a file.

    Attributes:
        users: ids of the rows, ascending.
        items: ids of the columns, ascending.
        matrix: (users, items) float32, canonical CSR; repeated pairs are summed.
    """

    users: Vocabulary
    items: Vocabulary
    matrix: sparse.csr_array[np.float32]


def read_interactions(path: Path, *, delimiter: str, headers: bool) -> Interactions:
    r"""Read a file of users, items and values.

    A file that ends in ``.parquet`` is Parquet, any other CSV. If exactly one column each has a usual name
    for the user (``userId``, ``clientId``, ``subscriberId``), the item (``itemId``, ``movieId``,
    ``contentId``, ``groupId``) and the value (``rating``, ``timeOnPage``), regardless of case and
    underscores, these are read; otherwise the first three columns are. Ids are integers (int64) if all of
    them are written as integers without leading zeros, and text otherwise.

    Args:
        path: path of the file; pyarrow decompresses CSV by its ending (``.gz``, ``.bz2``, ``.zst``).
        delimiter: delimiter of CSV; one character, or ``\t`` spelled out.
        headers: whether the first line of CSV names the columns.

    Raises:
        InputError: the file cannot be read, has fewer than three columns or no rows, or a row has no id or
            no finite number as its value; the message names the row.
    """
    read = _read_parquet if path.suffix == ".parquet" else _csv_reader(delimiter, headers)

    def unreadable(error: OSError) -> InputError:
        return InputError(FIELD, str(path), error.strerror or str(error), "give a readable file")

    open_input(FIELD, path, "give a readable file").close()

    def malformed(error: pa.ArrowException) -> InputError:
        problem = str(error).partition("\n")[0]
        return InputError(FIELD, str(path), f"cannot be read: {problem}", _CSV_REMEDY)

    with translated((OSError, unreadable), (pa.ArrowException, malformed)):
        table = read(path)
    if table.num_rows == 0:
        raise InputError(FIELD, str(path), "has no rows", "give a file with interactions")
    users, rows = _encode(table, 0, path)
    items, columns = _encode(table, 1, path)
    values = _values(table, path)
    shape = (len(users), len(items))
    return Interactions(users, items, sparse.coo_array((values, (rows, columns)), shape).tocsr())


def _csv_reader(delimiter: str, headers: bool) -> Any:
    character = "\t" if delimiter == r"\t" else delimiter
    if len(character) != 1:
        raise InputError("--delimiter", delimiter, "is not one character", "give one, such as ,")
    parsing = pacsv.ParseOptions(delimiter=character)
    reading = pacsv.ReadOptions(autogenerate_column_names=not headers)

    def read(path: Path) -> Any:
        with pacsv.open_csv(path, reading, parsing) as file:
            names = _chosen(file.schema.names, path)
        types = dict(zip(names, (_ID_IN_CSV, _ID_IN_CSV, pa.float64()), strict=True))
        conversion = pacsv.ConvertOptions(include_columns=names, column_types=types)
        return pacsv.read_csv(path, reading, parsing, conversion)

    return read


def _read_parquet(path: Path) -> Any:
    names = _chosen(pq.read_schema(path).names, path)
    return pq.read_table(path, columns=names).select(names)


def _chosen(names: Sequence[str], path: Path) -> list[str]:
    """Return the columns of the user, the item and the value."""
    if len(names) < 3:
        raise InputError(
            FIELD, str(path), f"has {counted(len(names), 'column')}, not user, item and value", _CSV_REMEDY
        )
    matches = [[name for name in names if name.lower().replace("_", "") in usual] for usual in _USUAL_NAMES]
    if all(len(match) == 1 for match in matches):
        return [name for (name,) in matches]
    return list(names[:3])


def _encode(table: Any, column: int, path: Path) -> tuple[Vocabulary, NDArray[np.int64]]:
    """Return the ids of a column, and the index of each row's id."""
    chunks = table.column(column)
    if not pa.types.is_dictionary(chunks.type):
        chunks = chunks.dictionary_encode()
    encoded = chunks.combine_chunks() if chunks.num_chunks != 1 else chunks.chunk(0)
    _refuse(table, column, path, pc.is_null(encoded), "has no id")
    ids = _typed(encoded.dictionary, table.column_names[column], path)
    if pa.types.is_string(ids.type):
        _refuse(table, column, path, pc.equal(encoded.cast(pa.string()), pa.scalar("")), "has no id")
    vocabulary = Vocabulary.of(ids)
    return vocabulary, vocabulary.index_of(ids)[np.asarray(encoded.indices)]


def _typed(ids: Any, name: str, path: Path) -> Any:
    """Return unique ids as int64 if all are integers, else as strings."""
    if pa.types.is_integer(ids.type):
        return ids.cast(pa.int64())
    if not (pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type)):
        raise InputError(
            FIELD, str(path), f"has {ids.type} in column {name}", "give ids that are integers or text"
        )
    texts = ids.cast(pa.string())
    try:
        integers = texts.cast(pa.int64())
    except pa.ArrowInvalid:
        return texts
    return integers if integers.cast(pa.string()).equals(texts) else texts


def _values(table: Any, path: Path) -> NDArray[np.float32]:
    column = table.column(2)

    def mistyped(_: Exception) -> InputError:
        problem = f"has {column.type} in column {table.column_names[2]}"
        return InputError(FIELD, str(path), problem, "give numbers there")

    with translated(((pa.ArrowInvalid, pa.ArrowNotImplementedError), mistyped)):
        values = column.cast(pa.float64())
    with np.errstate(over="ignore"):
        numbers = np.asarray(values.fill_null(np.nan)).astype(np.float32)
    _refuse(table, 2, path, pa.array(~np.isfinite(numbers)), "has no finite float32 value")
    return numbers


def _refuse(table: Any, column: int, path: Path, wrong: Any, problem: str) -> None:
    row = pc.index(wrong, True).as_py()
    if row >= 0:
        raise InputError(
            FIELD,
            str(path),
            f"{problem} in row {row + 1}, column {table.column_names[column]}",
            "fix or remove the row",
        )
