"""The images that the steps run in: by prefix and tag, or by digest once they are pushed."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from components.images import DEFAULT_PREFIX, DEFAULT_TAG, check_image, image, image_name
from pipeline.definition.targets import Target
from trainer.errors import InputError, translated
from trainer.files import Schema
from trainer.inputs import open_input

SCHEMA = Schema("wals.images", 1)

_MAX_BYTES = 1 << 20
_REFERENCE = re.compile(r"\S+@sha256:[0-9a-f]{64}")
_REMEDY = "push the images again: make push REGISTRY=..."


def step_images(
    target: Target, pinned: Path | None = None, prefix: str | None = None, tag: str | None = None
) -> Callable[[str], str]:
    """Return a function that returns the image of a step.

    Args:
        target: platform that the images run on, with its settings by step.
        pinned: file that names the images by digest; None to name them by prefix and tag.
        prefix: registry and repository; that of images built on this machine if None.
        tag: the release's version if None.

    Raises:
        InputError: a value cannot be used, or a file is combined with a prefix or a tag.
    """
    if not pinned:
        names = {
            "prefix": DEFAULT_PREFIX if prefix is None else prefix,
            "tag": DEFAULT_TAG if tag is None else tag,
        }
        check_image(**names)
        return partial(image, **names)
    if prefix is not None or tag is not None:
        raise InputError(
            "images",
            str(pinned),
            "names the images by digest and cannot be combined with a prefix or a tag",
            "omit one of them",
        )
    return pinned_images(pinned, target)


def pinned_images(path: Path, target: Target) -> Callable[[str], str]:
    """Return a function that returns a step's image by digest, from a file written by ``containers/push.sh``.

    A tag can be moved to another image; a digest always names the same bytes.

    Args:
        path: path of the file.
        target: platform that the images run on, with its settings by step.

    Raises:
        InputError: the file cannot be read or is not of the schema ``wals.images``. The returned function
            raises it if the file lacks a step, or has an image without CUDA for a step with a GPU.
    """
    images, with_gpu = _read(path)
    on_gpu = {image_name(step) for step, settings in target.steps.items() if settings.accelerators}

    def pinned_image(step: str) -> str:
        if step not in images:
            raise InputError("images", str(path), f"has no image for {step}", _REMEDY)
        if step in on_gpu and step not in with_gpu:
            raise InputError(
                "images",
                str(path),
                f"has an image for {step} without CUDA, but the step has a GPU on {target.name}",
                f"run make images ACCELERATOR=gpu GPU_IMAGES='{' '.join(sorted(on_gpu))}' and push them, "
                "or set accelerator: '' and accelerators: 0",
            )
        return images[step]

    return pinned_image


def _read(path: Path) -> tuple[dict[str, str], set[str]]:
    """Return the images by step, and the steps whose images have CUDA."""
    invalid = InputError("images", str(path), "is not valid JSON", _REMEDY)
    with (
        open_input("images", path, _REMEDY) as file,
        translated(((ValueError, RecursionError), lambda _: invalid)),
    ):
        content = json.loads(file.read(_MAX_BYTES))
    if not isinstance(content, dict) or (content.get("schema"), content.get("schema_version")) != SCHEMA:
        raise InputError("images", str(path), f"is not of schema {SCHEMA.name} {SCHEMA.version}", _REMEDY)
    images, accelerators = content.get("images"), content.get("accelerators")
    if not isinstance(images, dict) or not isinstance(accelerators, dict):
        raise InputError("images", str(path), "does not map steps to images and accelerators", _REMEDY)
    for step, reference in images.items():
        if not isinstance(reference, str) or not _REFERENCE.fullmatch(reference):
            raise InputError(f"images.{step}", reference, "does not name an image by digest", _REMEDY)
    return images, {step for step, accelerator in accelerators.items() if accelerator == "gpu"}
