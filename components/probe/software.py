"""The software in the step's image."""

import platform
from collections.abc import Iterator
from importlib import metadata

from components.probe.findings import Finding, ok

_SHOWN = (
    "wals-pipeline",
    "kfp",
    "numpy",
    "pyarrow",
    "numba",
    "duckdb",
    "google-cloud-bigquery",
    "tensorflow",
)


def versions() -> Iterator[Finding]:
    """Find the versions of Python and of the packages that matter."""
    yield ok("python", f"{platform.python_version()}, {platform.machine()}, {' '.join(platform.libc_ver())}")
    present = []
    for name in _SHOWN:
        try:
            present.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    yield ok("packages", ", ".join(present))
