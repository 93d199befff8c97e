"""The version of this code."""

import os
from importlib import metadata

_PACKAGE = "wals-pipeline"


def own_version() -> str:
    """Return the version and the revision that the image was built from, or the installed version."""
    if "WALS_VERSION" in os.environ:
        return f"wals {os.environ['WALS_VERSION']}, revision {os.environ.get('WALS_REVISION', '')[:12]}"
    return f"wals {installed_version(_PACKAGE) or 'from a folder of sources'}"


def installed_version(package: str) -> str:
    """Return the version of an installed package; "" if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
