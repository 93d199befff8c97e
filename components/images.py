"""The names of the steps' container images."""

import re
from importlib.metadata import version

from trainer.errors import InputError

DEFAULT_PREFIX = "wals"
DEFAULT_TAG = version("wals-pipeline")
# What the OCI allows: a host with an optional port, and path components of lower case.
_HOST = r"[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*(:\d+)?"
_COMPONENT = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_PREFIX = re.compile(f"({_HOST}/)?{_COMPONENT}(/{_COMPONENT})*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
# The components of a folder share its image.
_SHARED = {"suggest": "tune", "trial": "tune", "choose": "tune"}


def image_name(step: str) -> str:
    """Return the name of the image that a step runs in: its own, or that of the folder it shares."""
    return _SHARED.get(step, step)


def check_image(prefix: str, tag: str) -> None:
    """Refuse a prefix or a tag that no image can have.

    Raises:
        InputError: naming it.
    """
    if not _PREFIX.fullmatch(prefix):
        raise InputError(
            "image prefix",
            prefix,
            "is no registry and repository",
            "give one in lower case, such as europe-docker.pkg.dev/PROJECT/wals",
        )
    if not _TAG.fullmatch(tag):
        raise InputError("tag", tag, "is no tag", "use letters, digits, _, . and -, 128 at most")


def image(step: str, prefix: str = DEFAULT_PREFIX, tag: str = DEFAULT_TAG) -> str:
    """Return the image of a step, such as ``europe-docker.pkg.dev/project/wals/train:0.1.0``.

    Args:
        step: the folder's name under ``components/`` and ``containers/``.
        prefix: registry and repository; the bare default names images built on this machine.
        tag: the release's version unless another was built.
    """
    return f"{prefix}/{step}:{tag}"
