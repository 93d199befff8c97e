"""Answers of Google's REST interfaces: whole within a time, small enough, and of the type documented."""

from collections.abc import Callable
from typing import TypeVar

import pydantic
import requests
import urllib3

from components.limits import within
from pipeline.platforms.network import LARGEST_ANSWER, REQUEST_SECONDS
from trainer.errors import WalsError

Answered = TypeVar("Answered", bound=pydantic.BaseModel)


class Answer(pydantic.BaseModel):
    """Base of the models of answers: other fields are ignored."""

    model_config = pydantic.ConfigDict(frozen=True)


def whole_answer(call: Callable[[], requests.Response], name: str) -> tuple[requests.Response, bytes]:
    """Return the answer to a call, and its body.

    Args:
        call: sends the request, and leaves the body unread (``stream=True``).
        name: name of the interface.

    Raises:
        WalsError: the answer is too large, or takes too long.
        requests.RequestException: the interface cannot be reached.
    """

    def exchange() -> tuple[requests.Response, bytes]:
        with call() as answer:
            try:
                return answer, answer.raw.read(LARGEST_ANSWER + 1, decode_content=True)
            except urllib3.exceptions.HTTPError as error:
                raise requests.ConnectionError from error

    answer, body = within(REQUEST_SECONDS, exchange, f"{name} did not answer in {REQUEST_SECONDS:g} s")
    if len(body) > LARGEST_ANSWER:
        raise WalsError(f"{name} sends more than {LARGEST_ANSWER:,} bytes")
    return answer, body


def typed(body: bytes, model: type[Answered], name: str) -> Answered:
    """Return a body as a model.

    Raises:
        WalsError: it is not JSON of that kind.
    """
    try:
        return model.model_validate_json(body)
    except pydantic.ValidationError as error:
        raise WalsError(f"{name} sends an answer that is not as it is documented") from error
