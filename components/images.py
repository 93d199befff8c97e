"""Names of the steps' container images."""

import re
from importlib.metadata import version

from trainer.errors import InputError

DEFAULT_PREFIX = "wals"
DEFAULT_TAG = version("wals-pipeline")
# Names that the OCI allows: a host with an optional port, and path components in lower case.
_HOST = r"[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*(:\d+)?"
_COMPONENT = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_PREFIX = re.compile(f"({_HOST}/)?{_COMPONENT}(/{_COMPONENT})*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
# Components that share another one's image.
_SHARED = {
    **dict.fromkeys(("suggest", "trial", "choose"), "tune"),
    "refit": "train",
    "reject": "evaluate",
    **dict.fromkeys(("deliver", "notify"), "publish"),
}

ON_GPU = ("train", "refit", "trial", "evaluate", "publish")
"""The steps that use a GPU if they have one."""


def image_name(step: str) -> str:
    """Return the name of the image that a step runs in: its own, or the one it shares."""
    return _SHARED.get(step, step)


def check_image(prefix: str, tag: str) -> None:
    """Check the prefix and the tag of an image.

    Raises:
        InputError: one of them is not valid.
    """
    if not _PREFIX.fullmatch(prefix):
        raise InputError(
            "image prefix",
            prefix,
            "is not a registry and repository",
            "give one in lower case, such as europe-west1-docker.pkg.dev/my-project/wals",
        )
    if not _TAG.fullmatch(tag):
        raise InputError("tag", tag, "is not a valid tag", "use at most 128 letters, digits, _, . and -")


def image(step: str, prefix: str = DEFAULT_PREFIX, tag: str = DEFAULT_TAG) -> str:
    """Return the image of a step, such as ``europe-west1-docker.pkg.dev/my-project/wals/train:0.1.0``.

    Args:
        step: the folder's name under ``components/`` and ``containers/``.
        prefix: registry and repository; the bare default names images built on this machine.
        tag: the version of this release by default.
    """
    return f"{prefix}/{step}:{tag}"
