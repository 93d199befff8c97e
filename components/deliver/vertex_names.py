"""Names of models in Vertex AI's Model Registry, checked before any request is made."""

import re
from typing import NamedTuple

from trainer.errors import InputError

_MODEL = re.compile(
    r"(?P<parent>projects/(?P<project>[a-z0-9.:-]+)/locations/(?P<region>[a-z]+-[a-z]+\d+))"
    r"/models/(?P<id>[a-z0-9_][a-z0-9_-]{0,62})"
)


class VertexModel(NamedTuple):
    """A model in Vertex AI's Model Registry.

    Attributes:
        name: ``projects/PROJECT/locations/REGION/models/ID``.
        parent: ``projects/PROJECT/locations/REGION``.
        region: region of Vertex AI.
        id: the last part of the name.
    """

    name: str
    parent: str
    region: str
    id: str


def check_model(name: str) -> None:
    """Refuse a text that is neither the resource name of a model nor ""."""
    if name:
        model_of(name)


def model_of(name: str) -> VertexModel:
    """Return the model with a resource name.

    Raises:
        InputError: the text is not such a name.
    """
    match = _MODEL.fullmatch(name)
    if not match:
        raise InputError(
            "vertex_model",
            name,
            "is not the name of a model in Vertex AI",
            "give projects/PROJECT/locations/REGION/models/ID, with an ID of a-z, 0-9, _ and -",
        )
    return VertexModel(name, match["parent"], match["region"], match["id"])
