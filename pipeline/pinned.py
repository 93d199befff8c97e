"""The images that were pushed, by digest."""

import json
from collections.abc import Callable
from pathlib import Path

from trainer.errors import InputError

SCHEMA = "wals.images"
SCHEMA_VERSION = 1


def pinned_images(path: Path) -> Callable[[str], str]:
    """Return what gives a step's image by its digest, from the file that ``containers/push.sh`` writes.

    A tag may be moved to another image; a digest always names the same bytes.

    Raises:
        InputError: the file cannot be read or is not of the schema ``wals.images``; later, that it lacks a
            step.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError("images", str(path), f"cannot be read ({error.strerror})", _REMEDY) from error
    except ValueError as error:
        raise InputError("images", str(path), "is not valid JSON", _REMEDY) from error
    if not isinstance(content, dict) or (content.get("schema"), content.get("schema_version")) != (
        SCHEMA,
        SCHEMA_VERSION,
    ):
        raise InputError("images", str(path), f"is not of schema {SCHEMA} {SCHEMA_VERSION}", _REMEDY)
    images = content["images"]

    def image(step: str) -> str:
        if step not in images:
            raise InputError("images", str(path), f"has no image of {step}", _REMEDY)
        return str(images[step])

    return image


_REMEDY = "push the images again: make push REGISTRY=..."
