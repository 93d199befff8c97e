"""Running a compiled pipeline's steps in containers on this machine, each in its own image."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from kfp import local
from kfp.local import docker_task_handler

from pipeline.local.kfp_workarounds import run_docker_container
from trainer.errors import InputError
from trainer.files import make_writable

# The client that kfp itself uses.
docker = docker_task_handler.docker

_PASSED = ("AWS_", "WALS_WEBHOOK")
_WILDCARDS = frozenset("*?[")


@contextlib.contextmanager
def docker_runner(
    spec: Path, read: Sequence[str], written: Sequence[str] = ()
) -> Iterator[local.DockerRunner]:
    """Yield the runner with which ``kfp.local`` runs steps in containers; it works only inside the block.

    Containers run as this user, who then owns what they write. Of this machine they see only the run's
    folder, what the arguments name, and the variables for access to an S3 store and to a webhook.

    Args:
        spec: the compiled pipeline, whose images must be on this machine. None is pulled, because a name
            without a registry would be pulled from a public one, from whoever owns that name there.
        read: files and folders that the steps only read, as :func:`absolute` returns them; "" is none.
        written: folders that they also write, likewise; created if missing.

    Raises:
        InputError: no container engine answers, or an image is missing.
    """
    _check_engine(_images(spec))
    mounts = [
        docker.types.Mount(target=str(path), source=str(path), type="bind", read_only=True)
        for place in read
        for path in _local_paths(place)
    ]
    for folder in written:
        if folder and "://" not in folder:
            make_writable(Path(folder))
            mounts.append(docker.types.Mount(target=folder, source=folder, type="bind"))
    passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED)}
    kfp_function = docker_task_handler.run_docker_container
    docker_task_handler.run_docker_container = run_docker_container
    try:
        yield local.DockerRunner(user=f"{os.getuid()}:{os.getgid()}", mounts=mounts, environment=passed)
    finally:
        docker_task_handler.run_docker_container = kfp_function


def absolute(place: str) -> str:
    """Return an address unchanged, and a path as an absolute path; "" stays ""."""
    return place if not place or "://" in place else str(Path(place).absolute())


def _local_paths(source: str) -> list[Path]:
    """Return the path of a local source; none if the source is remote or missing."""
    if not source or "://" in source:
        return []
    path = Path(source)
    while _WILDCARDS & set(str(path)):
        path = path.parent
    # Unlike `Path.exists`, it also takes a name that no file can have.
    return [path] if os.path.exists(path) else []  # noqa: PTH110


def _images(spec: Path) -> list[str]:
    executors = yaml.safe_load(spec.read_text("utf-8"))["deploymentSpec"]["executors"]
    return sorted({executor["container"]["image"] for executor in executors.values()})


def image_ids(spec: Path) -> str:
    """Return what identifies the contents of a compiled pipeline's images, all of which are on this machine.

    Raises:
        InputError: no container engine answers, or an image is missing.
    """
    return " ".join(_check_engine(_images(spec)))


def _check_engine(images: Sequence[str]) -> list[str]:
    """Return the ids of images."""
    ids = []
    try:
        with contextlib.closing(docker.from_env()) as client:
            for image in images:
                ids.append(str(client.images.get(image).id))
    except docker.errors.ImageNotFound as error:
        raise InputError(
            "image", image, "is not on this machine", "build the images with `make images`"
        ) from error
    except docker.errors.DockerException as error:
        raise InputError(
            "runner",
            "docker",
            f"cannot reach a container engine ({error})",
            "start Docker, or omit --runner docker",
        ) from error
    return ids
