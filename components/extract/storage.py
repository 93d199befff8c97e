"""The files of a source: on this machine, on Cloud Storage, or in an S3-compatible store."""

import contextlib
import glob
import gzip
import os
import stat
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from components.engines.duckdb import DuckDB
from components.extract.names import SCHEMES
from components.s3 import endpoint
from components.threads import ordered_map
from trainer.errors import InputError, WalsError, translated

_PARQUET = (".parquet", ".pq")
_GZIP = ".gz"
_BYTES_AT_ONCE = 1 << 20
_TEXT = (".csv", ".tsv", ".txt", ".dat", ".csv.gz", ".tsv.gz", ".txt.gz", ".dat.gz")


def find_files(database: DuckDB, source: str) -> list[str]:
    """Return the files of a source, sorted, by the names that the database reads them by.

    Args:
        database: gets access to the store of the files.
        source: a file, a folder (its CSV and Parquet files) or a glob pattern; local, on Cloud Storage
            (``gs://``), or in an S3-compatible store (``s3://``, or ``minio://`` as in Kubeflow).

    Raises:
        InputError: there are no such files, or all of them are empty.
        WalsError: the store failed or denied access.
    """
    scheme, separator, path = source.partition("://")
    if not separator:
        files = _files(source)
        _refuse_empty(source, [Path(file).stat().st_size for file in files])
        return files
    connect, listing = STORES[scheme]
    with _store_errors(source):
        store = connect()
        files = _stored(store, path, listing)
        _refuse_empty(source, [store.size(file) for file in files])
        database.connection.register_filesystem(store)
    protocol = store.protocol if isinstance(store.protocol, str) else store.protocol[0]
    return sorted(f"{protocol}://{file}" for file in files)


def is_parquet(source: str, files: list[str]) -> bool:
    """Return whether files are Parquet rather than text.

    Raises:
        InputError: there are both.
    """
    parquet = [file.lower().endswith(_PARQUET) for file in files]
    if any(parquet) and not all(parquet):
        raise InputError("source", source, "has Parquet and text files", "give files of one format")
    return all(parquet)


def check_gzip(source: str, files: list[str]) -> None:
    """Check the checksums of compressed files, which DuckDB does not.

    Args:
        source: source of the files, for the error.
        files: files as returned by `find_files`.

    Raises:
        InputError: a file is damaged.
        WalsError: the store failed or denied access.
    """
    for _ in ordered_map(lambda file: _check_gzip(source, file), filter(_is_gzip, files)):
        pass


def _is_gzip(file: str) -> bool:
    return file.lower().endswith(_GZIP)


def _check_gzip(source: str, file: str) -> None:
    def damaged(error: Exception) -> InputError:
        return InputError("source", file, f"is damaged ({error})", "compress or copy it again")

    with (
        _store_errors(source),
        translated(((gzip.BadGzipFile, EOFError, zlib.error), damaged)),
        _opened(file) as compressed,
        gzip.open(compressed) as content,
    ):
        while content.read(_BYTES_AT_ONCE):
            pass


def _opened(file: str) -> Any:
    """Open one of the files that `find_files` returns."""
    scheme, separator, path = file.partition("://")
    if not separator:
        return Path(file).open("rb")
    connect, _ = STORES[scheme]
    return connect().open(path)


def _files(source: str) -> list[str]:
    def unreadable(error: OSError) -> InputError:
        name = error.filename or source
        return InputError("source", str(name), f"cannot be read ({error.strerror})", "check the path")

    with translated((OSError, unreadable)):
        # A pattern with ** finds a file again through each link to a folder above it.
        return sorted({os.path.realpath(file): file for file in _named(source) if _is_file(file)}.values())


def _named(source: str) -> list[str]:
    """Return what a source names, longer paths first."""
    path = Path(source)
    if path.is_dir():
        found = [str(file) for file in path.rglob("*") if _is_known(file.name)]
    elif path.is_file():
        found = [source]
    else:
        found = glob.glob(source, recursive=True)  # noqa: PTH207 - patterns may be absolute
    return sorted(found, key=len, reverse=True)


def _is_file(name: str) -> bool:
    """Return whether a name is a file's rather than a folder's.

    Raises:
        InputError: it is neither, such as a named pipe, which would wait for a writer.
        OSError: it cannot be read, such as a link to nothing.
    """
    mode = Path(name).stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError("source", name, "is not a regular file", "give CSV or Parquet files")
    return stat.S_ISREG(mode)


def _stored(store: Any, path: str, listing: Mapping[str, Any]) -> list[str]:
    try:
        if "*" in path:
            return list(store.glob(path, **listing))
        if store.isdir(path):
            return [file for file in store.find(path, **listing) if _is_known(file)]
        return [path] if store.exists(path) else []
    except FileNotFoundError:
        return []


def _cloud_storage() -> Any:
    import fsspec  # slow to import, and local files do not need it

    return fsspec.filesystem("gs")


def _s3() -> Any:
    """Return the store that the standard AWS variables of the environment describe."""
    # Slow to import, and local files do not need them.
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import S3FileSystem

    address = endpoint()
    if not address:
        return ArrowFSWrapper(S3FileSystem())
    parts = urlsplit(address)
    if "AWS_ACCESS_KEY_ID" in os.environ:
        # Without a region, each operation would ask AWS' metadata address for it and, off AWS, wait for
        # seconds. Neither the region nor the keys of another store are there.
        os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    options: dict[str, Any] = {"scheme": parts.scheme, "endpoint_override": parts.netloc}
    return ArrowFSWrapper(S3FileSystem(**options))


# By default Arrow's wrapper lists nothing if access is denied.
_RAISE = {"on_error": "raise"}
# By the scheme of an address: the function that connects to the store, and its options for listing.
STORES: Mapping[str, tuple[Callable[[], Any], Mapping[str, Any]]] = dict(
    zip(SCHEMES, ((_cloud_storage, {}), (_s3, _RAISE), (_s3, _RAISE)), strict=True)
)


def _is_known(file: str) -> bool:
    return file.lower().endswith((*_PARQUET, *_TEXT))


def _store_errors(source: str) -> contextlib.AbstractContextManager[None]:
    """Return a context that turns a store's errors into one line about the source."""
    # Stores raise exceptions of their own, of their network library and of the system.
    return translated((Exception, lambda error: WalsError(f"the store failed on {source}: {error}")))


def _refuse_empty(source: str, sizes: list[int]) -> None:
    if not sizes:
        raise InputError(
            "source", source, "there is no such file, or no CSV or Parquet file in it", "check the path"
        )
    if not any(sizes):
        raise InputError("source", source, "is empty", "give a file with rows")
