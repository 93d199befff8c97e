"""The names of the steps' container images."""

from importlib.metadata import version

DEFAULT_PREFIX = "wals"
DEFAULT_TAG = version("wals-pipeline")


def image(step: str, prefix: str = DEFAULT_PREFIX, tag: str = DEFAULT_TAG) -> str:
    """Return the image of a step, such as ``europe-docker.pkg.dev/project/wals/train:0.1.0``.

    Args:
        step: the folder's name under ``components/`` and ``containers/``.
        prefix: registry and repository; the bare default names images built on this machine.
        tag: the release's version unless another was built.
    """
    return f"{prefix}/{step}:{tag}"
