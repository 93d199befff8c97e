"""The software in the step's image."""

import platform
from collections.abc import Iterator

from components.probe.findings import Finding, ok
from components.software import installed_version, own_version

_SHOWN = ("kfp", "numpy", "pyarrow", "numba", "duckdb", "google-cloud-bigquery", "tensorflow", "cupy-cuda12x")


def versions() -> Iterator[Finding]:
    """Find the versions of this code, of Python and of the packages that matter."""
    yield ok("version", own_version())
    yield ok("python", f"{platform.python_version()}, {platform.machine()}, {' '.join(platform.libc_ver())}")
    present = ((name, installed_version(name)) for name in _SHOWN)
    yield ok("packages", ", ".join(f"{name} {version}" for name, version in present if version))
