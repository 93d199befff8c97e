"""The software in the step's image."""

import os
import platform
from collections.abc import Iterator
from importlib import metadata

from components.probe.findings import Finding, ok

_SHOWN = ("kfp", "numpy", "pyarrow", "numba", "duckdb", "google-cloud-bigquery", "tensorflow")


def versions() -> Iterator[Finding]:
    """Find the versions of this code, of Python and of the packages that matter."""
    yield ok("version", _own())
    yield ok("python", f"{platform.python_version()}, {platform.machine()}, {' '.join(platform.libc_ver())}")
    present = ((name, _installed(name)) for name in _SHOWN)
    yield ok("packages", ", ".join(f"{name} {version}" for name, version in present if version))


def _own() -> str:
    """Return the version and the revision that the image was built from, or the installed version."""
    if "WALS_VERSION" in os.environ:
        return f"wals {os.environ['WALS_VERSION']}, revision {os.environ.get('WALS_REVISION', '')[:12]}"
    return f"wals {_installed('wals-pipeline') or 'from a folder of sources'}"


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
