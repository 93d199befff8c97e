"""Answers of Google's REST interfaces: whole within a time, small enough, and of the type documented."""

from typing import Any, TypeVar

import pydantic
import requests
import urllib3
from requests.adapters import HTTPAdapter

from pipeline.platforms.answers import field_problem, whole
from pipeline.platforms.network import TIMEOUT
from trainer.errors import WalsError

Answered = TypeVar("Answered", bound=pydantic.BaseModel)
Session = TypeVar("Session", bound=requests.Session)


class Answer(pydantic.BaseModel):
    """Base of the models of answers: other fields are ignored."""

    model_config = pydantic.ConfigDict(frozen=True)


def bounded(session: Session, server: str) -> Session:
    """Return a session after bounding its answers; see `pipeline.platforms.answers.whole`.

    Args:
        session: session of a client, or our own.
        server: name or address of the server that it asks.
    """
    for scheme in ("https://", "http://"):
        session.mount(scheme, _Bounded(server))
    return session


class _Bounded(HTTPAdapter):
    """Reads the whole answer before it returns, and limits connecting to a shorter time than the answer.

    Google's clients take one number for both limits, and it holds between two bytes.
    """

    def __init__(self, server: str) -> None:
        super().__init__()
        self._server = server

    def send(self, request: Any, *arguments: Any, **options: Any) -> requests.Response:
        """See ``requests.adapters.HTTPAdapter``.

        Raises:
            WalsError: the answer is too large, or takes too long.
            requests.RequestException: the server cannot be reached, or its answer breaks off.
        """
        sent: list[requests.Response] = []

        def ask() -> urllib3.BaseHTTPResponse:
            bounds = {"stream": True, "timeout": TIMEOUT}
            sent.append(super(_Bounded, self).send(request, *arguments, **{**options, **bounds}))
            raw: urllib3.BaseHTTPResponse = sent[0].raw
            return raw

        try:
            body = whole(ask, self._server)
        except urllib3.exceptions.HTTPError as error:
            raise requests.ConnectionError(error, request=request) from error
        sent[0].raw = body
        return sent[0]


def typed(body: bytes, model: type[Answered], server: str) -> Answered:
    """Return a body as a model.

    Raises:
        WalsError: it is not JSON of that kind; the line names the field.
    """
    try:
        return model.model_validate_json(body)
    except pydantic.ValidationError as error:
        problem = field_problem(error)
        raise WalsError(f"{server}: sends an answer that is not as it is documented ({problem})") from error
