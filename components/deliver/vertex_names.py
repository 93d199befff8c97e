"""Names of models and endpoints in Vertex AI, checked before any request is made."""

import re
from typing import NamedTuple

from trainer.errors import InputError

_PARENT = r"(?P<parent>projects/[a-z0-9.:-]+/locations/(?P<region>[a-z]+-[a-z]+\d+))"
_MODEL = re.compile(rf"{_PARENT}/models/(?P<id>[a-z0-9_][a-z0-9_-]{{0,62}})")
_ENDPOINT = re.compile(rf"{_PARENT}/endpoints/(?P<id>[a-z0-9][a-z0-9-]{{0,62}})")


class Resource(NamedTuple):
    """A model or an endpoint in Vertex AI.

    Attributes:
        name: ``projects/PROJECT/locations/REGION/KIND/ID``.
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


def check_endpoint(name: str) -> None:
    """Refuse a text that is neither the resource name of an endpoint nor ""."""
    if name:
        endpoint_of(name)


def model_of(name: str) -> Resource:
    """Return the model with a resource name.

    Raises:
        InputError: the text is not such a name.
    """
    remedy = "give projects/PROJECT/locations/REGION/models/ID, with an ID of a-z, 0-9, _ and -"
    return _resource("vertex_model", name, _MODEL, "a model", remedy)


def endpoint_of(name: str) -> Resource:
    """Return the endpoint with a resource name.

    Raises:
        InputError: the text is not such a name.
    """
    remedy = "give projects/PROJECT/locations/REGION/endpoints/ID"
    return _resource("vertex_endpoint", name, _ENDPOINT, "an endpoint", remedy)


def _resource(field: str, name: str, pattern: re.Pattern[str], kind: str, remedy: str) -> Resource:
    match = pattern.fullmatch(name)
    if not match:
        raise InputError(field, name, f"is not the name of {kind} in Vertex AI", remedy)
    return Resource(name, **match.groupdict())
